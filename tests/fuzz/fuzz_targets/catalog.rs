#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    enforcer_checks::catalog::check(text);
});
