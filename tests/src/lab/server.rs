//! Servers that answer on every address of a namespace.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use super::{INTERNET, Lab, Namespace};

/// What a TCP server says first, and a UDP server answers.
pub const GREETING: &[u8] = b"hello\n";

/// Servers on ports of one namespace; dropping them stops them.
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Listens on TCP and UDP ports, IPv4 and IPv6. UDP only on the addresses of [`INTERNET`]: a socket for all addresses would answer from whichever
    /// the route prefers.
    pub fn start(namespace: &Namespace, tcp: &[u16], udp: &[u16]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut servers = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        // An IPv6 wildcard socket takes IPv4, too.
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        for &port in tcp {
            let listener = namespace.enter(|| Ok(TcpListener::bind(any(port))?))?;
            listener.set_nonblocking(true)?;
            let stop = Arc::clone(&stop);
            servers.threads.push(thread::spawn(move || {
                until(&stop, || {
                    let (mut stream, _) = listener.accept()?;
                    // A client that has gone already is none of the test's.
                    let _ = stream.write_all(GREETING);
                    Ok(())
                });
            }));
        }
        for (&port, address) in udp.iter().flat_map(|port| INTERNET.map(|address| (port, address))) {
            let address = SocketAddr::new(address.parse()?, port);
            let socket = namespace.enter(|| Ok(UdpSocket::bind(address)?))?;
            socket.set_nonblocking(true)?;
            let stop = Arc::clone(&stop);
            servers.threads.push(thread::spawn(move || {
                let mut buffer = [0; 65_536];
                until(&stop, || {
                    let (length, from) = socket.recv_from(&mut buffer)?;
                    let _ = socket.send_to(&buffer[..length], from);
                    Ok(())
                });
            }));
        }
        Ok(servers)
    }
}

/// Serves `hello` by HTTP on port 443 of every address of the internet, until the test's process ends.
pub fn web(lab: &Lab) -> Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443));
    let listener = lab.internet.enter(|| Ok(TcpListener::bind(any)?))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
        std::io::Result::Ok(())
    });
    Ok(())
}

fn until(stop: &AtomicBool, mut serve: impl FnMut() -> std::io::Result<()>) {
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = serve()
            && error.kind() == ErrorKind::WouldBlock
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
