//! What `enforcer run` is told.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use nix::unistd::Gid;

use crate::{
    dns::{Name, forwarder::upstream::Server},
    kernel::hook::{TcMode, XdpMode},
    policy::files::Disk,
};

/// What becomes of what is enforced when the controller stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnExit {
    /// The kernel goes on enforcing.
    #[default]
    Keep,
    /// All programs are taken off their interfaces.
    Detach,
}

/// What becomes of packets of an interface that is there without its programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fail {
    /// They pass, until the programs are on it.
    #[default]
    Open,
    /// They are not forwarded.
    Closed,
}

/// What `enforcer run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces that clients are behind.
    pub lans: Vec<String>,
    /// Interfaces that lead outside.
    pub wans: Vec<String>,
    /// The policy's file.
    pub policy: PathBuf,
    /// Where the policy and the files that it includes are read from.
    pub disk: Disk,
    /// How to catch frames on LANs.
    pub xdp: XdpMode,
    /// How TC's programs are attached.
    pub tc: TcMode,
    /// Whether the kernel's programs tell about malformed frames.
    pub diagnose: bool,
    /// Where clients are served DNS.
    pub dns_listen: Vec<SocketAddr>,
    /// Clients that are served, too, though they ask by another interface than a LAN.
    pub dns_allow: Vec<IpNet>,
    /// Resolvers whose answers to clients are heard. Without any, nor DNS for clients, names are not matched.
    pub dns_snoop: Vec<IpAddr>,
    /// Resolvers to ask; without any, the system's.
    pub dns_upstream: Vec<Server>,
    /// CAs, in PEM, by which encrypted upstreams are known; if none, the system's.
    pub dns_ca: Option<PathBuf>,
    /// Where policies and names' addresses are kept over a restart.
    pub state: PathBuf,
    /// Where the kernel's programs are kept over a restart: a directory of a BPF file system.
    pub pins: PathBuf,
    /// When the controller stops.
    pub on_exit: OnExit,
    /// Where no program is.
    pub fail: Fail,
    /// The API's socket.
    pub socket: PathBuf,
    /// Whose group may open it, if not the controller's own.
    pub socket_group: Option<Gid>,
    /// Where metrics, and what else is safe to tell, are served over TCP.
    pub metrics_listen: Vec<SocketAddr>,
    /// Where the policy's PAC file is served.
    pub pac_listen: Vec<SocketAddr>,
    /// Names that requests over TCP may be for, beside addresses.
    pub metrics_hosts: Vec<Name>,
}

impl Options {
    /// Whether addresses of names become known.
    pub(super) const fn learns(&self) -> bool {
        !self.dns_listen.is_empty() || !self.dns_snoop.is_empty()
    }
}
