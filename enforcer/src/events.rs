//! Events as operators read them: the kernel's word on a packet, and the packet parsed from its first bytes by the kernel's own parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_ebpf::{
    abi::{self, Words6, hook, pseudo, slot},
    address::Address,
    bytes::Bytes,
    headers::{Ipv4, Ipv6, ethertype},
    parse::{self, Malformed, Packet, Sink},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    api::types::{Event, Flow, RuleCounter},
    policy::words,
};

/// What an event's numbers stand for.
pub struct Names<'a> {
    /// Rules by their counters' numbers, from [`pseudo::COUNT`] on.
    pub rules: &'a [Option<RuleCounter>],
    /// Names of interfaces by index.
    pub interface: &'a dyn Fn(u32) -> Option<String>,
    /// Names that an address is known by, the first few of them.
    pub called: &'a dyn Fn(IpAddr) -> Vec<String>,
    /// The kernel's monotonic clock now, in nanoseconds, and the time that it is.
    pub now: (u64, Timestamp),
}

/// An event in words.
#[must_use]
pub fn describe(event: &abi::Event, names: &Names<'_>) -> Event {
    let counter = event.verdict.counter();
    let rule = counter.checked_sub(pseudo::COUNT).and_then(|index| names.rules.get(index as usize)?.as_ref());
    let captured = &event.bytes[..usize::from(event.captured).min(abi::CAPTURE)];
    let bytes = Captured { bytes: captured, length: event.length as usize };
    let seen = match event.kind {
        0 => parse::ethernet(&bytes, Seen),
        kind => parse::network(&bytes, kind, 0, Seen),
    };
    let (mut reason, flow) = match seen {
        Found::Flow(flow) => (None, Some(flow)),
        Found::Other(kind) => (Some(format!("EtherType {kind:#06x}")), None),
        // What was cut off here need not have been cut off in the kernel.
        Found::Malformed(reason) if counter == pseudo::MALFORMED || counter == pseudo::SOURCE_ROUTE => {
            (Malformed::explain(reason as u8).map(str::to_owned), claimed(&bytes, event.kind))
        }
        Found::Malformed(_) => (None, claimed(&bytes, event.kind)),
    };
    let word = pseudo::NAMES.get(counter as usize).map(|&name| name.to_owned());
    reason = match (word, reason) {
        (Some(word), Some(more)) => Some(format!("{word}: {more}")),
        (word, _) => word,
    };
    let (clock, now) = names.now;
    let age = SignedDuration::from_nanos(clock.saturating_sub(event.time).try_into().unwrap_or(i64::MAX));
    Event {
        time: now.saturating_sub(age).unwrap_or(now).to_string(),
        action: words::name(event.verdict.action()).into(),
        hook: match event.hook {
            hook::ROUTER => "router",
            hook::UNLISTED => "unlisted",
            _ => "lan",
        }
        .into(),
        interface: (names.interface)(event.interface).unwrap_or_else(|| format!("#{}", event.interface)),
        rule: rule.map(|rule| rule.rule.clone()),
        service: rule.and_then(|rule| rule.service.clone()),
        reason,
        names: flow.as_ref().map(|flow| (names.called)(flow.destination)).unwrap_or_default(),
        flow,
        length: event.length,
    }
}

/// Whence and where to a packet says that it goes, if no more of it can be parsed.
fn claimed(bytes: &Captured<'_>, kind: u16) -> Option<Flow> {
    let (kind, offset) = if kind == 0 { parse::link(bytes).ok()? } else { (kind, 0) };
    let (source, destination, protocol) = match kind {
        ethertype::IPV4 => {
            let header: Ipv4 = bytes.read(offset)?;
            let address = |address: u32| IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(address)));
            (address(header.source), address(header.destination), header.protocol)
        }
        ethertype::IPV6 => {
            let header: Ipv6 = bytes.read(offset)?;
            let address = |address: Words6| IpAddr::V6(Ipv6Addr::from(bytemuck::cast::<_, [u8; 16]>(address)));
            (address(header.source), address(header.destination), header.next)
        }
        _ => return None,
    };
    Some(Flow { source, destination, protocol, source_port: None, destination_port: None, icmp: None })
}

/// A packet of which only the first bytes are here.
struct Captured<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Bytes for Captured<'_> {
    fn size(&self) -> usize {
        self.length
    }

    fn read<T: bytemuck::Pod>(&self, offset: usize) -> Option<T> {
        self.bytes.read(offset)
    }
}

/// What the parser found.
enum Found {
    Flow(Flow),
    Other(u16),
    Malformed(Malformed),
}

struct Seen;

impl Sink for Seen {
    type Output = Found;

