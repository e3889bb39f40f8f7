//! What a frame is that nobody here has made: by another parser than the product's.

use anyhow::{Result, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{
    Expected, Hook,
    policy::{Seen, Upper},
    world::World,
};

/// What should become of it.
///
/// # Errors
/// If it is of a kind that no capture has had yet: a fragment, IPv6 with extension headers, a transport other than TCP, UDP and ICMP.
pub fn judge(world: &World<'_>, hook: Hook, frame: &[u8]) -> Result<Expected> {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return Ok(Expected::new(false, "malformed")) };
    let (from, to, protocol) = match &packet.net {
        Some(NetSlice::Arp(_)) => return Ok(Expected::new(true, "non-ip-exempt")),
        None => return Ok(Expected::new(false, "non-ip")),
        Some(NetSlice::Ipv4(net)) => {
            ensure!(!net.is_payload_fragmented(), "a fragment");
            let header = net.header();
            (header.source_addr().into(), header.destination_addr().into(), header.protocol().0)
        }
        Some(NetSlice::Ipv6(net)) => {
            ensure!(net.extensions().is_empty(), "an extension header");
            let header = net.header();
            (header.source_addr().into(), header.destination_addr().into(), header.next_header().0)
        }
    };
    let upper = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Upper::Ports(tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => Upper::Ports(udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(icmp)) => Upper::Icmp([icmp.type_u8(), icmp.code_u8()], None),
        Some(TransportSlice::Icmpv6(icmp)) => Upper::Icmp([icmp.type_u8(), icmp.code_u8()], None),
        other => bail!("protocol {protocol}: {other:?}"),
    };
    Ok(world.judge(hook, &Seen { from, to, protocol, upper }))
}
