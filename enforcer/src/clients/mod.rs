//! Clients that the portal has admitted: who they are, until when, and what of it outlives a reboot.

mod admissions;
mod client;
mod clock;
mod store;

pub use admissions::{Admission, Admissions, Full, MOST};
pub use client::{Client, NotAClient};
pub use clock::Clock;
pub use store::{Store, Unread};
