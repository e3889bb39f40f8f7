//! Random frames, with what should become of them.

use std::net::IpAddr;

use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    Expected, Frame, Hook, LanProgram, Policy, Random, damaged,
    headers::{ETHERNET, Network, Transport, kind_of, link},
    net::{LAN4, LAN6, OWN4, OWN6, client, internet4, internet6},
    policy::{Seen, Upper},
    portal::STATIONS,
    world::World,
};

/// Frames for one policy, without end.
pub struct Generator<'a> {
    rng: Random,
    world: World<'a>,
    /// Identification of the next fragmented packet: the programs remember heads across packets.
    id: u32,
}

impl<'a> Generator<'a> {
    /// Frames of a random order.
    pub fn new(rng: Random, policy: &'a Policy) -> Self {
        Self { rng, world: World::new(policy), id: 0 }
    }

    /// One frame, or several that belong together, in the order in which they are to be sent.
    pub fn group(&mut self) -> Vec<Frame> {
        let rng = &mut self.rng;
        let hook = match rng.random_range(0..100) {
            0..45 => Hook::Lan(LanProgram::Xdp),
            45..60 => Hook::Lan(LanProgram::XdpFrags),
            60..80 => Hook::Lan(LanProgram::Tc),
            _ => Hook::Router,
        };
        self.world.station = *STATIONS.choose(rng).expect("three");
        let mut frames = match rng.random_range(0..1000) {
            0..40 => vec![runnable(without_ip(rng, hook))],
            40..100 => self.fragments(hook),
            100..200 => vec![runnable(damaged::frame(rng, hook, self.world.policy))],
            200..280 => self.exchange(),
            // Few: the programs pass a thousand a second.
            280..290 => vec![self.error(hook)],
            _ => vec![self.whole(hook)],
        };
        for frame in frames.iter_mut().filter(|frame| matches!(frame.hook, Hook::Lan(_))) {
            frame.bytes[6..12].copy_from_slice(&self.world.station);
        }
        frames
    }

    fn whole(&mut self, hook: Hook) -> Frame {
        let rng = &mut self.rng;
        let v6 = rng.random_bool(0.4);
        let (mut from, mut to) = (sender(rng, hook, v6), destination(rng, self.world.policy, v6));
        let special = |rng: &mut Random, v4: &[&str], v6s: &[&str]| -> IpAddr {
            (if v6 { v6s } else { v4 }).choose(rng).expect("some").parse().expect("an address")
        };
        if rng.random_bool(0.06) {
            to = special(
                rng,
                &["10.1.0.1", "10.1.0.77", "10.1.0.255", "224.0.0.251", "255.255.255.255", "169.254.1.1", "10.1.1.0"],
                &["fd00:1::1", "fd00:1::77", "ff02::1", "fe80::1", "fd00:1:0:1::1"],
            );
        }
        if rng.random_bool(0.06) {
            from = special(
                rng,
                &["10.1.0.1", "10.1.0.255", "10.1.1.2", "17.1.2.3", "0.0.0.0", "169.254.3.4", "224.0.0.1", "127.0.0.1"],
                &["fd00:1::1", "fd00:1:0:1::2", "2620:149::5", "::", "fe80::3", "ff02::1", "::1"],
            );
        }
        let transport = Transport::random(rng, v6);
        let seen = Seen { from, to, protocol: transport.protocol, upper: transport.upper };
        let mut bytes = frame(rng, &seen, &transport, None);
        // Ethernet pads short frames.
        if rng.random_bool(0.2) {
            bytes.extend([0; 20]);
        }
        Frame { hook, bytes, expected: Some(self.world.judge(hook, &seen)), what: format!("{seen:?}") }
    }

    /// A whole packet without VLAN tags from a client to the internet, as any router forwards it: what others judge, too. Some come in a stranger's name.
    pub fn forwarded(&mut self) -> Frame {
        /// What a cable carries without jumbo frames.
        const LONGEST: usize = 14 + 1500;
        loop {
            let frame = self.plain();
            // Linux walks through an authentication header, though it be none: only where it comes first, a filter can tell.
            let hidden =
                frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes[20] != 51 && frame.what.contains("protocol: 51,");
            if frame.bytes.len() <= LONGEST && !hidden {
                return frame;
            }
        }
    }

