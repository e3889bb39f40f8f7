//! The data plane as plain code: what the kernel programs run on every packet, compiled for any target.
//!
//! A packet's way: `parse` → `place` (sources, local) → `classify` → `verdict`. Bytes and tables are traits; the kernel gives packet memory
//! and maps, user space gives slices, so that `explain`, property tests and fuzzing run the very same code.
#![no_std]

pub mod abi;
pub mod hosts;
