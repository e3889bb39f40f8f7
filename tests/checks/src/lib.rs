//! Checks of parsers that read hostile input, one module per fuzz target in `tests/fuzz`.

pub mod catalog;
pub mod dns;
pub mod frame;
pub mod policy;
