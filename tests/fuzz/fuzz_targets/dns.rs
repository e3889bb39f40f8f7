#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_checks::dns::check(bytes));
