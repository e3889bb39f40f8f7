//! Datagrams to and from clients, with the address of ours that each was sent to.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsRawFd as _,
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, cmsg_space, recvmsg, sendmsg, setsockopt,
        sockopt,
    },
};
use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::net::listen;

/// Room for a burst of queries. More than the system lets others have takes CAP_NET_ADMIN.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A datagram's two ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    own: IpAddr,
    /// The interface it came in by.
    pub interface: u32,
}

/// Listens on an address, which may be the unspecified one.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 may be another listener's.
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    // What the system allows is enough for all but bursts.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    listen::bind(&socket, address)?;
    UdpSocket::from_std(socket.into())
}

/// Waits for a datagram.
pub async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut control = [0; cmsg_space::<libc::in6_pktinfo>()];
            let mut parts = [IoSliceMut::new(buffer)];
            let received =
                recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
            let client = received.address.as_ref().and_then(client).ok_or(io::ErrorKind::InvalidData)?;
            let (own, interface) =
                received.cmsgs()?.find_map(|message| own(&message)).ok_or(io::ErrorKind::InvalidData)?;
            Ok((received.bytes, Ends { client, own, interface }))
        })
        .await
}

/// Sends a datagram back, from the address that the client's was sent to.
pub async fn send(socket: &UdpSocket, message: &[u8], ends: Ends) -> io::Result<()> {
    socket
        .async_io(Interest::WRITABLE, || {
            let parts = [IoSlice::new(message)];
            let to = SockaddrStorage::from(ends.client);
            let send = |from| sendmsg(socket.as_raw_fd(), &parts, &[from], MsgFlags::empty(), Some(&to));
            match ends.own {
                IpAddr::V4(own) => {
                    let address = libc::in_addr { s_addr: u32::from_ne_bytes(own.octets()) };
                    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
                    send(ControlMessage::Ipv4PacketInfo(&info))
                }
                IpAddr::V6(own) => {
                    let address = libc::in6_addr { s6_addr: own.octets() };
                    // Elsewhere, the route back decides.
                    let interface = if own.is_unicast_link_local() { ends.interface } else { 0 };
                    let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: interface };
                    send(ControlMessage::Ipv6PacketInfo(&info))
                }
            }?;
            Ok(())
        })
        .await
}

fn client(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

fn own(message: &ControlMessageOwned) -> Option<(IpAddr, u32)> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some((IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()), info.ipi_ifindex.cast_unsigned()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some((Ipv6Addr::from(info.ipi6_addr.s6_addr).into(), info.ipi6_ifindex))
        }
        _ => None,
    }
}
