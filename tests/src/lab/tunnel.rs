//! A cable without link-layer headers: two tun devices and a thread that carries packets between them.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, bail};

use super::Namespace;

/// The cable; dropping it removes both devices.
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Lays a cable between a device in one namespace and a device in another.
    pub fn new(one: &Namespace, name: &str, other: &Namespace, other_name: &str) -> Result<Self> {
        let (mut left, mut right) = (device(one, name)?, device(other, other_name)?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if !carry(&mut left, &mut right, &mut buffer) && !carry(&mut right, &mut left, &mut buffer) {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Carries one packet, if there is one. A device that is down loses packets, as a cable does.
fn carry(from: &mut File, to: &mut File, buffer: &mut [u8]) -> bool {
    match from.read(buffer) {
        Ok(length) => {
            let _ = to.write(&buffer[..length]);
            true
        }
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn device(namespace: &Namespace, name: &str) -> Result<File> {
    const SET_INTERFACE: libc::c_ulong = 0x4004_54ca; // TUNSETIFF
    namespace.enter(|| {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // SAFETY: plain data; zero bytes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            // Signed on some machines only.
            *slot = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: an open descriptor and a request that outlives the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), SET_INTERFACE, &raw mut request) } != 0 {
            bail!("cannot make tun device {name}: {}", std::io::Error::last_os_error());
        }
        Ok(file)
    })
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
