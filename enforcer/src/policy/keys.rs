//! The keys that each table of a policy file may have; [`super::Timeouts::named`] has those of `[inbound.timeouts]`,
//! [`super::NameTimes::named`] those of `[names]`.

/// The policy itself.
pub const POLICY: &[&str] = &[
    "default",
    "monitor",
    "sources",
    "fragments",
    "malformed",
    "non-ip",
    "unlisted",
    "icmp-errors",
    "nat64",
    "comment",
    "include",
    "prefixes",
    "exempt",
    "schedule",
    "service",
    "rule",
    "router",
    "inbound",
    "names",
    "dns",
    "proxy",
    "portal",
];
/// A file that a policy includes.
pub const INCLUDED: &[&str] = &["comment", "include", "prefixes", "exempt", "schedule", "service", "rule"];
/// `[exempt]`.
pub const EXEMPT: &[&str] = &["comment", "from", "to"];
/// `[[schedule]]`.
pub const SCHEDULE: &[&str] = &["name", "comment", "zone", "times"];
/// `[[service]]`.
pub const SERVICE: &[&str] = &["name", "comment", "to", "ports"];
/// `[[rule]]`.
pub const RULE: &[&str] = &["name", "comment", "action", "services", "from", "when", "monitor", "log"];
/// `[router]`.
pub const ROUTER: &[&str] = &["comment", "default", "rule"];
/// `[[router.rule]]`: all of its packets are the gateway's.
pub const ROUTER_RULE: &[&str] = &["name", "comment", "action", "services", "when", "monitor", "log"];
/// `[inbound]`.
pub const INBOUND: &[&str] = &["comment", "default", "rule", "timeouts"];
/// `[[inbound.rule]]`: it judges no packet, so that there is nothing to watch or log.
pub const INBOUND_RULE: &[&str] = &["name", "comment", "action", "services", "from", "when"];
/// `[[proxy]]`.
pub const PROXY: &[&str] = &["comment", "address", "port", "services"];
/// `[portal]`.
pub const PORTAL: &[&str] = &["comment", "from", "services", "action"];
/// `[dns]`: beside the comment, the keys of [`super::Dns::named`].
pub const DNS: &[&str] = &["comment", "denied", "unnamed"];
