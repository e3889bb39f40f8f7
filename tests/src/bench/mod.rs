//! The benchmark's parts: what is measured, and how.

pub mod control;
pub mod end_to_end;
pub mod filters;
pub mod kinds;
pub mod learning;
pub mod machine;
pub mod measure;
pub mod packets;
pub mod plot;
pub mod programs;
pub mod sets;
pub mod targets;
pub mod traffic;
