//! The lab, the oracle, the differential test and the benchmark: everything that needs root.

pub mod bed;
pub mod bench;
pub mod differential;
pub mod lab;
pub mod oracle;