    fn plain(&mut self) -> Frame {
        let hook = Hook::Lan(LanProgram::Xdp);
        let rng = &mut self.rng;
        let v6 = rng.random_bool(0.4);
        let to = loop {
            let to = destination(rng, self.world.policy, v6);
            if is_routed(to) {
                break to;
            }
        };
        let from = match (rng.random_bool(0.03), v6) {
            (true, false) => *[[10, 1, 1, 2], [17, 1, 2, 3]].map(IpAddr::from).choose(rng).expect("two"),
            (true, true) => stranger(rng, true),
            // Linux believes nobody who has the number of a network itself.
            (false, _) => std::iter::repeat_with(|| client(rng, v6))
                .find(|client| ![LAN4.address, LAN6.address].contains(client))
                .expect("without end"),
        };
        let transport = Transport::random(rng, v6);
        let seen = Seen { from, to, protocol: transport.protocol, upper: transport.upper };
        let mut bytes = ETHERNET.to_vec();
        bytes.extend(kind_of(to).to_be_bytes());
        let Transport { protocol, hop_limit, .. } = transport;
        Network { from, to, protocol, hop_limit, part: None, payload: &transport.bytes }.random(rng, &mut bytes);
        Frame { hook, bytes, expected: Some(self.world.judge(hook, &seen)), what: format!("{seen:?}") }
    }

    /// A head with its later parts: in order, overlapping, or orphaned.
    fn fragments(&mut self, hook: Hook) -> Vec<Frame> {
        let rng = &mut self.rng;
        let v6 = rng.random_bool(0.4);
        let (from, to) = (sender(rng, hook, v6), destination(rng, self.world.policy, v6));
        let mut transport = Transport::random(rng, v6);
        let cut = (transport.header.max(8) + rng.random_range(0..16)).next_multiple_of(8);
        transport.bytes.resize(cut, 0);
        if matches!(transport.protocol, 17 | 136) {
            // Length, or what the checksum covers, of the whole.
            transport.bytes[4..6].copy_from_slice(&2000_u16.to_be_bytes());
        }
        self.id += 1;
        let id = self.id;
        let seen = Seen { from, to, protocol: transport.protocol, upper: transport.upper };
        let head = self.world.judge(hook, &seen);
        let mut frames = Vec::new();
        let mut add = |rng: &mut Random, payload: &[u8], offset, more, expected| {
            let what = format!("part at {offset} of {seen:?}");
            let part = Transport { bytes: payload.to_vec(), ..transport };
            let bytes = frame(rng, &seen, &part, Some((id, offset, more)));
            frames.push(Frame { hook, bytes, expected: Some(expected), what });
        };
        let orphan = rng.random_bool(0.2);
        if !orphan {
            add(rng, &transport.bytes, 0, true, head.clone());
        }
        let later = Seen { upper: Upper::Nothing, ..seen };
        for _ in 0..rng.random_range(1..4) {
            let overlap = cut >= 16 && rng.random_bool(0.2);
            let offset = if overlap { rng.random_range(1..cut / 8) * 8 } else { cut + 8 * rng.random_range(0..20) };
            let follows = (!orphan && offset >= cut).then_some(&head);
            let expected = self.world.judge_later(hook, &later, follows);
            let more = rng.random();
            add(rng, &[9; 16], offset, more, expected);
        }
        frames
    }

    /// A packet from outside, to a client or the gateway, and an answer or something like one.
    fn exchange(&mut self) -> Vec<Frame> {
        let rng = &mut self.rng;
        let v6 = rng.random_bool(0.4);
        let outside = stranger(rng, v6);
        let (arrival, inside, hook) = if rng.random() {
            (Hook::Forwarded, client(rng, v6), Hook::Lan(LanProgram::Xdp))
        } else {
            let own = if v6 { OWN6 } else { OWN4 };
            (Hook::Outside, if rng.random_bool(0.9) { own } else { stranger(rng, v6) }, Hook::Router)
        };
        let request = Transport::random(rng, v6);
        let seen = Seen { from: outside, to: inside, protocol: request.protocol, upper: request.upper };
        let bytes = frame(rng, &seen, &request, None);
        self.world.receive(arrival, &seen, request.opens);
        let mut frames = vec![Frame { hook: arrival, bytes, expected: None, what: format!("from outside {seen:?}") }];
        let mut answer = request;
        answer.upper = match answer.upper {
            Upper::Ports(source, destination) => {
                let port = if rng.random_bool(0.8) { source } else { source ^ 1 };
                answer = Transport::with_ports(rng, answer.protocol, destination, port, &[7; 9]);
                answer.upper
            }
            // An echo is answered by its reply; the rest by the like.
            Upper::Icmp([8 | 128, code], id) => {
                answer.bytes[0] = if v6 { 129 } else { 0 };
                Upper::Icmp([answer.bytes[0], code], id)
            }
            other => other,
        };
        let seen = Seen { from: inside, to: outside, protocol: answer.protocol, upper: answer.upper };
        let bytes = frame(rng, &seen, &answer, None);
        let expected = Some(self.world.judge(hook, &seen));
        frames.push(Frame { hook, bytes, expected, what: format!("answer {seen:?}") });
        frames
    }

