//! Real connections, and what becomes of them.

use std::{
    fmt,
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use super::{Namespace, server::GREETING};

/// Long enough for two namespaces on one machine, under load.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Answered,
    /// Somebody said no.
    Refused,
    /// Nobody said anything.
    Silence,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Silence => "silence",
        })
    }
}

/// Connects and waits for the greeting.
pub fn tcp(from: &Namespace, to: &str, port: u16) -> Result<Outcome> {
    let any = if to.contains(':') { "::" } else { "0.0.0.0" };
    tcp_from(from, any, to, port)
}

/// The same from one of several addresses.
pub fn tcp_from(from: &Namespace, source: &str, to: &str, port: u16) -> Result<Outcome> {
    let address = SocketAddr::new(to.parse::<IpAddr>()?, port);
    let source = SocketAddr::new(source.parse::<IpAddr>()?, 0);
    from.enter(|| {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.bind(&source.into())?;
        if let Err(error) = socket.connect_timeout(&address.into(), PATIENCE) {
            return Ok(outcome(error.kind()));
        }
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = [0; GREETING.len()];
        Ok(match stream.read_exact(&mut greeting) {
            Ok(()) => Outcome::Answered,
            Err(error) => outcome(error.kind()),
        })
    })
}

/// Sends a datagram of some size and waits for its echo.
pub fn udp(from: &Namespace, to: &str, port: u16, size: usize) -> Result<Outcome> {
    let any = if to.contains(':') { "::" } else { "0.0.0.0" };
    echo(from, any, to, port, size)
}

/// The same from one of several addresses.
pub fn echo(from: &Namespace, source: &str, to: &str, port: u16, size: usize) -> Result<Outcome> {
    let address = SocketAddr::new(to.parse::<IpAddr>()?, port);
    let source = SocketAddr::new(source.parse::<IpAddr>()?, 0);
    from.enter(|| {
        let socket = UdpSocket::bind(source)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let sent = vec![7; size];
        socket.connect(address)?;
        socket.send(&sent)?;
        let mut buffer = vec![0; 65_536];
        Ok(match socket.recv(&mut buffer) {
            Ok(length) if buffer[..length] == sent => Outcome::Answered,
            Ok(_) => Outcome::Silence,
            Err(error) => outcome(error.kind()),
        })
    })
}

/// Sends a datagram from an address and port to a port where nobody listens; refused if word of that comes back.
pub fn udp_from(from: &Namespace, source: (&str, u16), to: (&str, u16)) -> Result<Outcome> {
    let [source, to] = [source, to].map(|(address, port)| Ok(SocketAddr::new(address.parse::<IpAddr>()?, port)));
    let (source, to): (Result<_>, Result<_>) = (source, to);
    let (source, to) = (source?, to?);
    from.enter(|| {
        let socket = UdpSocket::bind(source)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"x")?;
        Ok(socket.recv(&mut [0; 16]).map_or_else(|error| outcome(error.kind()), |_| Outcome::Answered))
    })
}

/// Sends many datagrams as fast as it goes, and waits for nothing.
pub fn udp_flood(from: &Namespace, to: &str, port: u16, count: u64) -> Result<()> {
    let address = SocketAddr::new(to.parse::<IpAddr>()?, port);
    from.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..count {
            // An answer to an earlier one makes a send fail; the next one goes out again.
            let _ = socket.send_to(b"x", address);
        }
        Ok(())
    })
}

/// Sends a datagram that asks routers to take it another way (RFC 791, loose source route), and waits for nothing.
pub fn source_routed(from: &Namespace, to: &str, port: u16) -> Result<()> {
    let address = SocketAddr::new(to.parse::<IpAddr>()?, port);
    from.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let options: [u8; 8] = [131, 7, 4, 10, 1, 0, 1, 0];
        // SAFETY: an open descriptor, and options that outlive the call with their true length.
        let refused = unsafe {
            let length = options.len() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, options.as_ptr().cast(), length)
        };
        anyhow::ensure!(refused == 0, "no source route: {}", std::io::Error::last_os_error());
        socket.send_to(b"x", address)?;
        Ok(())
    })
}

/// One echo request.
pub fn ping(from: &Namespace, to: &str) -> Outcome {
    match from.run(&format!("ping -c1 -W1 {to}")) {
        Ok(()) => Outcome::Answered,
        Err(_) => Outcome::Silence,
    }
}

fn outcome(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silence,
        _ => Outcome::Refused,
    }
}
