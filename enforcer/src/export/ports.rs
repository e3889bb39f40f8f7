//! Ports as other programs take them: by protocol, without overlaps.

use std::collections::BTreeMap;

use crate::{
    compile::ports::{Range, merged},
    policy::{PortMatch, Transport},
};

/// A service's ports, sorted and merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Every packet is meant; nothing else is in here.
    pub any: bool,
    /// Destination ports by protocol, ends included; neither overlapping nor touching.
    pub ranges: BTreeMap<Transport, Vec<Range>>,
    /// ICMP's types and codes; `None` is any.
    pub icmp: Vec<(Option<u8>, Option<u8>)>,
    /// ICMPv6's.
    pub icmpv6: Vec<(Option<u8>, Option<u8>)>,
    /// Other protocols.
    pub protocols: Vec<u8>,
}

/// All ports of a protocol.
pub const ALL: &[Range] = &[(0, u16::MAX as u32)];

impl Ports {
    /// Of a service.
    pub fn of(ports: &[PortMatch]) -> Self {
        if ports.contains(&PortMatch::Any) {
            return Self { any: true, ..Self::default() };
        }
        let mut all = Self::default();
        for port in ports {
            match *port {
                PortMatch::Any => {}
                PortMatch::Ports { transport, first, last } => {
                    all.ranges.entry(transport).or_default().push((first.into(), last.into()));
                }
                PortMatch::Icmp { kind, code } => all.icmp.push((kind, code)),
                PortMatch::Icmpv6 { kind, code } => all.icmpv6.push((kind, code)),
                PortMatch::Protocol(number) => all.protocols.push(number),
            }
        }
        for ranges in all.ranges.values_mut() {
            *ranges = merged(std::mem::take(ranges));
        }
        for kinds in [&mut all.icmp, &mut all.icmpv6] {
            // What a type without code takes needs no code besides.
            let wide = kinds.clone();
            let covered = |kind: &(Option<u8>, Option<u8>)| {
                wide.iter()
                    .any(|other| other != kind && (other.0.is_none() || (other.0 == kind.0 && other.1.is_none())))
            };
            kinds.retain(|kind| !covered(kind));
            kinds.sort_unstable();
            kinds.dedup();
        }
        all.protocols.sort_unstable();
        all.protocols.dedup();
        all
    }
}

/// A service's TCP ports, none for all of them; `None` if it has none of TCP.
pub fn tcp(ports: &[PortMatch]) -> Option<Vec<Range>> {
    let mut all = Ports::of(ports);
    if all.any {
        return Some(Vec::new());
    }
    let ranges = all.ranges.remove(&Transport::Tcp)?;
    Some(if ranges == ALL { Vec::new() } else { ranges })
}

/// `443` or `3478-3497`.
pub fn range(&(first, last): &Range) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::words;

    fn ports(list: &[&str]) -> Ports {
        Ports::of(&list.iter().map(|word| words::port(word).expect("a port")).collect::<Vec<_>>())
    }

    #[test]
    fn ranges_are_merged_and_kinds_that_others_cover_are_left_out() {
        let all =
            ports(&["tcp/80", "tcp/10-20", "tcp/21-30", "udp", "udp/53", "icmp/3/4", "icmp/3", "icmp/8", "proto/47"]);
        assert_eq!(all.ranges[&Transport::Tcp], [(10, 30), (80, 80)]);
        assert_eq!(all.ranges[&Transport::Udp], ALL);
        assert_eq!(all.icmp, [(Some(3), None), (Some(8), None)]);
        assert_eq!(all.protocols, [47]);
        assert_eq!(ports(&["icmp", "icmp/8"]).icmp, [(None, None)]);
        assert_eq!(ports(&["tcp/80", "any"]), Ports { any: true, ..Ports::default() });
    }
}
