//! What is expected of IP packets, by where they are seen.

use std::{collections::HashSet, net::IpAddr};

use super::{
    Expected, Hook, Policy,
    net::{BROADCAST, in_lan, is_own},
    policy::{Seen, Upper},
    portal::STATIONS,
};

/// A connection seen from inside: addresses and ports, inside first, and protocol.
type Flow = (IpAddr, IpAddr, u16, u16, u8);

/// A policy with what it has seen.
pub struct World<'a> {
    /// The rules.
    pub policy: &'a Policy,
    replies: HashSet<Flow>,
    /// Which station clients' frames are from.
    pub station: [u8; 6],
}

impl<'a> World<'a> {
    /// Nothing seen yet.
    pub fn new(policy: &'a Policy) -> Self {
        Self { policy, replies: HashSet::new(), station: STATIONS[0] }
    }

    /// What should become of a packet in one piece, or a head.
    pub fn judge(&self, hook: Hook, packet: &Seen) -> Expected {
        if let Some(expected) = before_rules(self.policy, hook, packet) {
            return expected;
        }
        let ruled =
            if hook == Hook::Router { self.policy.router(packet) } else { self.policy.lan(packet, self.station) };
        let (inside, outside) = ports(packet.upper);
        let reply = self.replies.contains(&(packet.from, packet.to, inside, outside, packet.protocol));
        if !ruled.allowed && reply { Expected::new(true, "reply") } else { ruled }
    }

    /// What should become of a later fragment; `head` is what became of its head, if that came before and is not overlapped.
    pub fn judge_later(&self, hook: Hook, packet: &Seen, head: Option<&Expected>) -> Expected {
        before_rules(self.policy, hook, packet).unwrap_or_else(|| match head {
            // Neighbour discovery is not fragmented (RFC 6980): nobody waits for the rest.
            Some(head) if head.passes && head.counter != "local" => head.clone(),
            _ => Expected::new(false, "fragment"),
        })
    }

    /// What should become of an ICMP error that quotes a packet; the quoted one was sent to `quoted.to`.
    pub fn judge_error(&self, hook: Hook, error: &Seen, quoted: &Seen) -> Expected {
        let plain = self.judge(hook, error);
        if plain.allowed || before_rules(self.policy, hook, error).is_some() || quoted.from != error.to {
            return plain;
        }
        let (outside, inside) = ports(quoted.upper);
        // The connection as its inner end would speak in it.
        let answer =
            Seen { from: quoted.to, to: quoted.from, protocol: quoted.protocol, upper: Upper::Ports(inside, outside) };
        let may_be = quoted.to == error.from
            && matches!(quoted.upper, Upper::Ports(..))
            && (self.policy.lan(&answer, self.station).passes
                || self.replies.contains(&(answer.from, answer.to, inside, outside, answer.protocol)));
        if hook == Hook::Router || may_be { Expected::new(true, "icmp-error") } else { plain }
    }

    /// Sees a packet from outside: if an inbound rule allows it, and it may begin a connection, its
    /// replies may pass.
    pub fn receive(&mut self, hook: Hook, packet: &Seen, opens: bool) {
        let begins = opens && !is_icmp_error(packet);
        if begins && (hook == Hook::Forwarded || is_own(packet.to)) && self.policy.inbound(packet) {
            let (outside, inside) = ports(packet.upper);
            self.replies.insert((packet.to, packet.from, inside, outside, packet.protocol));
        }
    }
}

/// Whether a packet reports that another one was not delivered: it begins no connection.
fn is_icmp_error(packet: &Seen) -> bool {
    match packet.upper {
        Upper::Icmp([kind, _], _) if packet.to.is_ipv6() => kind < 128,
        Upper::Icmp([kind, _], _) => [3, 4, 5, 11, 12].contains(&kind),
        _ => false,
    }
}

/// What connections are told apart by.
fn ports(upper: Upper) -> (u16, u16) {
    match upper {
        Upper::Ports(source, destination) => (source, destination),
        Upper::Icmp(_, Some(id)) => (id, id),
        _ => (0, 0),
    }
}

/// What is settled before any rule.
fn before_rules(policy: &Policy, hook: Hook, &Seen { from, to, protocol, upper }: &Seen) -> Option<Expected> {
    let link_local = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let everybody = to == IpAddr::from([255; 4]) || to.is_multicast();
    let local = in_lan(to) || everybody || (to.is_ipv6() && link_local(to));
    let belongs = in_lan(from) && !is_own(from) && from != BROADCAST;
    let believed = belongs || (local && (link_local(from) || from.is_unspecified()));
    if policy.strict_sources && matches!(hook, Hook::Lan(_)) && !believed {
        return Some(Expected::new(false, "source"));
    }
    let tunnel =
        matches!(protocol, 4 | 41 | 47) || (protocol == 17 && matches!(upper, Upper::Ports(_, 4789 | 8472 | 6081)));
    let neighbour = in_lan(to) && !is_own(to) && to != BROADCAST;
    let discovery = hook == Hook::Router && protocol == 58 && matches!(upper, Upper::Icmp([133..=137, _], _));
    ((local && (neighbour || !tunnel)) || discovery).then(|| Expected::new(true, "local"))
}
