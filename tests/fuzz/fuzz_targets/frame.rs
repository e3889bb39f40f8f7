#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| enforcer_checks::frame::check(frame));
