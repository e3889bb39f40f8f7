//! What the gateway knows of its own interfaces, addresses and routes, and what follows from it for packets.

pub mod facts;
pub mod image;
pub mod listen;
mod messages;
pub mod neighbours;
mod places;
pub mod traffic;
pub mod watch;

pub use facts::Facts;
pub use image::NetImage;

#[cfg(test)]
mod tests;
