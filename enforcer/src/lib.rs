//! An eBPF/XDP egress enforcer for Linux gateways: user space.
//!
//! A policy's way: [`policy`] (with [`catalog`]) → [`compile`] → [`kernel`]; none reaches back. Beside it, [`net`] follows the gateway's own network, and
//! [`dns`] is the LAN's DNS server.

pub mod advice;
pub mod api;
mod bounded;
pub mod catalog;
pub mod cli;
pub mod clients;
pub mod compile;
pub mod control;
pub mod diff;
pub mod dns;
pub mod events;
pub mod explain;
pub mod export;
pub mod flows;
pub mod import;
pub mod kernel;
pub mod moments;
pub mod names;
pub mod net;
pub mod policy;
pub mod service;
