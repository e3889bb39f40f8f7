//! Being a service: where the log goes, what the service manager is told, and what this process may still do.

pub mod log;
pub mod notify;
pub mod privileges;
