//! What is said over the socket, as JSON.

use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The controller's version.
    pub version: String,
    /// The policy's file.
    pub policy: String,
    /// SHA-256 of the file, as it was when it was loaded.
    pub policy_sha256: String,
    /// Seconds since the programs were attached.
    pub uptime_seconds: u64,
    /// Where programs are attached, and how.
    pub hooks: Vec<HookStatus>,
    /// Services in the policy.
    pub services: usize,
    /// Rules in the policy, all parts.
    pub rules: usize,
    /// IPv4 and IPv6 prefixes in tables.
    pub prefixes: usize,
    /// Hosts in tables.
    pub hosts: usize,
    /// Kernel memory of the maps, bytes.
    pub map_bytes: u64,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Interface name.
    pub interface: String,
    /// `lan` or `wan`.
    pub role: String,
    /// The hook, such as `native XDP`.
    pub hook: String,
}

/// `GET /v1/counters`, and each event of `GET /v1/counters/stream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By rule and service, in the policy's order.
    pub rules: Vec<RuleCounter>,
    /// What no rule names.
    pub pseudo: Vec<PseudoCounter>,
}

/// A rule's counter for one of its services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounter {
    /// `lan` or `router`.
    pub policy: String,
    /// The rule's name, or `line-N`.
    pub rule: String,
    /// The service, if the rule names any.
    pub service: Option<String>,
    /// `allow`, `drop` or `reject`.
    pub action: String,
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes with their link-layer headers.
    pub bytes: u64,
}

/// The counter of a pseudo rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PseudoCounter {
    /// Its name.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An error as RFC 9457 has it (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, in a line.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What to do, or more of it.
    pub detail: String,
}
