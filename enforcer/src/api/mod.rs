//! The controller's HTTP interface on a Unix socket, and the client that the CLI is.

pub mod client;
pub mod policies;
pub mod server;
pub mod types;
