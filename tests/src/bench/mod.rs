//! The benchmark's parts: what is measured, and how.

pub mod learning;
pub mod measure;
pub mod sets;
pub mod traffic;
