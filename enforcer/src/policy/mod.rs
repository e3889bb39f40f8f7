//! Policies: the files, and what they mean.

mod diagnostics;
mod display;
mod exempt;
mod file;
pub mod files;
pub mod format;
mod includes;
pub mod keys;
pub mod model;
pub mod nat64;
mod port_match;
mod portal;
mod prefixes;
mod proxies;
pub mod reader;
mod rules;
mod schedules;
pub mod schema;
mod services;
pub mod source;
mod variables;
pub mod words;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use files::{Bundle, Files};
pub use model::{
    Action, Decision, Dns, Log, NameTimes, Policy, PortMatch, Rule, RuleId, Rules, Schedule, ScheduleId, Service,
    ServiceId, Timeouts, Transport,
};
pub use portal::{Gate, Portal};
pub use proxies::{Proxied, Proxy};
pub use source::{FileError, Source};

#[cfg(test)]
mod tests;
