//! Connections of clients: queries one behind the other, answers as they come (RFC 7766).

use std::{
    io,
    mem::zeroed,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time, try_join,
};

use super::{Hooks, MAX_TCP_QUERY, Service, Shared, places::Device, query::HEADER, stream, upstream::Transport};
use crate::net::listen;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;

/// Listens on an address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 may be another listener's.
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    // What is left of connections before a restart does not count.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    listen::bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Returns the index of the interface that a connection came in by. The listener's socket options
/// make the kernel store it.
pub fn interface(connection: &TcpStream) -> Option<u32> {
    let is_ipv6 = connection.local_addr().ok()?.is_ipv6();
    let (level, option) =
        if is_ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_2292PKTOPTIONS) } else { (libc::IPPROTO_IP, libc::IP_PKTOPTIONS) };
    // Aligned as control messages are.
    let mut control = [0_u64; 64];
    let mut length = size_of_val(&control) as libc::socklen_t;
    // SAFETY: an open descriptor, and a buffer that outlives the call with its true length.
    let result = unsafe {
        libc::getsockopt(connection.as_raw_fd(), level, option, control.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return None;
    }
    // SAFETY: zeros are a valid value of all fields.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = length as _;
    // SAFETY: the kernel has filled the control buffer, and has written its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !next.is_null() {
        // SAFETY: the macros return a header inside the buffer, or none, and the data after it,
        // which is read unaligned as the type that its level and type stand for.
        let index = unsafe {
            let data = libc::CMSG_DATA(next);
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    Some(data.cast::<libc::in_pktinfo>().read_unaligned().ipi_ifindex.cast_unsigned())
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    Some(data.cast::<libc::in6_pktinfo>().read_unaligned().ipi6_ifindex)
                }
                _ => None,
            }
        };
        if index.is_some() {
            return index;
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const message, next) };
    }
    None
}

/// Serves a connection until the client ends it, says nothing for too long, or does not take its answers.
pub(super) async fn serve<H: Hooks>(
    shared: Arc<Shared<H>>,
    mut connection: TcpStream,
    client: IpAddr,
    device: Device,
    service: Service,
) {
    // Answers are whole messages; waiting for more to send with them only costs time.
    let _ = connection.set_nodelay(true);
    let idle = shared.limits.idle;
    let (mut reader, mut writer) = connection.split();
    let (answers, mut queue) = mpsc::channel::<Vec<u8>>(1);
    let reading = async move {
        while let Ok(Ok(message)) = time::timeout(idle, stream::read_bounded(&mut reader, MAX_TCP_QUERY, HEADER)).await
        {
            // Over its rate or limit, the client's next queries stay in its own buffers.
            if let Some(rates) = shared.rates_of(service) {
                rates.wait(device).await;
            }
            let Some(place) = shared.queries.take(device).await else { break };
            let (shared, answers) = (Arc::clone(&shared), answers.clone());
            tokio::spawn(async move {
                if let Some(answer) = shared.answer(client, message, Transport::Tcp, &place).await {
                    // The connection may be gone.
                    let _ = answers.send(answer).await;
                }
                drop(place);
            });
        }
        // Answers that are still to come are written before the end.
        io::Result::Ok(())
    };
    let writing = async {
        while let Some(answer) = queue.recv().await {
            time::timeout(idle, stream::write(&mut writer, &answer)).await??;
        }
        Ok(())
    };
    // How a client's connection ends is the client's affair.
    let _ = try_join!(reading, writing);
}
