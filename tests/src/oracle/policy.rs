//! Random policies: as the text that the product reads, and as the scan that judges.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{Expected, Random, net::Net, portal::Portal};

/// Which packets of a protocol a service takes.
#[derive(Clone, Copy, Debug)]
pub enum Port {
    /// All.
    Any,
    /// Protocol number and destination ports, ends included.
    Range(u8, u16, u16),
    /// ICMP of a version (4 or 6), its type if that matters, its code if that does.
    Icmp(u8, Option<u8>, Option<u8>),
    /// A protocol without ports.
    Protocol(u8),
}

/// What rules see of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// What its transport header says.
    pub upper: Upper,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// Source and destination port.
    Ports(u16, u16),
    /// Type and code, and the identifier of an echo.
    Icmp([u8; 2], Option<u16>),
    /// The protocol has no ports, or this is no head of it.
    Nothing,
}

/// Protocols with ports, as policies name them.
pub const TRANSPORTS: [(u8, &str); 4] = [(6, "tcp"), (17, "udp"), (132, "sctp"), (136, "udplite")];
/// Protocols without ports: tunnels, IPsec, routing, and IPv6 headers that are not looked through.
pub const PORTLESS: [u8; 11] = [2, 4, 41, 47, 50, 51, 59, 89, 135, 139, 140];

impl Port {
    fn random(rng: &mut Random) -> Self {
        let transport = TRANSPORTS[rng.random_range(0..4)].0;
        match rng.random_range(0..12) {
            0 => Self::Any,
            1 => Self::Range(transport, 0, 65_535),
            2 => Self::Icmp(4, rng.random_bool(0.7).then(|| *[0, 8, 3].choose(rng).expect("three")), None),
            3 => Self::Icmp(6, rng.random_bool(0.7).then(|| *[128, 129, 1].choose(rng).expect("three")), None),
            4 => Self::Icmp(4, Some(3), Some(rng.random_range(0..4))),
            5 => Self::Protocol(*PORTLESS.choose(rng).expect("some")),
            _ => {
                let first = rng.random_range(400..460);
                Self::Range(transport, first, first + rng.random_range(0..40))
            }
        }
    }

    fn takes(self, packet: &Seen) -> bool {
        match (self, packet.upper) {
            (Self::Any, _) => true,
            (Self::Range(protocol, first, last), Upper::Ports(_, port)) => {
                packet.protocol == protocol && (first..=last).contains(&port)
            }
            (Self::Icmp(version, kind, code), Upper::Icmp([packet_kind, packet_code], _)) => {
                packet.to.is_ipv6() == (version == 6)
                    && kind.is_none_or(|kind| kind == packet_kind)
                    && code.is_none_or(|code| code == packet_code)
            }
            (Self::Protocol(number), Upper::Nothing) => packet.protocol == number,
            _ => false,
        }
    }

    fn text(self) -> String {
        let name = |protocol| TRANSPORTS.iter().find(|(number, _)| *number == protocol).expect("a transport").1;
        match self {
            Self::Any => "any".into(),
            Self::Range(protocol, 0, 65_535) => name(protocol).into(),
            Self::Range(protocol, first, last) if first == last => format!("{}/{first}", name(protocol)),
            Self::Range(protocol, first, last) => format!("{}/{first}-{last}", name(protocol)),
            Self::Icmp(version, kind, code) => {
                let mut text = String::from(if version == 4 { "icmp" } else { "icmpv6" });
                for part in [kind, code].into_iter().flatten() {
                    let _ = write!(text, "/{part}");
                }
                text
            }
            Self::Protocol(number) => format!("proto/{number}"),
        }
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Destinations.
    pub to: Vec<Net>,
    /// Ports.
    pub ports: Vec<Port>,
}

/// What a rule does; a rejected packet is denied whether its sender is told or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    Drop,
    Reject,
}

