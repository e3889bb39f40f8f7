//! The lab, the oracle and the benchmark: everything that needs root.

pub mod bench;
pub mod lab;
pub mod oracle;
