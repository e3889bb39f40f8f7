//! What the API says and is told, as JSON. The document at `/v1/openapi.json` is made of these types and their comments.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod clients;
mod events;

pub use clients::{Admit, AdmittedClient, Clients, Expel, YEAR};
pub use events::{Event, Events, Flow};

use crate::{
    dns::{Name, forwarder::counters::Snapshot},
    names::{Counts, How},
};

/// `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The controller's version.
    pub version: String,
    /// The policy's file.
    pub policy: String,
    /// SHA-256 of the file, as it was when it was loaded.
    pub policy_sha256: String,
    /// The folder that its programs are pinned in.
    #[serde(default)]
    pub pins: String,
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
    /// Schedules that apply now.
    pub schedules: Vec<String>,
    /// Events that were not told.
    pub events_lost: u64,
    /// What an operator should look at.
    pub warnings: Vec<String>,
    /// Names and how they become known, if they do.
    pub names: Option<NamesStatus>,
    /// The interfaces that the controller is to be on.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStatus>,
    /// How many clients are admitted, if the policy has a portal.
    #[serde(default)]
    pub admitted: Option<u64>,
    /// How full tables are.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// What the kernel's programs take; only those that ran while the kernel counted that (`sysctl kernel.bpf_stats_enabled=1`).
    #[serde(default)]
    pub programs: Vec<ProgramTime>,
    /// How often a policy was to take another's place.
    #[serde(default)]
    pub reloads: Reloads,
    /// Seconds until the policy before comes back, unless this one is confirmed.
    #[serde(default)]
    pub confirm_seconds: Option<u64>,
    /// Seconds for which interfaces that came back, or whose filters others took away, were there without programs, in all.
    #[serde(default)]
    pub unhooked_seconds: f64,
}

/// An interface that the controller is to be on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceStatus {
    /// Its name, as the command line has it.
    pub interface: String,
    /// `lan` or `wan`.
    pub role: String,
    /// Whether programs are attached to it.
    pub hooked: bool,
    /// What the kernel counted on it, whatever became of it then; nothing if there is no such interface now.
    pub traffic: Option<Traffic>,
}

/// An interface's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Packets that came.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that went.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
}

/// A table that can be full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Table {
    /// What it holds: `blocks`, `clauses`, `hosts4` and `hosts6` of the policy; `addresses` and `draining` of names; `combinations`: words of class tables
    /// for combinations of services that meet on a name's address; `admitted`: clients that the portal has admitted.
    pub table: String,
    /// How many there are.
    pub entries: u64,
    /// How many there can be.
    pub capacity: u64,
}

/// What a program of the kernel's took since it was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgramTime {
    /// Its name.
    pub program: String,
    /// How often it ran.
    pub runs: u64,
    /// For how long in all, nanoseconds.
    pub nanoseconds: u64,
}

/// How often a policy was to take another's place since the start, by what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloads {
    /// It did.
    pub succeeded: u64,
    /// It could not; the one before stayed.
    pub failed: u64,
    /// It did, and the one before came back.
    pub rolled_back: u64,
}

/// Names and their addresses, and what learns them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamesStatus {
    /// How many there are.
    #[serde(flatten)]
    pub counts: Counts,
    /// Addresses that the kernel's tables had no room for: they are not matched.
    pub unplaced: u64,
    /// What became of clients' queries to the DNS server, if it is on.
    pub queries: Option<Snapshot>,
    /// What became of other resolvers' answers, if they are heard.
    pub snooped: Option<Snooped>,
    /// The resolvers that are asked, in the order of preference.
    pub upstreams: Vec<UpstreamStatus>,
}

/// What became of the answers of resolvers that are trusted, as they passed to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snooped {
    /// These resolvers.
    #[schema(value_type = Vec<String>)]
    pub resolvers: Vec<IpAddr>,
    /// Answers that were looked into.
    pub taken: u64,
    /// Answers that were not, because there were too many at once.
    pub lost: u64,
    /// Answers that nobody asked for, or not so, or not lately, or that came already.
    pub unasked: u64,
    /// Packets in a resolver's name from where that resolver is not.
    pub forged: u64,
    /// Packets of a resolver that are no answers.
    pub malformed: u64,
    /// Answers in fragments, which are not put together.
    pub fragmented: u64,
    /// TCP connections, whose answers are not heard.
    pub tcp: u64,
    /// Answers that say that there is more by TCP.
    pub truncated: u64,
    /// Answers that are too long to be looked into.
    pub too_long: u64,
    /// Queries whose answers do not count, because their client had sent too many.
    pub over_limit: u64,
}

