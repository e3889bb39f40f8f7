//! What may stand in a packet's way through a gateway: enforcer, and what others take for the same. Each is given the same hosts.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::traffic::Traffic;
use crate::lab::{Lab, product::Enforcer};

/// A filter of packets from a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// None, and no gateway: the generator's frames go nowhere.
    Generator,
    /// None at all.
    Nothing,
    /// An XDP program that drops everything.
    EmptyDrop,
    /// An XDP program that lets everything pass.
    EmptyPass,
    /// The same, and a TC program that does so where packets leave: what the product's hooks cost, before they do anything.
    EmptyHooks,
    /// The product by XDP.
    EnforcerXdp,
    /// The product by TC.
    EnforcerTc,
    /// xdp-filter of xdp-tools. It knows addresses or ports, but not both together: addresses alone.
    XdpFilter,
    /// A set of nftables at the device's ingress.
    NftIngress,
    /// A set of nftables where packets are forwarded.
    NftForward,
    /// A set of ipset's, asked by iptables where packets are forwarded.
    Ipset,
}

/// What becomes of packets to the hosts; all others get the contrary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are dropped.
    Dropped,
    /// They are let pass.
    Forwarded,
}

impl Fate {
    /// As tables name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Forwarded => "forwarded",
        }
    }
}

/// How many packets to the hosts a filter has seen, by its own count. Dropping it ends what the filter needs.
pub type Count = Box<dyn Fn(&Lab) -> Result<u64>>;

impl Filter {
    /// As tables name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generator => "the generator alone",
            Self::Nothing => "no filter",
            Self::EmptyDrop => "empty XDP drop",
            Self::EmptyPass => "empty XDP pass",
            Self::EmptyHooks => "empty XDP and TC pass",
            Self::EnforcerXdp => "enforcer, XDP",
            Self::EnforcerTc => "enforcer, TC",
            Self::XdpFilter => "xdp-filter",
            Self::NftIngress => "nftables, netdev ingress",
            Self::NftForward => "nftables, forward",
            Self::Ipset => "iptables with ipset",
        }
    }

    /// The programs that must be there for it, with the packages that bring them.
    const fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::XdpFilter => &[("xdp-filter", "xdp-tools")],
            Self::NftIngress | Self::NftForward => &[("nft", "nftables")],
            Self::Ipset => &[("ipset", "ipset"), ("iptables", "iptables")],
            _ => &[],
        }
    }

    /// Puts it into a lab's gateway.
    pub fn install(self, lab: &Lab, traffic: &mut Traffic, hosts: &[Ipv4Addr], fate: Fate) -> Result<Option<Count>> {
        for (program, package) in self.needs() {
            let there = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            ensure!(there.is_ok(), "there is no {program} to compare with: install {package} (`cargo xtask setup`)");
        }
        Ok(Some(match self {
            Self::Nothing => return Ok(None),
            Self::Generator => return traffic.goes_nowhere().map(|()| None),
            Self::EmptyPass => return traffic.do_nothing_but("pass_all", lab).map(|()| None),
            Self::EmptyHooks => {
                traffic.do_nothing_but("pass_all", lab)?;
                traffic.do_nothing_more(lab)?;
                return Ok(None);
            }
            Self::EmptyDrop => empty_drop(lab, traffic)?,
            Self::EnforcerXdp => enforcer(lab, "native", hosts, fate)?,
            Self::EnforcerTc => enforcer(lab, "off", hosts, fate)?,
            Self::XdpFilter => xdp_filter(lab, hosts, fate)?,
            Self::NftIngress => nftables(lab, "netdev", "ingress device lan0", hosts, fate)?,
            Self::NftForward => nftables(lab, "ip", "forward", hosts, fate)?,
            Self::Ipset => ipset(lab, hosts, fate)?,
        }))
    }
}

fn empty_drop(lab: &Lab, traffic: &mut Traffic) -> Result<Count> {
    traffic.do_nothing_but("drop_all", lab)?;
    // The program is to do nothing, not even count; the device does.
    Ok(Box::new(|lab| {
        let statistics = lab.gateway.output("ethtool -S lan0")?;
        let queues = statistics.lines().filter_map(|line| line.split_once("_xdp_drops: "));
        queues.map(|(_, packets)| Ok(packets.trim().parse::<u64>()?)).sum()
    }))
}

