//! `enforcer run`.

use std::{
    fs,
    io::{self, IsTerminal as _},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use nix::unistd::Gid;
use tracing::level_filters::LevelFilter;

use super::{IncludeRoots, Socket};
use crate::{
    api::server::group,
    control::{self, Fail, OnExit},
    dns::{Name, forwarder::upstream::Server},
    kernel::{
        hook::{TcMode, XdpMode},
        pins, programs,
    },
    service::privileges,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Interfaces that clients are behind; on a bridge, the bridge or its ports
    #[arg(long = "lan", required = true, num_args = 1.., value_name = "IF")]
    lans: Vec<String>,
    /// Interfaces that lead outside
    #[arg(long = "wan", num_args = 1.., value_name = "IF")]
    wans: Vec<String>,
    /// The policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// How to catch clients' frames
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    xdp: XdpMode,
    /// How programs are attached that are TC's: on WANs, at what leaves for LANs, and where there is no XDP
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    tc: TcMode,
    /// Tell on standard error why frames are malformed; takes time for each of them
    #[arg(long)]
    diagnose: bool,
    /// Serve DNS to the LANs' clients on this address, such as 10.1.0.1:53, and learn names'
    /// addresses from it; may be repeated
    #[arg(long = "dns-listen", value_name = "ADDR:PORT")]
    dns_listen: Vec<SocketAddr>,
    /// Serve DNS also to clients of this prefix that ask by another interface than a --lan, such as
    /// 10.8.0.0/24 (repeatable)
    #[arg(long = "dns-allow", value_name = "PREFIX", requires = "dns_listen")]
    dns_allow: Vec<IpNet>,
    /// Learn names' addresses from what this resolver answers to clients, when it passes: the gateway's own, such as 10.1.0.1, or one beyond a WAN; may be
    /// repeated
    #[arg(long = "dns-snoop", value_name = "ADDR")]
    dns_snoop: Vec<IpAddr>,
    /// A resolver to ask; may be repeated, in the order of preference [default: those of /etc/resolv.conf]
    ///
    /// 192.0.2.1:53 is asked in clear, tls://192.0.2.1:853#dns.example by DNS over TLS, and https://192.0.2.1:443/dns-query#dns.example by DNS over HTTPS;
    /// ports and the path may be left out. Behind # is the name that the certificate must be for; without it, that is the address.
    #[arg(long = "dns-upstream", value_name = "UPSTREAM")]
    dns_upstream: Vec<Server>,
    /// CA certificates (PEM) by which encrypted upstreams are known, instead of the system's
    #[arg(long = "dns-ca", value_name = "FILE", requires = "dns_upstream")]
    dns_ca: Option<PathBuf>,
    /// Where the kernel's programs are kept when this process ends: in a BPF file system
    #[arg(long, default_value = super::PINS, value_parser = super::pins_folder, value_name = "DIR")]
    pins: PathBuf,
    /// Whether the kernel goes on enforcing when this process is told to end; when it crashes, it does
    #[arg(long = "on-exit", value_enum, default_value_t, value_name = "WHAT")]
    on_exit: OnExit,
    /// What becomes of packets of a named interface that is there without its programs, as one that has just come back
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    fail: Fail,
    /// Where policies and names' addresses are kept over a restart
    #[arg(long = "state", default_value = super::STATE, value_name = "DIR")]
    state: PathBuf,
    /// Serve Prometheus metrics, and what else is safe to tell a network, over TCP on this address, such as 127.0.0.1:9100; may be repeated
    #[arg(long = "metrics-listen", value_name = "ADDR:PORT")]
    metrics_listen: Vec<SocketAddr>,
    /// Serve the PAC file of the policy's proxies over HTTP on this address, as /proxy.pac and /wpad.dat; may be repeated
    #[arg(long = "pac-listen", value_name = "ADDR:PORT")]
    pac_listen: Vec<SocketAddr>,
    /// A name that requests over TCP may ask for, such as gateway.example; by address they may always; may be repeated
    #[arg(long = "metrics-host", value_name = "NAME", requires = "metrics_listen")]
    metrics_hosts: Vec<Name>,
    /// The group that may use the socket, beside root: a name or number [default: the controller's own group]
    #[arg(long = "socket-group", value_name = "GROUP", value_parser = group)]
    socket_group: Option<Gid>,
    #[command(flatten)]
    socket: Socket,
    /// What is logged: error, warn, info or debug, and what is graver
    #[arg(long, env = "ENFORCER_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: LevelFilter,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(mistake) = mistake(&arguments) {
        tracing::error!("{mistake}");
        return Ok(ExitCode::from(super::USAGE));
    }
    // A pipe is empty when it is read again, and may never answer. What is not there is told with the rest.
    if fs::metadata(&arguments.policy).is_ok_and(|file| !file.is_file()) {
        bail!("{} is no file: `run` reads the policy again at each start and SIGHUP", arguments.policy.display());
    }
    let options = control::Options {
        lans: arguments.lans,
        wans: arguments.wans,
        policy: arguments.policy,
        disk: arguments.include_roots.disk(),
        xdp: arguments.xdp,
        tc: arguments.tc,
        diagnose: arguments.diagnose,
        dns_listen: arguments.dns_listen,
        dns_allow: arguments.dns_allow,
        dns_snoop: arguments.dns_snoop,
        dns_upstream: arguments.dns_upstream,
        dns_ca: arguments.dns_ca,
        state: arguments.state,
        pins: arguments.pins,
        on_exit: arguments.on_exit,
        fail: arguments.fail,
        socket: arguments.socket.socket,
        socket_group: arguments.socket_group,
        metrics_listen: arguments.metrics_listen,
        pac_listen: arguments.pac_listen,
        metrics_hosts: arguments.metrics_hosts,
    };
    // A second or two in which nothing else is said.
    if io::stderr().is_terminal() {
        eprintln!("enforcer: compiling the policy, and loading it into the kernel");
    }
    // Which takes more than is kept.
    pins::mount_for(&options.pins);
    programs::note_names();
    privileges::drop_unneeded()?;
    // Systemd makes it; by hand it is not there after the machine's start.
    if let Some(folder) = options.socket.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(control::run(&options));
    // What still reads a file that never answers is no reason to stay.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with the words, whatever the machine is like: trying again would not help.
fn mistake(arguments: &Arguments) -> Option<String> {
    let mut seen: Vec<&String> = Vec::new();
    for name in arguments.lans.iter().chain(&arguments.wans) {
        if !is_interface_name(name) {
            let rule = "such a name has 1 to 15 bytes, without \"/\", \":\" and white space";
            return Some(format!("{name:?} cannot be the name of an interface: {rule}"));
        }
        if seen.contains(&name) {
            return Some(format!("{name} is named twice: an interface is one LAN or one WAN"));
        }
        seen.push(name);
    }
    if !arguments.dns_upstream.is_empty() && arguments.dns_listen.is_empty() && arguments.dns_snoop.is_empty() {
        return Some(
            "--dns-upstream is for learning names: say where clients ask with --dns-listen or --dns-snoop".into(),
        );
    }
    let address = arguments.dns_snoop.iter().find(|address| !is_asked(**address))?;
    Some(format!("--dns-snoop {address}: clients ask no such address; name the resolver by the one that they ask"))
}

/// Whether the kernel accepts a name for an interface (`dev_valid_name`).
fn is_interface_name(name: &str) -> bool {
    let is_refused = |c: char| "/:".contains(c) || c.is_ascii_whitespace() || c == '\u{b}';
    (1..libc::IFNAMSIZ).contains(&name.len()) && ![".", ".."].contains(&name) && !name.contains(is_refused)
}

/// Whether clients can ask an address across the LAN.
fn is_asked(address: IpAddr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast()) && address == address.to_canonical()
}
