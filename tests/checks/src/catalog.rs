//! Any text as a catalogue: it is one, whose services a policy can name, or has mistakes with a place in it.
use enforcer::catalog::Catalog;

/// Checks one input, and returns whether it is valid.
///
/// # Panics
/// If the input shows a fault.
pub fn check(text: &str) -> bool {
    match Catalog::parse("fuzz", "fuzz.toml", text) {
        Ok(catalog) => {
            for service in &catalog.services {
                assert!(!service.entries.is_empty() && service.entries.iter().all(|entry| !entry.ports.is_empty()));
            }
            true
        }
        Err(mistakes) => {
            assert!(!mistakes.to_string().is_empty());
            false
        }
    }
}
