//! An eBPF/XDP egress enforcer for Linux gateways: user space.
//!
//! A policy's way: [`policy`] → `compile` → `load` → `attach`; none reaches back.

pub mod compile;
pub mod policy;
