//! Policies: the file, and what it means.

mod diagnostics;
mod display;
mod file;
pub mod model;
pub mod reader;
pub mod words;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use model::{Action, Policy, PortMatch, Rule, RuleId, Rules, Service, ServiceId, Transport};
pub use reader::{FileError, read};

#[cfg(test)]
mod tests;
