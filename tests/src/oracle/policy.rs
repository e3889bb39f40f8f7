//! Random policies: as the text that the product reads, and as the scan that judges.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

use super::Expected;

/// A prefix as the oracle sees it.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// First address.
    pub address: IpAddr,
    /// Length.
    pub length: u8,
}

impl Net {
    /// Whether an address lies in it: bit by bit.
    pub fn holds(&self, address: IpAddr) -> bool {
        let equal = |a: &[u8], b: &[u8]| {
            (0..usize::from(self.length)).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => equal(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => equal(&a.octets(), &b.octets()),
            _ => false,
        }
    }

    /// Its last address.
    fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(self.length.into()).unwrap_or(0)).into()
            }
            IpAddr::V6(address) => {
                Ipv6Addr::from(u128::from(address) | u128::MAX.checked_shr(self.length.into()).unwrap_or(0)).into()
            }
        }
    }

    /// An address at one of its edges, inside or just outside, or somewhere within.
    pub fn near(&self, rng: &mut impl Rng) -> IpAddr {
        let step = |address: IpAddr, up: bool| -> IpAddr {
            match address {
                IpAddr::V4(a) => {
                    Ipv4Addr::from(if up { u32::from(a).wrapping_add(1) } else { u32::from(a).wrapping_sub(1) }).into()
                }
                IpAddr::V6(a) => {
                    Ipv6Addr::from(if up { u128::from(a).wrapping_add(1) } else { u128::from(a).wrapping_sub(1) })
                        .into()
                }
            }
        };
        match rng.random_range(0..6) {
            0 => self.address,
            1 => self.last(),
            2 => step(self.address, false),
            3 => step(self.last(), true),
            _ => match (self.address, self.last()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    Ipv4Addr::from(rng.random_range(u32::from(first)..=u32::from(last))).into()
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    Ipv6Addr::from(rng.random_range(u128::from(first)..=u128::from(last))).into()
                }
                _ => self.address,
            },
        }
    }
}

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
    /// Destination port, or ICMP type and code, if its protocol has such.
    pub selector: Option<(u16, [u8; 2])>,
}

impl Port {
    fn takes(self, packet: &Seen) -> bool {
        match (self, packet.selector) {
            (Self::Any, _) => true,
            (Self::Range(protocol, first, last), Some((port, _))) => {
                packet.protocol == protocol && (first..=last).contains(&port)
            }
            (Self::Icmp(version, kind, code), Some((_, [packet_kind, packet_code]))) => {
                let protocol = if version == 4 { 1 } else { 58 };
                packet.protocol == protocol
                    && packet.to.is_ipv6() == (version == 6)
                    && kind.is_none_or(|kind| kind == packet_kind)
                    && code.is_none_or(|code| code == packet_code)
            }
            (Self::Protocol(number), None) => packet.protocol == number,
            _ => false,
        }
    }

    fn text(self) -> String {
        let name = |protocol| match protocol {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
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

/// A rule.
#[derive(Clone, Debug)]
struct Rule {
    allows: bool,
    services: Option<Vec<usize>>,
    from: Option<Vec<Net>>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    default_allows: bool,
    /// Services, named `s0`, `s1`, …
    pub services: Vec<Service>,
    rules: Vec<Rule>,
}

/// Clients' addresses are in these.
pub const LAN4: Net = Net { address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0)), length: 24 };
/// The same of IPv6.
pub const LAN6: Net = Net { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0)), length: 64 };

fn net(rng: &mut impl Rng, lan: bool) -> Net {
    let v6 = rng.random_bool(0.4);
    // Few distinct bits, so that prefixes nest and touch; sources are of the LAN.
    let (address, lengths): (u128, Vec<u8>) = match (v6, lan) {
        (false, true) => (0x0a01_0000 | u128::from(rng.random::<u8>()), vec![0, 8, 23, 24, 25, 27, 30, 31, 32]),
        (true, true) => {
            (0xfd00_0001_u128 << 96 | u128::from(rng.random::<u8>()), vec![0, 16, 32, 63, 64, 65, 96, 120, 127, 128])
        }
        (false, false) => {
            let base = *[0x1100_0000, 0x11f9_8000, 0xcb00_7100_u32].choose(rng).expect("three");
            (
                u128::from(base ^ rng.random::<u32>() & 0x0101_83ff),
                vec![0, 7, 8, 9, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32, 32],
            )
        }
        (true, false) => {
            let base = 0x2620_0149_0a44_0000_u128 << 64;
            let noise = rng.random::<u128>() & 0x0001_0003_0100_00ff_0000_0000_0000_03ff;
            (base ^ noise, vec![0, 3, 16, 17, 24, 28, 32, 40, 44, 48, 56, 60, 63, 64, 65, 80, 112, 127, 128, 128])
        }
    };
    let length = *lengths.choose(rng).expect("some");
    if v6 {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Net { address: Ipv6Addr::from(address & mask).into(), length }
    } else {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Net { address: Ipv4Addr::from(address as u32 & mask).into(), length }
    }
}