impl Action {
    fn random(rng: &mut Random, allow: f64) -> Self {
        if rng.random_bool(allow) {
            Self::Allow
        } else {
            *[Self::Drop, Self::Drop, Self::Reject].choose(rng).expect("three")
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    action: Action,
    services: Option<Vec<usize>>,
    from: Option<Vec<Net>>,
    monitor: bool,
    /// Hours of the day, UTC, from the first to before the last.
    hours: Option<(u32, u32)>,
}

/// One policy's rules, named `prefix0`, `prefix1`, …
#[derive(Clone, Debug)]
struct Rules {
    prefix: &'static str,
    default: Action,
    rules: Vec<Rule>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Services, named `s0`, `s1`, …
    pub services: Vec<Service>,
    /// Whether sources must belong to the LAN.
    pub strict_sources: bool,
    /// Whether nothing is denied.
    pub monitor: bool,
    /// The hour, UTC, in which packets are sent.
    pub hour: u32,
    /// Before clients' rules, if there is one.
    pub portal: Option<Portal>,
    lan: Rules,
    router: Rules,
    inbound: Rules,
}

fn list<T>(rng: &mut Random, most: usize, mut make: impl FnMut(&mut Random) -> T) -> Vec<T> {
    (0..rng.random_range(1..=most)).map(|_| make(rng)).collect()
}

/// Few, so that several rules share them.
fn hours(rng: &mut Random) -> Option<(u32, u32)> {
    rng.random_bool(0.2).then(|| *[(0, 12), (6, 18), (12, 24)].choose(rng).expect("three"))
}

/// Distinct services, in order.
fn named(rng: &mut Random, services: std::ops::Range<usize>) -> Vec<usize> {
    let mut named = list(rng, 3, |rng| rng.random_range(services.clone()));
    named.sort_unstable();
    named.dedup();
    named
}

impl Policy {
    /// A policy with up to twelve rules for clients over up to eight services; half of them with rules for the gateway and for connections from outside.
    pub fn random(rng: &mut Random) -> Self {
        let service = |rng: &mut Random, lan: bool| Service {
            to: list(rng, 6, |rng| Net::random(rng, lan)),
            ports: list(rng, 4, Port::random),
        };
        let mut services = list(rng, 8, |rng| service(rng, false));
        let outside = services.len();
        services.extend(list(rng, 3, |rng| service(rng, true)));
        let rule = |rng: &mut Random| {
            let action = Action::random(rng, 0.6);
            Rule {
                action,
                services: rng.random_bool(0.93).then(|| named(rng, 0..outside)),
                from: None,
                monitor: action != Action::Allow && rng.random_bool(0.2),
                hours: hours(rng),
            }
        };
        let from =
            |rng: &mut Random, lan: bool| rng.random_bool(0.4).then(|| list(rng, 3, |rng| Net::random(rng, lan)));
        let mut rules = list(rng, 12, |rng| Rule { from: from(rng, true), ..rule(rng) });
        let lan = Rules { prefix: "r", default: Action::random(rng, 0.3), rules };
        rules = if rng.random() { list(rng, 6, rule) } else { Vec::new() };
        // Nothing is written of a router policy that only allows.
        let router = Rules { prefix: "g", default: Action::random(rng, 0.4), rules };
        let inside = outside..services.len();
        let inbound = |rng: &mut Random| Rule {
            action: if rng.random_bool(0.7) { Action::Allow } else { Action::Drop },
            services: rng.random_bool(0.9).then(|| named(rng, inside.clone())),
            from: from(rng, false),
            monitor: false,
            hours: hours(rng),
        };
        rules = if rng.random() { list(rng, 4, inbound) } else { Vec::new() };
        let inbound = Rules { prefix: "i", default: Action::Drop, rules };
        let (monitor, hour) = (rng.random_bool(0.1), rng.random_range(0..24));
        let strict_sources = rng.random_bool(0.8);
        Self { services, strict_sources, monitor, hour, portal: None, lan, router, inbound }
    }

    /// Puts a portal before the rules of some.
    pub fn with_portal(self, rng: &mut Random) -> Self {
        let portal = rng.random_bool(0.4).then(|| Portal::random(rng, self.services.len()));
        Self { portal, ..self }
    }

    /// As the product reads it.
    pub fn text(&self) -> String {
        let nets = |nets: &[Net]| {
            nets.iter().map(|net| format!("\"{}/{}\"", net.address, net.length)).collect::<Vec<_>>().join(", ")
        };
        let sources = if self.strict_sources { "strict" } else { "any" };
        let mut text = format!("default = \"{}\"\nsources = \"{sources}\"\n", self.lan.default.name());
        let _ = writeln!(text, "monitor = {}", self.monitor);
        let rules = [&self.lan, &self.router, &self.inbound].map(|rules| &rules.rules);
        let hours: BTreeSet<(u32, u32)> = rules.into_iter().flatten().filter_map(|rule| rule.hours).collect();
        for (first, last) in hours {
            let _ = write!(text, "[[schedule]]\nname = \"from{first}to{last}\"\nzone = \"UTC\"\n");
            let _ = writeln!(text, "times = [\"{first:02}:00-{last:02}:00\"]");
        }
        for (index, service) in self.services.iter().enumerate() {
            let ports: Vec<String> = service.ports.iter().map(|port| format!("\"{}\"", port.text())).collect();
            let (to, ports) = (nets(&service.to), ports.join(", "));
            let _ = write!(text, "[[service]]\nname = \"s{index}\"\nto = [{to}]\nports = [{ports}]\n");
        }
        if let Some(portal) = &self.portal {
            text += &portal.text(nets);
        }
        for (header, rules) in [("", &self.lan), ("router.", &self.router), ("inbound.", &self.inbound)] {
            if !header.is_empty() {
                let _ = write!(text, "[{}]\ndefault = \"{}\"\n", &header[..header.len() - 1], rules.default.name());
            }
            for (index, rule) in rules.rules.iter().enumerate() {
                let _ = write!(text, "[[{header}rule]]\nname = \"{}{index}\"\n", rules.prefix);
                let _ = writeln!(text, "action = \"{}\"", rule.action.name());
                if let Some(services) = &rule.services {
                    let names: Vec<String> = services.iter().map(|service| format!("\"s{service}\"")).collect();
                    let _ = writeln!(text, "services = [{}]", names.join(", "));
                }
                if let Some(from) = &rule.from {
                    let _ = writeln!(text, "from = [{}]", nets(from));
                }
                if rule.monitor {
                    text += "monitor = true\n";
                }
                if let Some((first, last)) = rule.hours {
                    let _ = writeln!(text, "when = \"from{first}to{last}\"");
                }
            }
        }
        text
    }

    /// What the portal and the clients' rules say of a packet from a station.
    pub fn lan(&self, packet: &Seen, station: [u8; 6]) -> Expected {
        if let Some(portal) = self.portal.as_ref().filter(|portal| portal.concerns(packet.from)) {
            if let Some(service) = self.first_of(&portal.services, packet) {
                return Expected::new(true, format!("portal/s{service}"));
            }
            if !portal.admits(packet.from, station) {
                return Expected::new(false, "not-admitted").watched(self.monitor);
            }
        }
        self.scan(&self.lan, packet, "default")
    }

    /// What the gateway's own rules say.
    pub fn router(&self, packet: &Seen) -> Expected {
        self.scan(&self.router, packet, "router-default")
    }

    /// Whether replies to a packet from outside may pass.
    pub fn inbound(&self, packet: &Seen) -> bool {
        self.scan(&self.inbound, packet, "").allowed
    }

    fn scan(&self, rules: &Rules, packet: &Seen, default: &str) -> Expected {
        let within = |nets: &[Net], address| nets.iter().any(|net| net.holds(address));
        for (index, rule) in rules.rules.iter().enumerate() {
            let now = rule.hours.is_none_or(|(first, last)| (first..last).contains(&self.hour));
            if !now || rule.from.as_ref().is_some_and(|from| !within(from, packet.from)) {
                continue;
            }
            let counted = |service: &str| {
                let name = format!("{}{index}/{service}", rules.prefix);
                Expected::new(rule.action == Action::Allow, name).watched(rule.monitor || self.monitor)
            };
            let Some(services) = &rule.services else { return counted("any") };
            if let Some(service) = self.first_of(services, packet) {
                return counted(&format!("s{service}"));
            }
        }
        Expected::new(rules.default == Action::Allow, default).watched(self.monitor)
    }

    /// The first of some services that a packet is for.
    fn first_of(&self, services: &[usize], packet: &Seen) -> Option<usize> {
        services.iter().copied().find(|&service| {
            let Service { to, ports } = &self.services[service];
            to.iter().any(|net| net.holds(packet.to)) && ports.iter().any(|port| port.takes(packet))
        })
    }
}