    fn ip<A: Address>(self, packet: &Packet<A>) -> Found {
        let icmp = matches!(packet.port >> 16, slot::ICMP | slot::ICMPV6);
        let kind_code = icmp.then_some([(packet.port >> 8) as u8, packet.port as u8]);
        let ports = !icmp && packet.port >> 16 != slot::PORTLESS;
        let address = |address: &A| {
            let words = address.words();
            if A::VERSION == 4 {
                return IpAddr::V4(Ipv4Addr::from(words[3]));
            }
            IpAddr::V6(Ipv6Addr::from_bits(words.iter().fold(0, |bits, &word| bits << 32 | u128::from(word))))
        };
        Found::Flow(Flow {
            source: address(&packet.source),
            destination: address(&packet.destination),
            protocol: packet.protocol,
            source_port: ports.then_some(packet.source_port),
            destination_port: ports.then_some(packet.destination_port),
            icmp: kind_code,
        })
    }

    fn non_ip(self, kind: u16) -> Found {
        Found::Other(kind)
    }

    fn malformed(self, reason: Malformed) -> Found {
        Found::Malformed(reason)
    }
}

#[cfg(test)]
mod tests {
    use enforcer_ebpf::abi::{Action, CAPTURE, Verdict};
    use etherparse::PacketBuilder;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    /// An event about a frame, a second and a half ago.
    fn event(frame: &[u8], length: usize, verdict: Verdict) -> Event {
        let mut bytes = [0; CAPTURE];
        let captured = frame.len().min(CAPTURE);
        bytes[..captured].copy_from_slice(&frame[..captured]);
        let (length, captured) = (length as u32, captured as u8);
        let told = abi::Event { time: 500, verdict, interface: 7, length, kind: 0, hook: hook::LAN, captured, bytes };
        let rule = RuleCounter {
            policy: "lan".into(),
            rule: "games".into(),
            service: Some("arcade".into()),
            action: "reject".into(),
            packets: 0,
            bytes: 0,
        };
        let names = Names {
            rules: &[None, Some(rule)],
            called: &|address| if address.is_ipv4() { vec!["www.example.org".into()] } else { Vec::new() },
            interface: &|index| (index == 7).then(|| "lan0".into()),
            now: (1_500_000_500, Timestamp::from_second(NOW).expect("a time")),
        };
        describe(&told, &names)
    }

    #[test]
    fn a_denied_packet_is_told_with_its_flow_rule_and_time() {
        let mut frame = Vec::new();
        let packet =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64).tcp(50_000, 443, 1, 1);
        packet.write(&mut frame, &[0; 1000]).expect("to memory");
        let told = event(&frame, frame.len(), Verdict::new(Action::Reject, pseudo::COUNT + 1));
        assert_eq!(
            told.to_string(),
            "reject lan0 10.1.0.2:50000 -> 17.1.2.3:443 tcp, rule games, service arcade, name www.example.org"
        );
        assert_eq!((told.time.as_str(), told.length), ("2023-11-14T22:13:18.5Z", 1054));
    }

    #[test]
    fn what_no_rule_names_is_told_with_its_reason() {
        let mut frame = Vec::new();
        let packet =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0xfd; 16], [0x26; 16], 64).icmpv6_echo_request(1, 2);
        packet.write(&mut frame, &[]).expect("to memory");
        let told = event(&frame, frame.len(), Verdict::new(Action::Drop, pseudo::DEFAULT));
        let address = |byte: &str| vec![byte.repeat(2); 8].join(":");
        assert_eq!(told.to_string(), format!("drop lan0 {} -> {} icmpv6/128/0, default", address("fd"), address("26")));
        let cut = event(&frame[..60], 60, Verdict::new(Action::Drop, pseudo::MALFORMED));
        let flow = format!("{} -> {} icmpv6", address("fd"), address("26"));
        assert_eq!(
            cut.to_string(),
            format!("drop lan0 {flow}, malformed: a length contradicts the frame or another length")
        );
        let other = event(&[2; 60], 60, Verdict::new(Action::Monitor, pseudo::NON_IP));
        assert_eq!(other.to_string(), "monitor lan0 non-ip: EtherType 0x0202");
    }

    #[test]
    fn any_bytes_make_an_event() {
        for length in 0..=CAPTURE {
            for fill in [0, 0x45, 0x60, 0xff] {
                let mut frame = vec![fill; length];
                if let Some(kind) = frame.get_mut(12..14) {
                    kind.copy_from_slice(&[0x86, 0xdd]);
                }
                event(&frame, 9000, Verdict(u32::MAX)).to_string();
            }
        }
    }
}
