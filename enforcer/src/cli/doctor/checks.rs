//! Facts → findings. Pure.

use serde::Serialize;

use super::facts::{Facts, Interface};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// To know, no more.
    Note,
    /// It works, but not as well, or not always.
    Warning,
    /// enforcer does not start, or packets are not judged.
    Problem,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    /// What it is about: `kernel`, an interface's name.
    pub subject: String,
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Programs of this project, as the kernel shows their names.
const OWN: [&str; 8] = [
    "lan_xdp",
    "lan_xdp_frags",
    "lan_ingress",
    "lan_egress",
    "wan_ingress",
    "wan_egress",
    "snoop_queries",
    "snoop_answers",
];

/// Capabilities that `enforcer run` needs, with their bits.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// 6.1 refuses the programs: its verifier forgets the bounds of numbers whose bytes are swapped, and of halves that are put together.
const OLDEST: (u32, u32) = (6, 6);

/// Bits of the kernel's `xdp-act`: what programs need at least, and frames in several buffers.
const XDP_BASIC: u64 = 1;
const XDP_SEVERAL_BUFFERS: u64 = 32;

/// The largest MTU whose frames fit a buffer of one page, with its headroom and what the kernel keeps at its end.
const ONE_BUFFER: u32 = 3498;

/// Everything that is to be said, in the order of reading.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut report = Report { subject: "kernel".into(), findings: Vec::new() };
    kernel(facts, &mut report);
    report.subject = "rights".into();
    rights(facts, &mut report);
    report.subject = "system".into();
    system(facts, &mut report);
    for interface in &facts.interfaces {
        report.subject.clone_from(&interface.name);
        hooks(interface, &mut report);
        offloads(interface, &mut report);
    }
    report.findings
}

struct Report {
    subject: String,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, level: Level, message: impl Into<String>, help: Option<&str>) {
        let (subject, help) = (self.subject.clone(), help.map(str::to_owned));
        self.findings.push(Finding { level, subject, message: message.into(), help });
    }

    fn ok(&mut self, message: impl Into<String>) {
        self.add(Level::Ok, message, None);
    }
}

fn kernel(facts: &Facts, report: &mut Report) {
    let mut numbers = facts.kernel.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        let help = "install a kernel from 6.6 on; Debian 12 has one in its backports";
        report.add(Level::Problem, format!("{} is too old", facts.kernel), Some(help));
    } else if facts.tcx {
        report.ok(format!("{} has TCX, ring buffers and BPF links for XDP", facts.kernel));
    } else {
        let help = "filters of the clsact qdisc take its place, which whoever runs `tc` can take away; Linux has TCX from 6.6 on";
        report.add(Level::Warning, format!("{} has no TCX", facts.kernel), Some(help));
    }
    match facts.btf {
        true => report.ok("tells its types (BTF)"),
        false => report.add(
            Level::Warning,
            "tells no types (BTF)",
            Some("take a kernel with CONFIG_DEBUG_INFO_BTF, as distributions' are"),
        ),
    }
    match facts.jit {
        Some(0) => {
            let help = "sysctl -w net.core.bpf_jit_enable=1; programs are interpreted, several times slower";
            report.add(Level::Problem, "the BPF JIT is off", Some(help));
        }
        Some(2) => {
            let help = "sysctl -w net.core.bpf_jit_enable=1; 2 is for debugging, and writes programs to the log";
            report.add(Level::Warning, "the BPF JIT writes programs to the kernel's log", Some(help));
        }
        Some(_) => report.ok("the BPF JIT is on"),
        None => report.add(
            Level::Note,
            "net.core.bpf_jit_enable is not visible from here",
            Some("look in the first network namespace"),
        ),
    }
    if facts.unprivileged_disabled == Some(0) {
        let help = "sysctl -w kernel.unprivileged_bpf_disabled=1";
        report.add(Level::Warning, "everybody may load BPF programs", Some(help));
    }
    match facts.bpffs {
        true => report.ok("a BPF file system is on /sys/fs/bpf"),
        false => report.add(
            Level::Warning,
            "no BPF file system is on /sys/fs/bpf",
            Some("mount -t bpf bpf /sys/fs/bpf; systemd does so by itself"),
        ),
    }
}

fn rights(facts: &Facts, report: &mut Report) {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, bit)| facts.capabilities >> bit & 1 == 0).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        report.ok("those that `enforcer run` needs are here");
    } else {
        let help = "run this, and `enforcer run`, as root or with these capabilities";
        report.add(Level::Problem, format!("{} missing", missing.join(", ")), Some(help));
    }
}

fn system(facts: &Facts, report: &mut Report) {
    for (name, value) in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].iter().zip(facts.forwarding) {
        match value {
            Some(0) => {
                let help = format!("sysctl -w {name}=1, if clients are to reach anything that way");
                report.add(Level::Warning, format!("{name} is 0: nothing is forwarded"), Some(&help));
            }
            Some(_) => report.ok(format!("{name} is on")),
            None => report.add(Level::Note, format!("there is no {name}"), None),
        }
    }
    match &facts.flow_offload {
        Some(tables) if !tables.is_empty() => report.add(
            Level::Problem,
            format!("hardware forwards packets past every hook: flow table {}", tables.join(", ")),
            Some("take `flags offload` out of the flow table in nftables"),
        ),
        Some(_) => report.ok("no flow table is handed to hardware"),
        None => report.add(
            Level::Note,
            "whether flow tables are handed to hardware cannot be told: nft does not answer",
            Some("see `nft list flowtables` for `flags offload`"),
        ),
    }
    if !facts.dns.is_empty() {
        let places: Vec<String> = facts.dns.iter().map(ToString::to_string).collect();
        let help = "--dns-listen takes other addresses only; `ss -lnup sport = 53` tells who it is; --dns-snoop hears a resolver of the gateway's";
        report.add(Level::Note, format!("somebody serves DNS on {}", places.join(", ")), Some(help));
    }
    match facts.clock {
        true => report.ok("something keeps the clock"),
        false => report.add(
            Level::Warning,
            "nothing keeps the clock: schedules and certificates go by it",
            Some("install chrony, or switch systemd-timesyncd on"),
        ),
    }
}

