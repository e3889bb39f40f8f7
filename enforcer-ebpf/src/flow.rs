//! Connections from outside: how long their replies pass.
//!
//! States are those of Linux's connection tracking (`nf_conntrack_proto_tcp.c` and its neighbours) as far as they have time-outs that differ by more
//! than a few minutes.

use crate::{
    abi::{Flow, flow},
    headers::{protocol, tcp},
};

/// Who sent a packet of a connection from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The one that opened it.
    Outside,
    /// The one that it was opened to.
    Inside,
}

/// Whether a connection begins with a packet: of TCP, with a SYN alone (RFC 9293, 3.10.7.2). Any
/// other segment from outside may be an answer to a connection of a client's own.
#[must_use]
#[inline(always)]
pub const fn opens(protocol: u8, flags: u8) -> bool {
    protocol != protocol::TCP || flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN
}

impl Flow {
    /// The connection as its first packet from outside shows it, which [`opens`] it.
    #[must_use]
    #[inline(always)]
    pub const fn opened(protocol: u8, now: u32) -> Self {
        let state = match protocol {
            protocol::TCP => flow::TCP_OPENING,
            protocol::UDP | protocol::UDPLITE => flow::UDP_OPENING,
            protocol::ICMP | protocol::ICMPV6 => flow::ICMP,
            protocol::SCTP => flow::SCTP,
            _ => flow::OTHER,
        };
        Self { seen: now, state }
    }

    /// Whether it is still remembered.
    #[must_use]
    #[inline(always)]
    pub const fn lives(self, now: u32, timeouts: &[u32; flow::STATES]) -> bool {
        now.wrapping_sub(self.seen) < timeouts[self.state as usize & (flow::STATES - 1)]
    }

    /// The connection behind another packet of it; `flags` are TCP's.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, sender: Sender, flags: u8, now: u32) -> Self {
        let inside = matches!(sender, Sender::Inside);
        let state = match self.state {
            flow::TCP | flow::TCP_OPENING if flags & (tcp::FIN | tcp::RST) != 0 => flow::TCP_CLOSING,
            // The same ports again (RFC 9293, 3.6.1).
            flow::TCP_CLOSING if !inside && opens(protocol::TCP, flags) => flow::TCP_OPENING,
            flow::TCP_OPENING if inside => flow::TCP,
            flow::UDP_OPENING if inside => flow::UDP,
            same => same,
        };
        Self { seen: now, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of `opened(protocol)` behind packets of a sender with flags.
    fn state(protocol: u8, packets: &[(Sender, u8)]) -> u32 {
        packets.iter().fold(Flow::opened(protocol, 0), |flow, &(sender, flags)| flow.with(sender, flags, 0)).state
    }

    #[test]
    fn each_state_follows_from_the_packets() {
        use Sender::{Inside, Outside};
        use tcp::ACK;
        let open = [(Inside, tcp::SYN | ACK), (Outside, ACK)];
        let finished = [(Inside, tcp::SYN | ACK), (Outside, tcp::FIN | ACK), (Inside, ACK)];
        assert_eq!(state(protocol::TCP, &[(Outside, tcp::SYN)]), flow::TCP_OPENING);
        assert_eq!(state(protocol::TCP, &open), flow::TCP);
        assert_eq!(state(protocol::TCP, &finished), flow::TCP_CLOSING);
        assert_eq!(state(protocol::TCP, &[(Inside, tcp::RST | ACK)]), flow::TCP_CLOSING);
        assert_eq!(state(protocol::TCP, &[(Inside, tcp::RST), (Outside, tcp::SYN)]), flow::TCP_OPENING);
        // Only its opener opens it again, and not by an answer.
        assert_eq!(state(protocol::TCP, &[(Inside, tcp::RST), (Outside, tcp::SYN | ACK)]), flow::TCP_CLOSING);
        assert_eq!(state(protocol::TCP, &[(Outside, tcp::RST), (Inside, tcp::SYN)]), flow::TCP_CLOSING);
        assert_eq!(state(protocol::UDP, &[(Outside, 0)]), flow::UDP_OPENING);
        assert_eq!(state(protocol::UDPLITE, &[(Inside, 0)]), flow::UDP);
        assert_eq!(state(protocol::ICMPV6, &[(Inside, 0)]), flow::ICMP);
        assert_eq!(state(47, &[(Inside, 0), (Outside, 0)]), flow::OTHER);
    }

    #[test]
    fn a_tcp_connection_opens_with_a_syn_alone() {
        let opening: Vec<u8> = (0..=u8::MAX).filter(|&flags| opens(protocol::TCP, flags)).collect();
        let flags = |bits: u8| [tcp::SYN, tcp::ACK, tcp::RST, tcp::FIN].map(|flag| bits & flag != 0);
        // Whatever PSH, URG, ECE and CWR are.
        assert_eq!(opening.len(), 16);
        assert!(opening.into_iter().all(|bits| flags(bits) == [true, false, false, false]));
        assert!(opens(protocol::UDP, 0) && opens(47, 0));
    }

    #[test]
    fn a_flow_lives_until_its_states_time_out_counted_from_its_last_packet() {
        let timeouts = [100, 10, 20, 5, 3, 2, 7, 9];
        let flow = Flow::opened(protocol::TCP, u32::MAX - 4);
        // The clock may wrap in between.
        assert!(flow.lives(4, &timeouts) && !flow.lives(5, &timeouts));
        let open = flow.with(Sender::Inside, 0, 4);
        assert!(open.lives(103, &timeouts) && !open.lives(104, &timeouts));
    }
}
