//! What names stand for: addresses that DNS told, for as long as they count. Pure but for the file that keeps them.

pub mod claims;
mod journal;
pub mod learned;
pub mod store;

pub use claims::{Change, Counts, Entry, How, Limits};
pub use learned::Learned;
