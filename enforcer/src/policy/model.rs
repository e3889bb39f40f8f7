//! A policy as it means, apart from how it was written: what the compiler reads.

use std::{collections::BTreeSet, num::NonZeroU32, ops::Range};

use ipnet::{IpNet, Ipv6Net};

pub use enforcer_ebpf::abi::Action;

pub use super::port_match::{PortMatch, Transport};
use super::{Gate, Portal, Proxied, Proxy};
use crate::catalog::Pattern;

/// Index into [`Policy::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// Index into [`Rules::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// Index into [`Policy::schedules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(pub u32);

/// A whole policy file, with what it includes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Services by [`ServiceId`]; names are unique.
    pub services: Vec<Service>,
    /// Schedules by [`ScheduleId`]; names are unique.
    pub schedules: Vec<Schedule>,
    /// What clients behind the gateway may reach.
    pub lan: Rules,
    /// What the gateway itself may reach; allows everything until it is written.
    pub router: Rules,
    /// Connections from outside whose replies may pass: `from` is who connects, `services` is where to. Denies by default.
    pub inbound: Rules,
    /// Whether a source address must belong behind the interface it came from.
    pub strict_sources: bool,
    /// Verdict on later fragments whose head was not allowed.
    pub fragments: Action,
    /// Verdict on what cannot be parsed.
    pub malformed: Action,
    /// Verdict on frames without IP that a LAN does not need to live.
    pub non_ip: Action,
    /// Verdict on what is forwarded from an interface that is not an enforced LAN.
    pub unlisted: Action,
    /// Verdict on ICMP errors that the rules deny and that quote a connection which may be.
    pub icmp_errors: Action,
    /// Nothing is denied: what would have been is counted, and passes.
    pub monitor: bool,
    /// NAT64 prefixes of 96 bits: addresses in them are judged as the IPv4 addresses that they end with.
    pub nat64: Vec<Ipv6Net>,
    /// How long connections from outside are remembered.
    pub timeouts: Timeouts,
    /// How long addresses of names count.
    pub names: NameTimes,
    /// What questions for names are answered with.
    pub dns: Dns,
    /// By what clients reach some services; what follows from that is in the clients' rules.
    pub proxies: Vec<Proxy>,
    /// What clients reach until they are admitted; that is in their rules, too.
    pub portal: Option<Portal>,
}

/// What a file means that says `default = "drop"` and nothing else.
impl Default for Policy {
    fn default() -> Self {
        let rules = |default| Rules { default, rules: Vec::new() };
        Self {
            services: Vec::new(),
            schedules: Vec::new(),
            lan: rules(Action::Drop),
            router: rules(Action::Allow),
            inbound: rules(Action::Drop),
            strict_sources: true,
            fragments: Action::Drop,
            malformed: Action::Drop,
            non_ip: Action::Drop,
            unlisted: Action::Drop,
            icmp_errors: Action::Allow,
            monitor: false,
            nat64: Vec::new(),
            timeouts: Timeouts::default(),
            names: NameTimes::default(),
            dns: Dns::default(),
            proxies: Vec::new(),
            portal: None,
        }
    }
}

impl Policy {
    /// What a rule's packets meet: its action, unless the rule or the policy only watches.
    #[must_use]
    pub fn effect(&self, rule: &Rule) -> Action {
        self.watched(if rule.monitor && rule.action != Action::Allow { Action::Monitor } else { rule.action })
    }

    /// Services that rules name and that have names, in order. Inbound rules are about places inside: names do not help them.
    pub fn named(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        let rules = [&self.lan, &self.router].into_iter().flat_map(|part| &part.rules);
        let ids: BTreeSet<ServiceId> = rules.filter_map(|rule| rule.services.as_ref()).flatten().copied().collect();
        let services = ids.into_iter().map(|id| (id, &self.services[id.0 as usize]));
        services.filter(|(_, service)| !service.names.is_empty())
    }

    /// An action, unless the policy only watches.
    #[must_use]
    pub fn watched(&self, action: Action) -> Action {
        if self.monitor && action != Action::Allow { Action::Monitor } else { action }
    }
}

/// A named set of destinations and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Destination prefixes; `any` is written as both families' /0.
    pub to: Vec<IpNet>,
    /// Names whose addresses are destinations, too, as they become known.
    pub names: Vec<Pattern>,
    /// Never empty; [`PortMatch::Any`] where the file says nothing.
    pub ports: Vec<PortMatch>,
}

