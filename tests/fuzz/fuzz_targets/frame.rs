#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| enforcer_tests::fuzz::frame::check(frame));
