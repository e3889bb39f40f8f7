//! An upstream resolver that does what a test wants.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use super::{Lab, dns};

/// A running upstream; dropping it stops it.
pub struct Upstream {
    /// Where it takes queries.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts one on an address of the internet's; `serve` gets its socket, who asks, and each query.
    pub fn start(
        lab: &Lab,
        address: &str,
        mut serve: impl FnMut(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
    ) -> Result<Self> {
        let address = SocketAddr::new(address.parse()?, 53);
        let socket = lab.internet.enter(|| dns::bind(address))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    serve(&socket, from, &buffer[..length]);
                }
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
