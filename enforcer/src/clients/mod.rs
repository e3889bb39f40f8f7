//! Clients that the portal has admitted: who they are, until when, and what of it outlives a reboot.

mod admissions;
mod client;
mod store;

pub use admissions::{Admissions, Full, MOST};
pub use client::{Client, NotAClient};
pub use store::Store;
