//! Policies: the file, and what it means.

mod diagnostics;
mod display;
mod file;
pub mod model;
pub mod words;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use file::{FileError, read};
pub use model::{Action, Policy, PortMatch, Rule, RuleId, Rules, Service, ServiceId, Transport};

#[cfg(test)]
mod tests;
