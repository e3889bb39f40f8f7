//! Listening on addresses that an interface gets later.

use std::{io, net::SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

/// Binds a socket to an address. If no interface has the address yet, clients reach the socket once
/// one has it: a LAN may come after the start.
///
/// # Errors
/// If the address is taken, or may not be had.
pub fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
        done => return done,
    }
    // The option of IPv4 also has this effect on sockets of IPv6.
    setsockopt(socket, sockopt::IpFreebind, &true)?;
    socket.bind(&address.into())?;
    let protocol = if socket.r#type()? == Type::DGRAM { "UDP" } else { "TCP" };
    tracing::warn!("no interface has the address {address} yet, which is to be served by {protocol}");
    Ok(())
}

/// Listens on an address, as [`bind`] says.
///
/// # Errors
/// If the address is taken, or may not be had.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections from before a restart do not count.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
