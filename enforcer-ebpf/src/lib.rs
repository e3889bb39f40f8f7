//! The data plane as plain code: what the kernel programs run on every packet, compiled for any target.
//!
//! A packet's way: [`usual`] or [`parse`] → [`verdict`] (places, fragments, replies) → [`classify`] → [`group`], [`span`], [`hosts`]. Bytes and tables are the traits of [`bytes`]
//! and [`maps::Maps`]; the kernel gives packet memory and maps, user space gives slices, so that `explain` and property tests run
//! the very same code.
//!
//! ```
//! use enforcer_ebpf::usual;
//!
//! // Ethernet, IPv4 and TCP: 10.1.0.2 port 50000 to 17.0.0.1 port 443.
//! let mut frame = [0; 54];
//! frame[12..14].copy_from_slice(&[8, 0]);
//! frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
//! frame[26..34].copy_from_slice(&[10, 1, 0, 2, 17, 0, 0, 1]);
//! frame[34..38].copy_from_slice(&[0xc3, 0x50, 0x01, 0xbb]);
//! frame[46..48].copy_from_slice(&[0x50, 0x02]);
//! let packet = usual::ipv4(&&frame[..]).expect("a whole TCP packet");
//! assert_eq!((packet.source, packet.destination), (0x0a01_0002, 0x1100_0001));
//! assert_eq!((packet.source_port, packet.destination_port), (50_000, 443));
//! ```
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
