//! A client, a gateway and an internet, each in a network namespace of its own. A lab is a value: dropping it removes everything, also when a test panics.

mod awake;
pub mod certificate;
pub mod client;
pub mod dns;
pub mod exported;
pub mod flood;
pub mod forwarded;
pub mod forwarder;
pub mod machine;
pub mod names;
pub mod namespace;
mod orphans;
pub mod probe;
pub mod product;
pub mod resolver;
pub mod server;
pub mod system;
mod tunnel;
pub mod upstream;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};

pub use awake::awake;
pub use namespace::Namespace;
pub use orphans::remove_all as remove_orphans;
use tunnel::Tunnel;

/// How the gateway's WAN is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wan {
    /// Ethernet.
    #[default]
    Ethernet,
    /// A tun device: packets without a link-layer header.
    Tunnel,
}

/// What a lab is to look like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Clients on two ports of a bridge instead of one on a NIC.
    pub bridged: bool,
    /// How the WAN is made.
    pub wan: Wan,
    /// The gateway hides the LAN behind its own address, and forwards port 2222 to the client's 22.
    pub nat: bool,
}

/// The lab. Addresses: client 10.1.0.2 and fd00:1::2 (a second one has .3), gateway 10.1.0.1 and fd00:1::1, its WAN 198.51.100.1 and 2001:db8:ffff::1,
/// the internet 198.51.100.2 and [`INTERNET`].
pub struct Lab {
    tunnel: Option<Tunnel>,
    /// Where clients are.
    pub client: Namespace,
    /// A second client; only used when the LAN is a bridge.
    pub neighbour: Namespace,
    /// Where the product runs.
    pub gateway: Namespace,
    /// Where servers are.
    pub internet: Namespace,
    folder: PathBuf,
}

/// Addresses of the internet's one machine: Apple's and others'.
pub const INTERNET: [&str; 6] =
    ["17.1.2.3", "17.253.4.5", "203.0.113.9", "2620:149::5", "2403:300::7", "2001:db8:bad::1"];

/// A policy that tells [`INTERNET`]'s addresses, protocols and ports apart.
pub const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443"]

[[service]]
name = "time"
to = ["17.253.0.0/16", "2403:300::7"]
ports = ["udp/123"]

[[service]]
name = "ping"
to = ["17.1.2.3", "2620:149::5"]
ports = ["icmp/8", "icmpv6/128"]