/// Ordered rules; the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For what no rule matches.
    pub default: Action,
    /// In the file's order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As named in the file, if it was.
    pub name: Option<String>,
    /// For people.
    pub comment: Option<String>,
    /// The included file that it is in; `None` is the policy's own.
    pub file: Option<String>,
    /// Line of the rule in its file, from 1.
    pub line: u32,
    /// What it does.
    pub action: Action,
    /// Where to; `None` is any destination and port.
    pub services: Option<Vec<ServiceId>>,
    /// Whose packets; `None` is anyone's.
    pub from: Option<Vec<IpNet>>,
    /// When it applies; `None` is always.
    pub when: Option<ScheduleId>,
    /// It denies nothing: what it would have denied is counted, and passes.
    pub monitor: bool,
    /// Which of its packets make events.
    pub log: Log,
    /// Whether it follows from the policy's proxies.
    pub proxied: Option<Proxied>,
    /// Whether it follows from the policy's portal.
    pub gate: Option<Gate>,
}

/// Which of a rule's packets make events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Those that are denied, or would be.
    #[default]
    Denied,
    /// None.
    Never,
    /// One in so many, allowed or denied; 1 is every packet.
    OneIn(NonZeroU32),
}

/// When a rule applies, by the clocks of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Unique among schedules.
    pub name: String,
    /// As the IANA time zone database names it: `Europe/Berlin`.
    pub zone: String,
    /// Minutes of the week, from Monday's midnight on, the end not included; sorted, neither touching nor overlapping.
    pub times: Vec<Range<u16>>,
}

/// Minutes of a week.
pub const WEEK: u16 = 7 * 24 * 60;

/// Seconds after its last packet for which a connection from outside is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP from its first reply on.
    pub tcp: u32,
    /// TCP without a reply yet.
    pub tcp_opening: u32,
    /// TCP behind a FIN or RST.
    pub tcp_closing: u32,
    /// UDP and UDP-Lite from the first reply on.
    pub udp: u32,
    /// UDP and UDP-Lite without a reply yet.
    pub udp_opening: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// SCTP.
    pub sctp: u32,
    /// Any other protocol.
    pub other: u32,
}

/// As Linux's connection tracking has them (`nf_conntrack_*_timeout`, 6.x); SCTP's is that of an established association.
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: 432_000,
            tcp_opening: 120,
            tcp_closing: 120,
            udp: 120,
            udp_opening: 30,
            icmp: 30,
            sctp: 210,
            other: 600,
        }
    }
}

impl Timeouts {
    /// Each by its key in a policy file.
    pub fn named(&mut self) -> [(&'static str, &mut u32); 8] {
        [
            ("tcp", &mut self.tcp),
            ("tcp-opening", &mut self.tcp_opening),
            ("tcp-closing", &mut self.tcp_closing),
            ("udp", &mut self.udp),
            ("udp-opening", &mut self.udp_opening),
            ("icmp", &mut self.icmp),
            ("sctp", &mut self.sctp),
            ("other", &mut self.other),
        ]
    }
}

/// Seconds for which addresses of names count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTimes {
    /// The least time that an answer is taken to be valid for.
    pub floor: u32,
    /// The longest.
    pub ceiling: u32,
    /// How long an address counts beyond that.
    pub grace: u32,
    /// How long a connection to an address that counts no more may be silent.
    pub idle: u32,
    /// How long such connections go on at most.
    pub lifetime: u32,
}

/// Clients keep answers for longer than they should; a push connection is silent for up to half an hour, and lives for days.
impl Default for NameTimes {
    fn default() -> Self {
        Self { floor: 60, ceiling: 86_400, grace: 60, idle: 3600, lifetime: 604_800 }
    }
}

impl NameTimes {
    /// Each by its key in a policy file.
    pub fn named(&mut self) -> [(&'static str, &mut u32); 5] {
        [
            ("floor", &mut self.floor),
            ("ceiling", &mut self.ceiling),
            ("grace", &mut self.grace),
            ("idle", &mut self.idle),
            ("lifetime", &mut self.lifetime),
        ]
    }
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Upstreams are asked.
    Forward,
    /// There is no such name (NXDOMAIN).
    NxDomain,
    /// The name has the unspecified address, and nothing else.
    Zero,
    /// The client is refused.
    Refuse,
}

/// What becomes of clients' questions for names that they are not allowed; all others are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Names that a rule denies to the client.
    pub denied: Decision,
    /// Names of which no rule speaks.
    pub unnamed: Decision,
}

impl Default for Dns {
    fn default() -> Self {
        Self { denied: Decision::Forward, unnamed: Decision::Forward }
    }
}

impl Dns {
    /// Each by its key in a policy file.
    pub fn named(&mut self) -> [(&'static str, &mut Decision); 2] {
        [("denied", &mut self.denied), ("unnamed", &mut self.unnamed)]
    }
}

impl Rule {
    /// A rule about every packet, at all times.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self {
            name: None,
            comment: None,
            file: None,
            line: 1,
            action,
            services: None,
            from: None,
            when: None,
            monitor: false,
            log: Log::Denied,
            proxied: None,
            gate: None,
        }
    }

    /// What operators read: the name, or the line.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.name, &self.file) {
            (Some(name), _) => name.clone(),
            (None, None) => format!("line-{}", self.line),
            (None, Some(file)) => format!("{file}:{}", self.line),
        }
    }
}
