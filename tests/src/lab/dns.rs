//! A DNS client that shares no code with the product. Everything here works in the namespace of the calling thread.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::Result;

/// The type of IPv4 addresses.
pub const A: u16 = 1;
/// The type of IPv6 addresses.
pub const AAAA: u16 = 28;
/// The type of texts.
pub const TXT: u16 = 16;
/// The type of service bindings for HTTP.
pub const HTTPS: u16 = 65;

/// Response codes.
pub mod rcodes {
    /// The query makes no sense.
    pub const FORMERR: u8 = 1;
    /// Nobody could answer.
    pub const SERVFAIL: u8 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u8 = 3;
    /// That is not done here.
    pub const NOTIMP: u8 = 4;
    /// That is not told.
    pub const REFUSED: u8 = 5;
}

/// Long enough for every upstream to be tried.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// A query in class IN that asks for recursion.
pub fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut message = rand::random::<u16>().to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// The same with an OPT record: the size of answers, whether DNSSEC is understood, and options.
pub fn with_edns(mut query: Vec<u8>, size: u16, dnssec: bool, options: &[u8]) -> Vec<u8> {
    query[11] = 1;
    query.extend([0, 0, 41]);
    query.extend(size.to_be_bytes());
    query.extend([0, 0, if dnssec { 0x80 } else { 0 }, 0]);
    query.extend((options.len() as u16).to_be_bytes());
    query.extend(options);
    query
}

/// All kinds of questions to the lab's resolvers, with and without EDNS.
pub fn questions() -> Vec<Vec<u8>> {
    let names = [
        ("www.lab.example", A),
        ("WwW.LaB.eXaMpLe", AAAA),
        ("a.b.wild.lab.example", A),
        ("x.wild.lab.example", AAAA),
        ("many.lab.example", A),
        ("medium.lab.example", TXT),
        ("large.lab.example", TXT),
        ("service.lab.example", HTTPS),
        ("www.lab.example", 65_280),
        ("nothing.lab.example", A),
        ("edge.old.lab.example", A),
    ];
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let forms = names.iter().flat_map(|(name, kind)| {
        let plain = query(name, *kind);
        let small = with_edns(plain.clone(), 1232, true, &[]);
        let large = with_edns(plain.clone(), 4096, false, &cookie);
        [plain, small, large]
    });
    let mut all: Vec<Vec<u8>> = forms.collect();
    let mut checking_disabled = query("www.lab.example", A);
    checking_disabled[3] |= 0x30;
    let mut chaos = query("version.bind", TXT);
    let class = chaos.len() - 1;
    chaos[class] = 3;
    all.extend([checking_disabled, chaos]);
    all
}

/// An answer to a query with one record, whose owner is the question's name.
pub fn answer(query: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[7] = 1;
    message[10..12].copy_from_slice(&[0, 0]);
    message.truncate(12 + question(query).len());
    message.extend([0xc0, 12]);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message.extend(ttl.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message
}

/// A socket with room for thousands of messages.
pub fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    let bytes: libc::c_int = 8 << 20;
    // SAFETY: an open descriptor, and a number that outlives the call with its true length.
    let refused = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const bytes).cast(), length)
    };
    anyhow::ensure!(refused == 0, "no larger buffer: {}", std::io::Error::last_os_error());
    Ok(socket)
}

/// Asks by UDP; nothing if no answer comes from the very address that was asked.
pub fn ask_udp(server: SocketAddr, query: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    socket.send(query)?;
    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; 65_535];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv(&mut buffer) {
            Ok(length) if buffer[..2] == query[..2] => return Ok(Some(buffer[..length].to_vec())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks on a new connection.
pub fn ask_tcp(server: SocketAddr, query: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    send(&stream, query)?;
    receive(&mut stream)
}

/// Sends a message on a connection.
pub fn send(mut stream: &TcpStream, message: &[u8]) -> Result<()> {
    stream.write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())?;
    Ok(())
}

/// The next message of a connection.
pub fn receive(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A message's question.
pub fn question(message: &[u8]) -> &[u8] {
    let name = message[12..].iter().position(|byte| *byte == 0).unwrap_or_default();
    &message[12..][..name + 5]
}

/// A message's response code.
pub fn rcode(message: &[u8]) -> u8 {
    message[3] & 15
}