/// A resolver that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamStatus {
    /// Where it is and how it is asked, as `--dns-upstream` has it.
    pub address: String,
    /// Whether it is asked before those that do not answer.
    pub well: bool,
    /// How often it was silent or not to be reached.
    pub failures: u64,
    /// Why it failed last, if it has not answered since.
    pub error: Option<String>,
}

/// `GET /v1/names`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Names {
    /// By name.
    pub names: Vec<NameAddress>,
}

/// An address of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameAddress {
    /// The name that was asked for; of a draining address, the last that had it.
    pub name: String,
    /// The address.
    #[schema(value_type = String, example = "192.0.2.1")]
    pub address: IpAddr,
    /// Whether packets to it are matched: there may be no room in the tables, or no rule about what it drains for.
    pub matched: bool,
    /// For how long it counts; nothing if it drains: connections that stand go on.
    pub seconds_left: Option<u64>,
    /// What it is a destination of.
    pub services: Vec<String>,
    /// How it became known.
    pub how: How,
    /// Seconds since a packet of a connection that stands went there, not more exact than an eighth of `idle`; nothing if none did lately.
    pub used_seconds: Option<u64>,
}

/// `POST /v1/resolve`: what is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// The name in ASCII (IDNA A-labels), with or without a dot at its end; neither with an asterisk nor an address.
    #[schema(
        max_length = 253,
        pattern = r"^([A-Za-z0-9_-]{1,63}\.)*[A-Za-z][A-Za-z0-9_-]{0,62}\.?$",
        example = "www.apple.com"
    )]
    pub name: String,
}

impl Resolve {
    /// The name, if it is written as the document says.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        let text = self.name.strip_suffix('.').unwrap_or(&self.name);
        let good = |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let last =
            text.rsplit('.').next().is_some_and(|label| label.starts_with(|letter: char| letter.is_ascii_alphabetic()));
        (last && self.name.len() <= 253 && text.split('.').all(good)).then(|| text.parse().ok())?
    }
}

/// What resolvers say of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// The name as DNS compares it.
    pub name: String,
    /// The services that it is of.
    pub services: Vec<String>,
    /// The names that it is an alias of, one after the other.
    pub aliases: Vec<String>,
    /// Its addresses of both families.
    pub addresses: Vec<ResolvedAddress>,
}

/// An address that resolvers tell of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolvedAddress {
    /// The address.
    #[schema(value_type = String, example = "192.0.2.1")]
    pub address: IpAddr,
    /// Seconds for which the answer is valid.
    pub ttl: u32,
    /// Whether it is one of the name's services now.
    pub matched: bool,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookStatus {
    /// Interface name.
    pub interface: String,
    /// `lan`, `wan`, or `snoop`: a LAN's, for hearing DNS.
    pub role: String,
    /// The hook, such as `native XDP`.
    pub hook: String,
}

/// `GET /v1/counters`, and each event of `GET /v1/counters/stream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// By rule and service, in the policy's order.
    pub rules: Vec<RuleCounter>,
    /// What no rule names.
    pub pseudo: Vec<PseudoCounter>,
}

/// A rule's counter for one of its services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleCounter {
    /// `lan` or `router`.
    pub policy: String,
    /// The rule's name, or `line-N`.
    pub rule: String,
    /// The service, if the rule names any.
    pub service: Option<String>,
    /// `allow`, `drop`, `reject` or `monitor`.
    pub action: String,
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes with their link-layer headers.
    pub bytes: u64,
}

/// The counter of a pseudo rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PseudoCounter {
    /// Its name.
    pub name: String,
    /// What the policy does with such packets: `allow`, `drop`, `reject` or `monitor`.
    #[serde(default)]
    pub action: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An error as RFC 9457 has it (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: `about:blank` says that the status is all there is to know of that.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong, and what to do.
    pub detail: String,
}
