//! What `doctor` judges by. Nothing is what could not be found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
};

/// A machine, as seen from this network namespace.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The kernel's release, such as `6.12.9-amd64`.
    pub kernel: String,
    /// Whether the kernel has TCX.
    pub tcx: Option<bool>,
    /// Whether the kernel tells its types.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_disabled: Option<u32>,
    /// Where the controller's pins are to be.
    pub pins: PathBuf,
    /// Whether that is in a BPF file system.
    pub bpffs: bool,
    /// Numbers of the programs that these pins keep on interfaces.
    pub own: Option<BTreeSet<u32>>,
    /// What the controller warns of, or why none answers.
    pub controller: Result<Vec<String>, String>,
    /// The caller's effective capabilities.
    pub capabilities: u64,
    /// `net.ipv4.ip_forward`, and `net.ipv6.conf.all.forwarding`.
    pub forwarding: [Option<u32>; 2],
    /// Where somebody listens on port 53.
    pub dns: Vec<SocketAddr>,
    /// Whether something keeps the clock.
    pub clock: bool,
    /// Flow tables of nftables that are handed to hardware.
    pub flow_offload: Option<Vec<String>>,
    pub interfaces: Vec<Interface>,
    /// Interfaces that were named and do not exist.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub name: String,
    /// Whether it was named as `--lan`, or as `--wan`.
    pub role: Option<&'static str>,
    /// The NIC's driver; a device without one is a virtual one.
    pub driver: Option<String>,
    pub mtu: u32,
    /// Receive queues.
    pub queues: usize,
    /// What of XDP its driver can, as the kernel's `netdev` family has it.
    pub xdp_features: Option<u64>,
    /// Offloads by ethtool's names, and whether they are on.
    pub offloads: BTreeMap<String, bool>,
    /// The XDP programs there.
    pub xdp: Vec<Program>,
    /// TCX programs at ingress and egress, or why they cannot be told.
    pub tcx: Result<Vec<Program>, String>,
    /// Filters of the clsact qdisc, of each sort one; their kind is part of the name, and those that are no BPF programs have the number 0.
    pub filters: Vec<Program>,
    /// VLAN devices on it.
    pub vlans: Vec<String>,
    /// `rp_filter` as it applies.
    pub rp_filter: Option<u32>,
    /// Bytes of the largest packet that the stack makes for it.
    pub gso_max: u32,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The kernel's.
    pub number: u32,
    pub name: String,
    /// `ingress` or `egress`, where it may be either.
    pub side: Option<&'static str>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Some(side) => write!(f, "{side} {}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
