//! An eBPF/XDP egress enforcer for Linux gateways: user space.
//!
//! A policy's way: [`policy`] (with [`catalog`]) → [`compile`] → [`kernel`]; none reaches back. Beside it, [`net`] follows the gateway's own network, and
//! [`dns`] is the LAN's DNS server.
//!
//! ```
//! use enforcer::{
//!     catalog::Catalogs,
//!     compile::{self, Limits},
//!     explain::{Admitted, Question, explain},
//!     policy::{Policy, PortMatch, Transport},
//! };
//!
//! let text = r#"
//! default = "drop"
//!
//! [[rule]]
//! name = "push"
//! action = "allow"
//! services = ["apple/apns"]
//! "#;
//! let policy = Policy::parse("policy.toml", text, &Catalogs::default())?;
//! let image = compile::compile(&policy, &Limits::default(), 1)?;
//! let port = PortMatch::Ports { transport: Transport::Tcp, first: 5223, last: 5223 };
//! let to = "17.249.0.1".parse()?;
//! let question = Question { router: false, admitted: Admitted::Untold, from: None, to, port };
//! let explanation = explain(&policy, &image, &question, &[])?;
//! assert!(explanation.passes);
//! assert_eq!(explanation.rule.as_deref(), Some("push"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
