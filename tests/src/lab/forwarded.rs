//! Frames as they are put on a client's cable, and which of them the gateway forwards to the internet.

use std::{
    collections::{BTreeSet, HashMap},
    io::{ErrorKind, Read as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::Ipv4Header;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Lab, Namespace, product::Enforcer};
use crate::oracle::ETHERNET;

/// Nothing comes any more when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(60);

/// A lab whose gateway forwards whatever no filter keeps it from.
pub struct Forwarded {
    client: Socket,
    internet: Socket,
}

impl Forwarded {
    /// Prepares a lab: the client's frames reach the gateway's card, and nobody answers them.
    pub fn new(lab: &Lab) -> Result<Self> {
        let [a, b, c, d, e, f, ..] = ETHERNET;
        lab.gateway.run(&format!("ip link set lan0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))?;
        // What the internet is asked must not wait for neighbours, nor be answered.
        let link = lab.internet.output("cat /sys/class/net/inet0/address")?;
        for next in ["198.51.100.2", "2001:db8:ffff::2"] {
            lab.gateway.run(&format!("ip neigh replace {next} lladdr {} dev wan0 nud permanent", link.trim()))?;
        }
        let deaf =
            "table inet deaf {\n chain everything { type filter hook prerouting priority raw; policy drop; }\n}\n";
        lab.internet.run(&format!("nft -f {}", lab.file("deaf.nft", deaf)?.display()))?;
        // Any source may be forwarded; connections that there are not need not be remembered.
        lab.gateway.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0")?;
        let client = packets(&lab.client, "eth0")?;
        let internet = packets(&lab.internet, "inet0")?;
        internet.set_recv_buffer_size(64 << 20)?;
        internet.set_read_timeout(Some(QUIET))?;
        Ok(Self { client, internet })
    }

    /// The numbers of the frames that came through. Each frame is told from the others by what [`number`] writes into it.
    pub fn through(&mut self, frames: &[Vec<u8>]) -> Result<BTreeSet<usize>> {
        let numbered: Vec<Vec<u8>> =
            frames.iter().enumerate().map(|(index, frame)| number(frame, index)).collect::<Result<_>>()?;
        let wanted: HashMap<Key, usize> =
            numbered.iter().enumerate().filter_map(|(index, frame)| Some((key(frame)?, index))).collect();
        ensure!(wanted.len() == frames.len(), "frames that cannot be told apart");
        let mut came = BTreeSet::new();
        // Few at a time: no queue on the way is to overflow.
        for part in numbered.chunks(200) {
            for frame in part {
                self.client.write_all(frame)?;
            }
            self.take(&wanted, &mut came, Duration::from_micros(500))?;
        }
        self.take(&wanted, &mut came, QUIET)?;
        Ok(came)
    }

    fn take(&mut self, wanted: &HashMap<Key, usize>, came: &mut BTreeSet<usize>, patience: Duration) -> Result<()> {
        self.internet.set_read_timeout(Some(patience))?;
        let mut buffer = [0; 2048];
        loop {
            match self.internet.read(&mut buffer) {
                Ok(length) => came.extend(key(&buffer[..length]).and_then(|key| wanted.get(&key))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Puts a policy in force in the lab's gateway.
pub fn apply(lab: &Lab, enforcer: &Enforcer, policy: &str) -> Result<()> {
    let file = lab.file("next.toml", policy)?;
    enforcer.ask(&format!("apply {}", file.display())).map(|_| ())
}

/// A number and a destination.
type Key = (u16, Vec<u8>);

/// Writes a number where a router leaves it: IPv4's identification, the flow label of IPv6.
fn number(frame: &[u8], number: usize) -> Result<Vec<u8>> {
    let mut frame = frame.to_vec();
    let number = u16::try_from(number + 1)?;
    if frame[12..14] == [0x08, 0x00] {
        let (mut header, payload) = Ipv4Header::from_slice(&frame[14..])?;
        let payload = payload.to_vec();
        header.identification = number;
        header.header_checksum = header.calc_header_checksum();
        frame.truncate(14);
        header.write(&mut frame)?;
        frame.extend(payload);
    } else {
        frame[16..18].copy_from_slice(&number.to_be_bytes());
    }
    Ok(frame)
}

fn key(frame: &[u8]) -> Option<Key> {
    let (number, to) = match frame.get(12..14)? {
        [0x08, 0x00] => (frame.get(18..20)?, frame.get(30..34)?),
        [0x86, 0xdd] => (frame.get(16..18)?, frame.get(38..54)?),
        _ => return None,
    };
    Some((u16::from_be_bytes(number.try_into().ok()?), to.to_vec()))
}

/// A socket for whole frames on an interface.
pub fn packets(namespace: &Namespace, interface: &str) -> Result<Socket> {
    namespace.enter(|| {
        let every = i32::from((libc::ETH_P_ALL as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(every)))?;
        // SAFETY: plain data, for which zeros are valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = if_nametoindex(interface)?.cast_signed();
        // SAFETY: an address of its type, with its true length.
        let (_, address) = unsafe {
            socket2::SockAddr::try_init(|storage, length| {
                storage.cast::<libc::sockaddr_ll>().write(address);
                *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                Ok(())
            })
        }
        .context("an address")?;
        socket.bind(&address)?;
        Ok(socket)
    })
}
