//! The controller's HTTP interface, on a Unix socket and in part on TCP, and the client that the CLI is.

pub mod client;
mod connections;
mod hosts;
mod metrics;
mod object;
pub mod pac;
pub mod policies;
mod problem;
pub mod routes;
pub mod server;
mod serving;
mod socket;
pub mod source;
mod streams;
pub mod types;

#[cfg(test)]
mod tests;
