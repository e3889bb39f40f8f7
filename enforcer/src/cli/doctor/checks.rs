//! Facts → findings. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::facts::{Facts, Interface, Program};
use crate::kernel::OLDEST;

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
    report.subject = "enforcer".into();
    controller(facts, &mut report);
    for name in &facts.missing {
        report.subject.clone_from(name);
        let help = "enforcer attaches its programs when it appears; if it never does, correct the name";
        report.add(Level::Warning, "there is no such interface", Some(help));
    }
    for interface in &facts.interfaces {
        report.subject.clone_from(&interface.name);
        hooks(interface, &mut report);
        programs(facts, interface, &mut report);
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
        let help = format!("install a kernel from {}.{} on, as Debian 12 has it", OLDEST.0, OLDEST.1);
        report.add(Level::Problem, format!("{} is too old", facts.kernel), Some(&help));
    } else {
        match facts.tcx {
            Some(true) => report.ok(format!("{} has TCX, ring buffers and BPF links for XDP", facts.kernel)),
            Some(false) => {
                let help = "filters of the clsact qdisc take its place, which whoever runs `tc` can take away; Linux has TCX from 6.6 on";
                report.add(Level::Warning, format!("{} has no TCX", facts.kernel), Some(help));
            }
            None => report.add(
                Level::Note,
                format!("whether {} has TCX cannot be told", facts.kernel),
                Some("run this as root"),
            ),
        }
    }
    match facts.btf {
        true => report.ok("tells its types (BTF)"),
        false => report.add(
            Level::Warning,
            "tells no types (BTF): enforcer does without, tools that look into it do not",
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
    let pins = facts.pins.display();
    match facts.bpffs {
        true => report.ok(format!("{pins} is in a BPF file system")),
        false => report.add(
            Level::Warning,
            format!("{pins} is in no BPF file system"),
            Some(
                "mount -t bpf bpf /sys/fs/bpf, as systemd does by itself; or name a folder of another one with --pins",
            ),
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

fn controller(facts: &Facts, report: &mut Report) {
    match &facts.controller {
        Ok(warnings) => {
            report.ok("a controller answers");
            for warning in warnings {
                report.add(Level::Warning, warning, Some("see `enforcer status`"));
            }
        }
        Err(why) if facts.own.as_ref().is_none_or(BTreeSet::is_empty) => {
            report.add(Level::Note, why, Some("start it when all else is well"));
        }
        Err(why) => {
            let help = "programs go on enforcing, but nothing follows names, schedules or the network; `enforcer detach` ends that, too";
            report.add(Level::Warning, why, Some(help));
        }
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
            let help = "as a LAN it is judged by TC at ingress, which is slower; --xdp native refuses it";
            report.add(Level::Note, format!("{what} has no native XDP"), Some(help));
        }
        Some((false, _)) => report.ok(format!("{what}; a WAN needs no XDP")),
        None => report.add(Level::Note, format!("{what}; the kernel does not tell whether it has XDP"), None),
    }
    if !interface.vlans.is_empty() && interface.role == Some("lan") {
        let help = format!("name these as --lan instead: {}", interface.vlans.join(" "));
        report.add(Level::Problem, "it carries VLAN devices: it cannot be a LAN itself", Some(&help));
    }
}

/// Others' programs, among them those of an enforcer with other pins.
fn programs(facts: &Facts, interface: &Interface, report: &mut Report) {
    let lan = interface.role != Some("wan");
    let Some(own) = &facts.own else {
        let message = "which of its programs are enforcer's cannot be told: the pins cannot be read";
        return report.add(Level::Note, message, Some("run this as root"));
    };
    let others = |programs: &[Program], enforcers: bool| {
        let is = |program: &&Program| {
            // A filter's name has its kind before it.
            let name = program.name.rsplit(' ').next();
            !own.contains(&program.number) && name.is_some_and(|name| OWN.contains(&name)) == enforcers
        };
        let names: Vec<String> = programs.iter().filter(is).map(ToString::to_string).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    let pins = facts.pins.display();
    if let Some(names) = others(&interface.xdp, false).filter(|_| lan) {
        let help = format!("detach it (`ip link set {} xdp off`), or let TC judge: --xdp off", interface.name);
        report.add(Level::Problem, format!("another XDP program is there: {names}"), Some(&help));
    }
    let help = "if it is meant, name its --pins here; else end it: `enforcer detach` with its --pins and --socket";
    if let Some(names) = others(&interface.xdp, true) {
        report.add(
            Level::Problem,
            format!("another enforcer is there, with other pins than {pins}: {names}"),
            Some(help),
        );
    }
    let mut several = Vec::new();
    match &interface.tcx {
        Ok(programs) => {
            // TCX comes before all filters.
            let is_behind = interface.filters.iter().any(|filter| own.contains(&filter.number));
            let (level, help) = match is_behind {
                false => (Level::Note, "it runs behind enforcer's, and sees only what passes"),
                true => (
                    Level::Warning,
                    "it runs before enforcer's filters, and may keep packets from them: start without --tc clsact",
                ),
            };
            if let Some(names) = others(programs, false) {
                report.add(level, format!("other TCX programs are there: {names}"), Some(help));
            }
            several.extend(others(programs, true));
        }
        Err(why) => report.add(
            Level::Note,
            format!("TCX programs cannot be told: {why}"),
            Some("run this as root: their names take CAP_SYS_ADMIN"),
        ),
    }
    let before = overtaking(own, &interface.filters);
    if !before.is_empty() {
        let help = "packets meet them first, and may be kept from enforcer: give them a higher priority number";
        let names: Vec<String> = before.iter().map(ToString::to_string).collect();
        report.add(Level::Warning, format!("TC filters come before enforcer's: {}", names.join(", ")), Some(help));
    }
    let behind: Vec<Program> = interface.filters.iter().filter(|filter| !before.contains(filter)).cloned().collect();
    if let Some(names) = others(&behind, false) {
        let help =
            "they run behind enforcer's, and see only what passes; one that redirects takes packets past other hooks";
        report.add(Level::Note, format!("TC filters are there: {names}"), Some(help));
    }
    several.extend(others(&behind, true));
    if !several.is_empty() {
        let names = several.join(", ");
        let message = format!("another enforcer judges, too, with other pins than {pins}: {names}");
        report.add(Level::Warning, message, Some(help));
    }
}

/// Filters that packets meet before enforcer's first on the same side.
fn overtaking<'a>(own: &BTreeSet<u32>, filters: &'a [Program]) -> Vec<&'a Program> {
    let mut before = Vec::new();
    for side in filters.chunk_by(|a, b| a.side == b.side) {
        let first = side.iter().position(|filter| own.contains(&filter.number)).unwrap_or(0);
        before.extend(&side[..first]);
    }
    before
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