    /// An ICMP error, about a packet to its sender or about one that is none of its business.
    fn error(&mut self, hook: Hook) -> Frame {
        let rng = &mut self.rng;
        let v6 = rng.random_bool(0.4);
        let (from, to) = (sender(rng, hook, v6), destination(rng, self.world.policy, v6));
        // The server's port is the source of what is quoted.
        let quoted = Transport::random(rng, v6);
        let quoted = match quoted.upper {
            Upper::Ports(client, server) => Transport::with_ports(rng, quoted.protocol, server, client, &[]),
            _ => quoted,
        };
        let mut about = Seen { from: to, to: from, protocol: quoted.protocol, upper: quoted.upper };
        match rng.random_range(0..8) {
            0 => about.to = client(rng, v6),
            1 => about.from = destination(rng, self.world.policy, v6),
            _ => {}
        }
        let mut bytes = Vec::new();
        let (protocol, message) = if v6 {
            let message = [rng.random_range(1..5_u8), rng.random_range(0..5)];
            let [type_u8, code_u8] = message;
            let header = Icmpv6Header::new(Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8: [0; 4] });
            header.write(&mut bytes).expect("to memory");
            (58, message)
        } else {
            let message = [*[3, 11, 12].choose(rng).expect("three"), rng.random_range(0..5)];
            let [type_u8, code_u8] = message;
            let header = Icmpv4Header::new(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8: [0; 4] });
            header.write(&mut bytes).expect("to memory");
            (1, message)
        };
        let payload = [&quoted.bytes[..], &[0; 8]].concat();
        Network {
            from: about.from,
            to: about.to,
            protocol: quoted.protocol,
            hop_limit: 1,
            part: None,
            payload: &payload,
        }
        .plain(&mut bytes);
        let seen = Seen { from, to, protocol, upper: Upper::Icmp(message, None) };
        let mut frame = link(rng, kind_of(to));
        Network { from, to, protocol, hop_limit: 64, part: None, payload: &bytes }.plain(&mut frame);
        let expected = Some(self.world.judge_error(hook, &seen, &about));
        Frame { hook, bytes: frame, expected, what: format!("{seen:?} about {about:?}") }
    }
}

/// Test runs of TC programs refuse frames that end within the network header which their EtherType announces: XDP gets those.
fn runnable(frame: Frame) -> Frame {
    let least = match frame.bytes[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 14 + 1,
    };
    let hook = if frame.bytes.len() < least { Hook::Lan(LanProgram::Xdp) } else { frame.hook };
    Frame { hook, ..frame }
}

fn frame(rng: &mut Random, seen: &Seen, transport: &Transport, part: Option<(u32, usize, bool)>) -> Vec<u8> {
    let &Seen { from, to, protocol, .. } = seen;
    let mut bytes = link(rng, kind_of(to));
    let network = Network { from, to, protocol, hop_limit: transport.hop_limit, part, payload: &transport.bytes };
    network.random(rng, &mut bytes);
    bytes
}

/// Somebody whom the policy may know, or just not.
pub fn destination(rng: &mut Random, policy: &Policy, v6: bool) -> IpAddr {
    let service = policy.services.choose(rng).expect("a policy has services");
    let near = service.to.choose(rng).expect("a service has prefixes").near(rng);
    if near.is_ipv6() == v6 { near } else { stranger(rng, v6) }
}

fn stranger(rng: &mut Random, v6: bool) -> IpAddr {
    if v6 { internet6(rng).into() } else { internet4(rng).into() }
}

/// Whose packets a hook sees.
pub fn sender(rng: &mut Random, hook: Hook, v6: bool) -> IpAddr {
    match hook {
        Hook::Router if v6 => OWN6,
        Hook::Router => OWN4,
        _ => client(rng, v6),
    }
}

/// Whether a router forwards packets to an address, none of whose networks is its own. Beside what is local or special, it is none of the lab's WAN.
fn is_routed(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => {
            let [first, second, third, _] = to.octets();
            (1..224).contains(&first)
                && first != 127
                && !to.is_link_local()
                && [first, second] != [10, 1]
                && [first, second, third] != [198, 51, 100]
        }
        IpAddr::V6(to) => {
            let [first, second, third, ..] = to.segments();
            (0x100..0xfe80).contains(&first)
                && [first, second] != [0xfd00, 1]
                && [first, second, third] != [0x2001, 0xdb8, 0xffff]
        }
    }
}

fn without_ip(rng: &mut Random, hook: Hook) -> Frame {
    let (kind, exempt) = *[
        (0x0806, true),
        (0x8809, true),
        (0x888e, true),
        (0x88cc, true),
        (0x0026, true),
        (0x05ff, true),
        (0x0600, false),
        (0x8863, false),
        (0x8864, false),
        (0x8847, false),
        (0xffff, false),
    ]
    .choose(rng)
    .expect("some");
    let mut bytes = link(rng, kind);
    bytes.extend((0..rng.random_range(0..50)).map(|_| rng.random::<u8>()));
    let expected = if exempt { Expected::new(true, "non-ip-exempt") } else { Expected::new(false, "non-ip") };
    Frame { hook, bytes, expected: Some(expected), what: format!("EtherType {kind:#06x}") }
}