fn port(rng: &mut impl Rng) -> Port {
    match rng.random_range(0..12) {
        0 => Port::Any,
        1 => Port::Range(*[6, 17, 132].choose(rng).expect("three"), 0, 65_535),
        2 => Port::Icmp(4, rng.random_bool(0.7).then(|| *[0, 8, 3].choose(rng).expect("three")), None),
        3 => Port::Icmp(6, rng.random_bool(0.7).then(|| *[128, 129, 1].choose(rng).expect("three")), None),
        4 => Port::Icmp(4, Some(3), Some(rng.random_range(0..4))),
        5 => Port::Protocol(*[47, 50, 51].choose(rng).expect("three")),
        _ => {
            let first = rng.random_range(400..460);
            Port::Range(*[6, 17, 132].choose(rng).expect("three"), first, first + rng.random_range(0..40))
        }
    }
}

fn list<T>(rng: &mut impl Rng, most: usize, mut make: impl FnMut(&mut dyn Rng) -> T) -> Vec<T> {
    let mut rng = rng;
    (0..rng.random_range(1..=most)).map(|_| make(&mut rng)).collect()
}

impl Policy {
    /// A policy with up to twelve rules over up to eight services.
    pub fn random(rng: &mut impl Rng) -> Self {
        let services: Vec<Service> = list(rng, 8, |rng| {
            let mut rng = rng;
            Service {
                to: list(&mut rng, 6, |mut rng| net(&mut rng, false)),
                ports: list(&mut rng, 4, |mut rng| port(&mut rng)),
            }
        });
        let rules = list(rng, 12, |rng| {
            let mut rng = rng;
            let mut named: Vec<usize> = list(&mut rng, 3, |mut rng| (&mut rng).random_range(0..services.len()));
            named.dedup();
            named.sort_unstable();
            named.dedup();
            Rule {
                allows: rng.random_bool(0.6),
                services: rng.random_bool(0.93).then_some(named),
                from: rng.random_bool(0.4).then(|| list(&mut rng, 3, |mut rng| net(&mut rng, true))),
            }
        });
        Self { default_allows: rng.random_bool(0.3), services, rules }
    }

    /// As the product reads it; rules are named `r0`, `r1`, …
    pub fn text(&self) -> String {
        let action = |allows| if allows { "allow" } else { "drop" };
        let nets = |nets: &[Net]| {
            nets.iter().map(|net| format!("\"{}/{}\"", net.address, net.length)).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!("default = \"{}\"\n", action(self.default_allows));
        for (index, service) in self.services.iter().enumerate() {
            let ports: Vec<String> = service.ports.iter().map(|port| format!("\"{}\"", port.text())).collect();
            let _ = write!(
                text,
                "[[service]]\nname = \"s{index}\"\nto = [{}]\nports = [{}]\n",
                nets(&service.to),
                ports.join(", ")
            );
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let _ = write!(text, "[[rule]]\nname = \"r{index}\"\naction = \"{}\"\n", action(rule.allows));
            if let Some(services) = &rule.services {
                let names: Vec<String> = services.iter().map(|service| format!("\"s{service}\"")).collect();
                let _ = writeln!(text, "services = [{}]", names.join(", "));
            }
            if let Some(from) = &rule.from {
                let _ = writeln!(text, "from = [{}]", nets(from));
            }
        }
        text
    }

    /// The scan.
    pub fn judge(&self, packet: &Seen) -> Expected {
        let within = |nets: &[Net], address| nets.iter().any(|net| net.holds(address));
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.from.as_ref().is_some_and(|from| !within(from, packet.from)) {
                continue;
            }
            let Some(services) = &rule.services else {
                return Expected::new(rule.allows, format!("r{index}/any"));
            };
            for &service in services {
                let Service { to, ports } = &self.services[service];
                if within(to, packet.to) && ports.iter().any(|port| port.takes(packet)) {
                    return Expected::new(rule.allows, format!("r{index}/s{service}"));
                }
            }
        }
        Expected::new(self.default_allows, "default")
    }
}
