//! What names stand for: addresses that DNS told, for as long as they count. Pure but for the file that keeps them.

mod journal;
pub mod learned;
pub mod store;

pub use learned::{Change, How, Learned, Limits};