[[rule]]
name = "apple"
action = "allow"
services = ["web", "time", "ping"]
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// The plain lab: one client on Ethernet.
    pub fn new() -> Result<Self> {
        Self::planned(Plan::default())
    }

    /// A lab after a plan.
    pub fn planned(plan: Plan) -> Result<Self> {
        // SAFETY: a system call without arguments.
        if unsafe { libc::geteuid() } != 0 {
            bail!("the lab makes network namespaces: run it as root (`sudo -E cargo xtask test`)");
        }
        let tag = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("{FOLDER}{tag}"));
        fs::create_dir_all(&folder)?;
        let namespace = |role: &str| Namespace::new(&format!("enf-{role}-{tag}"));
        let mut lab = Self {
            tunnel: None,
            client: namespace("c")?,
            neighbour: namespace("n")?,
            gateway: namespace("g")?,
            internet: namespace("i")?,
            folder,
        };
        lab.lan(plan)?;
        lab.wan(plan)?;
        if plan.nat {
            lab.gateway.run(&format!(
                "nft -f {}",
                lab.file("nat.nft", concat!(
                    "table ip nat {\n",
                    " chain out { type nat hook postrouting priority srcnat; oifname \"wan0\" masquerade; }\n",
                    " chain in { type nat hook prerouting priority dstnat; iifname \"wan0\" tcp dport 2222 dnat to 10.1.0.2:22; }\n",
                    "}\n"
                ))?.display()
            ))?;
        }
        Ok(lab)
    }

    /// A file in the lab's folder, which goes with the lab.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A path in the lab's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where controllers keep their programs: in a BPF file system of the lab's own, which is mounted when it is first asked for.
    pub fn pins(&self) -> Result<PathBuf> {
        let mount = self.path("bpf");
        if !mount.exists() {
            fs::create_dir(&mount)?;
            command(&format!("mount -t bpf bpf {}", mount.display()))?;
        }
        Ok(mount.join("enforcer"))
    }

    /// Takes that file system away from everybody who does not hold what is in it.
    pub fn forget_pins(&self) -> Result<()> {
        // A namespace that a process has entered has a copy of the mount.
        command(&format!("rm -r {}", self.pins()?.display()))?;
        command(&format!("umount --lazy {}", self.path("bpf").display()))
    }

    fn lan(&self, plan: Plan) -> Result<()> {
        self.gateway.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        if !plan.bridged {
            return self.connect_client();
        }
        let (gateway, client) = (&self.gateway, &self.client);
        veth(gateway, "port1", client, "eth0")?;
        veth(gateway, "port2", &self.neighbour, "eth0")?;
        gateway.run("ip link add br-lan type bridge")?;
        gateway.run("ip link set port1 master br-lan up")?;
        gateway.run("ip link set port2 master br-lan up")?;
        numbered(gateway, "br-lan", 1)?;
        for (client, host) in [(client, 2), (&self.neighbour, 3)] {
            numbered(client, "eth0", host)?;
            client.run("ip route add default via 10.1.0.1")?;
            client.run("ip route add default via fd00:1::1")?;
        }
        Ok(())
    }

    /// Lays the cable between the client and the gateway's `lan0`: at the start, or again after it was removed.
    pub fn connect_client(&self) -> Result<()> {
        self.connect_client_as("lan0")
    }

    /// The same with more words for `ip link add` behind the name `lan0`, such as the index that it is to have.
    pub fn connect_client_as(&self, lan: &str) -> Result<()> {
        veth(&self.gateway, lan, &self.client, "eth0")?;
        numbered(&self.gateway, "lan0", 1)?;
        numbered(&self.client, "eth0", 2)?;
        self.client.run("ip route add default via 10.1.0.1")?;
        self.client.run("ip route add default via fd00:1::1")
    }

    fn wan(&mut self, plan: Plan) -> Result<()> {
        let (gateway, internet) = (&self.gateway, &self.internet);
        match plan.wan {
            Wan::Ethernet => veth(gateway, "wan0", internet, "inet0")?,
            Wan::Tunnel => self.tunnel = Some(Tunnel::new(gateway, "wan0", internet, "inet0")?),
        }
        for (side, host, name) in [(gateway, 1, "wan0"), (internet, 2, "inet0")] {
            side.run(&format!("ip link set {name} up"))?;
            side.run(&format!("ip addr add 198.51.100.{host}/24 dev {name}"))?;
            side.run(&format!("ip addr add 2001:db8:ffff::{host}/64 dev {name} nodad"))?;
        }
        for address in INTERNET {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            internet.run(&format!("ip addr add {address} dev lo {nodad}"))?;
        }
        gateway.run("ip route add default via 198.51.100.2")?;
        gateway.run("ip route add default via 2001:db8:ffff::2")?;
        // With NAT the internet must not know the way to the LAN.
        if !plan.nat {
            internet.run("ip route add 10.1.0.0/24 via 198.51.100.1")?;
        }
        internet.run("ip route add fd00:1::/64 via 2001:db8:ffff::1")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        orphans::remove_folder(&self.folder);
    }
}

/// What the names of labs' folders begin with.
const FOLDER: &str = "enforcer-lab-";

/// Brings an interface up with the LAN's addresses of a host.
fn numbered(namespace: &Namespace, interface: &str, host: u8) -> Result<()> {
    namespace.run(&format!("ip link set {interface} up"))?;
    namespace.run(&format!("ip addr add 10.1.0.{host}/24 brd + dev {interface}"))?;
    namespace.run(&format!("ip addr add fd00:1::{host}/64 dev {interface} nodad"))
}

/// A cable between two namespaces. Generic receive offload on both ends makes native XDP possible; checksums are computed, so that frames are what they
/// would be on a wire.
fn veth(one: &Namespace, name: &str, other: &Namespace, other_name: &str) -> Result<()> {
    command(&format!(
        "ip link add {name} netns {} type veth peer name {other_name} netns {}",
        one.name(),
        other.name()
    ))?;
    let name = name.split(' ').next().unwrap_or(name);
    for (side, name) in [(one, name), (other, other_name)] {
        side.run(&format!("ethtool -K {name} gro on tx off tso off gso off"))?;
    }
    Ok(())
}

/// Runs a command line of words without quotes; an error has what it said.
fn command(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program).args(words).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Returns the product as it is shipped: `release/enforcer` in cargo's target directory, or in a guest's folder of tests.
pub fn enforcer_binary() -> Result<PathBuf> {
    find_above("release/enforcer", "cargo build --release")
}

/// Returns a program that `cargo xtask setup` puts into the target directory, by its name there.
pub fn tool(name: &str) -> Result<PathBuf> {
    find_above(&format!("tools/{name}"), "cargo xtask setup")
}

/// Returns a file in one of the folders above the running program, or an error that names the command that makes it.
fn find_above(path: &str, command: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|folder| folder.join(path)).find(|path| path.is_file());
    found.with_context(|| format!("no {path} above {}: run `{command}` first", own.display()))
}

/// Returns the number of rounds of a slow test: `most` in the second tier, a quarter of that in the first, and a twentieth in
/// an emulated machine, where the kernel's verifier takes ten times as long.
pub fn rounds(most: u32) -> u32 {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let part = if is_set("ENFORCER_EMULATED") {
        20
    } else if is_set("ENFORCER_FULL") {
        1
    } else {
        4
    };
    most.div_ceil(part)
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