fn enforcer(lab: &Lab, xdp: &str, hosts: &[Ipv4Addr], fate: Fate) -> Result<Count> {
    let (default, action) = match fate {
        Fate::Dropped => ("allow", "drop"),
        Fate::Forwarded => ("drop", "allow"),
    };
    let mut policy = format!("default = \"{default}\"\n[[service]]\nname = \"hosts\"\nports = [\"tcp/443\"]\nto = [\n");
    for host in hosts {
        writeln!(policy, "\"{host}\",")?;
    }
    write!(policy, "]\n[[rule]]\nname = \"hosts\"\naction = \"{action}\"\nservices = [\"hosts\"]\n")?;
    let enforcer = Enforcer::start(lab, &policy, &format!("--lan lan0 --wan wan0 --xdp {xdp}"))?;
    Ok(Box::new(move |_| {
        let counters = enforcer.counters()?;
        counters.get("hosts/hosts").copied().with_context(|| format!("no counter of the rule among {counters:?}"))
    }))
}

/// It keeps its tables in a BPF file system under a fixed path: a process with a mount of its own there is where they are.
struct XdpFilter(Child);

impl Drop for XdpFilter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn xdp_filter(lab: &Lab, hosts: &[Ipv4Addr], fate: Fate) -> Result<Count> {
    let (policy, word) = match fate {
        Fate::Dropped => ("allow", "XDP_DROP"),
        Fate::Forwarded => ("deny", "XDP_PASS"),
    };
    let script = format!(
        "mount -t bpf bpf /sys/fs/bpf\nxdp-filter load --mode native --policy {policy} --features ipv4 lan0\n\
         while read host; do xdp-filter ip --mode dst $host; done\necho ready\nexec sleep infinity\n"
    );
    let log = std::fs::File::create(lab.path("xdp-filter.log"))?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", lab.gateway.name(), "sh", "-e"]).arg(lab.file("xdp-filter.sh", &script)?);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
    let mut filter = XdpFilter(child);
    let mut input = filter.0.stdin.take().context("no input")?;
    let output = BufReader::new(filter.0.stdout.take().context("no output")?);
    // It ends early if there is something wrong, which its output tells.
    let _ = hosts.iter().try_for_each(|host| writeln!(input, "{host}"));
    drop(input);
    if !output.lines().map_while(Result::ok).any(|line| line == "ready") {
        bail!("xdp-filter does not start: {}", std::fs::read_to_string(lab.path("xdp-filter.log"))?.trim());
    }
    Ok(Box::new(move |_| {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--target", &filter.0.id().to_string(), "xdp-filter", "status"]);
        let status = String::from_utf8(command.output()?.stdout)?;
        // "XDP_DROP 12 pkts 1 KiB"
        let line = status.lines().find_map(|line| line.trim().strip_prefix(word));
        number(line.and_then(|line| line.split_whitespace().next()), &status)
    }))
}

fn nftables(lab: &Lab, family: &str, hook: &str, hosts: &[Ipv4Addr], fate: Fate) -> Result<Count> {
    let (default, verdict) = match fate {
        Fate::Dropped => ("accept", "drop"),
        Fate::Forwarded => ("drop", "accept"),
    };
    let mut elements = String::new();
    for host in hosts {
        write!(elements, "{host},")?;
    }
    let rules = format!(
        "table {family} bench {{\n set hosts {{ type ipv4_addr; elements = {{ {elements} }} }}\n chain from_lan {{\n  \
         type filter hook {hook} priority 0; policy {default};\n  ip daddr @hosts tcp dport 443 counter {verdict}\n }}\n}}\n"
    );
    lab.gateway.run(&format!("nft -f {}", lab.file("bench.nft", &rules)?.display()))?;
    let list = format!("nft list chain {family} bench from_lan");
    Ok(Box::new(move |lab| {
        let rules = lab.gateway.output(&list)?;
        number(rules.split_once("counter packets ").and_then(|(_, rest)| rest.split(' ').next()), &rules)
    }))
}

fn ipset(lab: &Lab, hosts: &[Ipv4Addr], fate: Fate) -> Result<Count> {
    let (default, target) = match fate {
        Fate::Dropped => ("ACCEPT", "DROP"),
        Fate::Forwarded => ("DROP", "ACCEPT"),
    };
    let mut set = "create hosts hash:ip\n".to_owned();
    for host in hosts {
        writeln!(set, "add hosts {host}")?;
    }
    lab.gateway.run(&format!("ipset -file {} restore", lab.file("bench.ipset", &set)?.display()))?;
    lab.gateway.run(&format!("iptables -P FORWARD {default}"))?;
    lab.gateway.run(&format!("iptables -A FORWARD -p tcp --dport 443 -m set --match-set hosts dst -j {target}"))?;
    Ok(Box::new(|lab| {
        let rules = lab.gateway.output("iptables -nvxL FORWARD")?;
        // A line about the chain, one with the columns' names, the rule.
        number(rules.lines().nth(2).and_then(|line| line.split_whitespace().next()), &rules)
    }))
}

fn number(text: Option<&str>, whole: &str) -> Result<u64> {
    text.and_then(|text| text.parse().ok()).with_context(|| format!("no count of packets in: {whole}"))
}
