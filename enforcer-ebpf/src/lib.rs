//! The data plane as plain code: what the kernel programs run on every packet, compiled for any target.
//!
//! A packet's way: [`usual`] or [`parse`] → [`verdict`] (places, fragments, replies) → [`classify`] → [`group`], [`span`], [`hosts`]. Bytes and tables are the traits of [`bytes`]
//! and [`maps::Maps`]; the kernel gives packet memory and maps, user space gives slices, so that `explain` and property tests run
//! the very same code.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod address;
pub mod bounded;
pub mod bytes;
pub mod classify;
pub mod flow;
pub mod group;
pub mod headers;
pub mod hosts;
pub mod icmp_error;
#[cfg(target_arch = "bpf")]
pub mod kernel;
mod malformed;
pub mod maps;
pub mod parse;
pub mod reject;
pub mod snoop;
pub mod span;
pub mod usual;
pub mod verdict;
