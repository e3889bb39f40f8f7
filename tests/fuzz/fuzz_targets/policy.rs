#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    enforcer_tests::fuzz::policy::check(text);
});
