//! Policies: the file, and what it means.

mod diagnostics;
mod display;
mod file;
pub mod model;
pub mod reader;
pub mod words;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use model::{
    Action, Policy, PortMatch, Rule, RuleId, Rules, Schedule, ScheduleId, Service, ServiceId, Timeouts, Transport,
};
pub use reader::{FileError, read};

#[cfg(test)]
mod tests;
