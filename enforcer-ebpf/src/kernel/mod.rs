//! The kernel's side of [`crate::bytes`] and [`crate::maps`]: packet memory and BPF maps.

pub mod frame;
pub mod tables;

pub use frame::Frame;
pub use tables::Tables;
