//! Any text as a catalogue: it is one, whose services a policy can name, or has mistakes with a place in it.
#![no_main]

use enforcer::catalog::Catalog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Catalog::parse("fuzz", "fuzz.toml", text) {
        Ok(catalog) => {
            for service in &catalog.services {
                assert!(!service.entries.is_empty() && service.entries.iter().all(|entry| !entry.ports.is_empty()));
            }
        }
        Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
    }
});