fn hooks(interface: &Interface, report: &mut Report) {
    let Interface { driver, mtu, .. } = interface;
    let what = driver.as_ref().map_or_else(|| "a virtual device".to_owned(), |driver| format!("driver {driver}"));
    let lan = interface.role != Some("wan");
    match interface.xdp_features.map(|bits| (bits & XDP_BASIC != 0, bits & XDP_SEVERAL_BUFFERS != 0)) {
        Some((true, several)) if *mtu <= ONE_BUFFER || several => report.ok(format!("{what} has native XDP")),
        Some((true, _)) if lan => {
            let help = format!("ip link set {} mtu {ONE_BUFFER}, or less", interface.name);
            let message = format!("{what} takes XDP only for frames in one buffer, which an MTU of {mtu} exceeds");
            report.add(Level::Warning, message, Some(&help));
        }
        Some((true, _)) => report.ok(format!("{what}, MTU {mtu}")),
        Some((false, _)) if lan => {
            let help = "as a LAN it is judged by TCX ingress, which is slower; --xdp native refuses it";
            report.add(Level::Note, format!("{what} has no native XDP"), Some(help));
        }
        Some((false, _)) => report.ok(format!("{what}; a WAN needs no XDP")),
        None => report.add(Level::Note, format!("{what}; the kernel does not tell whether it has XDP"), None),
    }
    let foreign = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| !OWN.contains(&name.rsplit(' ').next().unwrap_or(name))).cloned().collect()
    };
    let xdp = foreign(&interface.xdp);
    if !xdp.is_empty() && lan {
        let help =
            format!("detach it (`ip link set {} xdp off`), or let TCX judge: name a bridge over it", interface.name);
        report.add(Level::Problem, format!("another XDP program is there: {}", xdp.join(", ")), Some(&help));
    }
    match &interface.tcx {
        Ok(programs) => {
            let programs = foreign(programs);
            // TCX comes before all filters.
            let is_first = foreign(&interface.filters) == interface.filters;
            let (level, help) = match is_first {
                true => (Level::Note, "it runs behind enforcer's, and sees only what passes"),
                false => (
                    Level::Warning,
                    "it runs before enforcer's filters, and may keep packets from them: start without --tc clsact",
                ),
            };
            if !programs.is_empty() {
                report.add(level, format!("other TCX programs are there: {}", programs.join(", ")), Some(help));
            }
        }
        Err(why) => report.add(
            Level::Note,
            format!("TCX programs cannot be told: {why}"),
            Some("run this as root: their names take CAP_SYS_ADMIN"),
        ),
    }
    let filters = foreign(&interface.filters);
    if !filters.is_empty() {
        let help =
            "they run behind enforcer's, and see only what passes; one that redirects takes packets past other hooks";
        report.add(Level::Note, format!("TC filters are there: {}", filters.join(", ")), Some(help));
    }
    if !interface.vlans.is_empty() && interface.role == Some("lan") {
        let help = format!("name these as --lan instead: {}", interface.vlans.join(" "));
        report.add(Level::Problem, "it carries VLAN devices: it cannot be a LAN itself", Some(&help));
    }
}

fn offloads(interface: &Interface, report: &mut Report) {
    let name = &interface.name;
    let on = |offload: &str| interface.offloads.get(offload) == Some(&true);
    if on("hw-tc-offload") {
        let help = format!("ethtool -K {name} hw-tc-offload off");
        report.add(Level::Warning, "TC rules may be handed to hardware, past every hook", Some(&help));
    }
    for (offload, word) in [("rx-lro", "lro"), ("rx-gro-hw", "rx-gro-hw")] {
        if on(offload) {
            let help = format!("ethtool -K {name} {word} off; some drivers refuse XDP until then");
            report.add(Level::Warning, format!("the NIC merges packets ({word})"), Some(&help));
        }
    }
    if on("rx-vlan-hw-parse") && !interface.vlans.is_empty() {
        let help = format!("ethtool -K {name} rxvlan off, if XDP is to see tags");
        report.add(Level::Note, "the NIC takes VLAN tags off before XDP", Some(&help));
    }
    if interface.gso_max > 65_536 {
        let help = format!("ip link set {name} gso_max_size 65536 gro_max_size 65536");
        let message = format!("packets of up to {} bytes (BIG TCP) are malformed to enforcer", interface.gso_max);
        report.add(Level::Warning, message, Some(&help));
    }
    if interface.driver.is_some() && interface.queues == 1 {
        let help = "one CPU judges all of its packets; see `ethtool -l` for more queues";
        report.add(Level::Note, "it has one receive queue", Some(help));
    }
    if interface.rp_filter == Some(1) && interface.role != Some("lan") {
        let help =
            format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2, if replies come by another WAN than requests left by");
        report.add(Level::Note, "strict reverse-path filter", Some(&help));
    }
}
