//! Policies: the file, and what it means.

pub mod model;

pub use model::{Action, Policy, PortMatch, Rule, RuleId, Rules, Service, ServiceId, Transport};
