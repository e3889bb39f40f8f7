//! The edge: what the kernel tells.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use ethtool::{EthtoolAttr, EthtoolFeatureAttr};
use futures_util::{StreamExt as _, TryStreamExt as _, pin_mut};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};

use super::{
    facts::{Facts, Interface, Program},
    netdev,
};
use crate::{
    api::{client, types::Status},
    kernel::{
        hook::{self, Hook},
        pins::{Pins, is_place},
        tc,
    },
};

/// Everything about the machine, and about interfaces by name with their roles; without any, about all that are up.
pub async fn gather(wanted: &[(String, &'static str)], pins: &Path, socket: &Path) -> Result<Facts> {
    let number = |path: &str| read(path).and_then(|text| text.parse().ok());
    let capabilities = read("/proc/self/status").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim().to_owned();
        u64::from_str_radix(&line, 16).ok()
    });
    let controller: Result<Status> = client::get(socket, "/v1/status").await;
    let interfaces = interfaces(wanted).await?;
    let is_missing = |name: &&String| !interfaces.iter().any(|found| found.name == **name);
    Ok(Facts {
        kernel: read("/proc/sys/kernel/osrelease").context("no /proc: is it mounted?")?,
        // The one interface that every namespace has.
        tcx: hook::has_tcx("lo"),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        unprivileged_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        pins: pins.to_owned(),
        bpffs: is_place(pins),
        own: Pins::running_of(pins).ok().map(|programs| programs.into_iter().collect()),
        controller: controller.map(|status| status.warnings).map_err(|error| error.to_string()),
        capabilities: capabilities.unwrap_or(0),
        forwarding: ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
            .map(|name| number(&format!("/proc/sys/net/{name}"))),
        dns: ["tcp", "tcp6", "udp", "udp6"]
            .iter()
            .flat_map(|kind| servers(&read(&format!("/proc/net/{kind}")).unwrap_or_default(), kind.starts_with("tcp")))
            .fold(Vec::new(), |mut places, place| {
                if !places.contains(&place) {
                    places.push(place);
                }
                places
            }),
        clock: clock(),
        flow_offload: flow_tables(),
        missing: wanted.iter().map(|(name, _)| name).filter(is_missing).cloned().collect(),
        interfaces,
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Where somebody listens on port 53, by a table of /proc/net: local address and port are hexadecimal, addresses in words of the machine's byte order;
/// TCP listens in state 0A, UDP sockets without a peer are in state 07.
pub fn servers(table: &str, tcp: bool) -> Vec<SocketAddr> {
    let state = if tcp { "0A" } else { "07" };
    let server = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let listens = words.nth(1)? == state && u16::from_str_radix(port, 16).ok()? == 53;
        let words: Vec<u32> = (0..address.len() / 8)
            .map(|index| u32::from_str_radix(&address[index * 8..][..8], 16).map(u32::from_be))
            .collect::<Result<_, _>>()
            .ok()?;
        let address = match words[..] {
            [word] => IpAddr::V4(Ipv4Addr::from_bits(word)),
            [a, b, c, d] => IpAddr::V6(Ipv6Addr::from_bits(
                [a, b, c, d].iter().fold(0, |bits, &word| bits << 32 | u128::from(word)),
            )),
            _ => return None,
        };
        listens.then_some(SocketAddr::new(address, 53))
    };
    table.lines().filter_map(server).collect()
}

/// Whether the kernel's clock is being kept by something.
fn clock() -> bool {
    // SAFETY: all of its fields are integers, for which zero is a value; `modes` of zero only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value of this function's own, which outlives the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    answer != -1 && answer != libc::TIME_ERROR
}

/// Names of nftables' flow tables that are handed to hardware.
fn flow_tables() -> Option<Vec<String>> {
    let output =
        Command::new("nft").args(["list", "flowtables"]).output().ok().filter(|output| output.status.success())?;
    Some(offloaded(&String::from_utf8_lossy(&output.stdout)))
}

/// The same from what nft prints.
pub fn offloaded(text: &str) -> Vec<String> {
    let mut name = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("flowtable ") {
            name = rest.trim_end_matches(" {");
        } else if line.strip_prefix("flags ").is_some_and(|flags| flags.trim_end_matches(';').contains("offload")) {
            found.push(name.to_owned());
        }
    }
    found
}

async fn interfaces(wanted: &[(String, &'static str)]) -> Result<Vec<Interface>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("no netlink")?;
    tokio::spawn(connection);
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.context("interfaces")?;
    // Without the right to see programs there are no names.
    let programs: HashMap<u32, String> = loaded_programs()
        .map_while(Result::ok)
        .map(|program| (program.id(), program.name_as_str().unwrap_or("unnamed").to_owned()))
        .collect();
    let mut found = Vec::new();
    for link in &links {
        let name = name(link);
        let role = wanted.iter().find(|(wanted, _)| *wanted == name).map(|(_, role)| *role);
        let up = link.header.flags.contains(LinkFlags::Up) && !link.header.flags.contains(LinkFlags::Loopback);
        if role.is_none() && !(wanted.is_empty() && up) {
            continue;
        }
        let vlans = links.iter().filter(|vlan| is_vlan_on(vlan, link.header.index));
        let (mut xdp, mut mtu, mut gso_max) = (Vec::new(), 0, 0);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Mtu(value) => mtu = *value,
                LinkAttribute::GsoMaxSize(value) => gso_max = gso_max.max(*value),
                LinkAttribute::GroMaxSize(value) => gso_max = gso_max.max(*value),
                LinkAttribute::Xdp(attributes) => {
                    xdp.extend(attributes.iter().filter_map(|attribute| match attribute {
                        LinkXdp::ProgId(id) if *id != 0 => {
                            let unnamed = || format!("number {id}, whose name takes CAP_SYS_ADMIN");
                            let name = programs.get(id).cloned().unwrap_or_else(unnamed);
                            Some(Program { number: *id, name, side: None })
                        }
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        let rp_filter = [name.as_str(), "all"]
            .iter()
            .filter_map(|name| read(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"))?.parse().ok())
            .max();
        let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver")).ok();
        let queues = fs::read_dir(format!("/sys/class/net/{name}/queues")).into_iter().flatten().flatten();
        let queues = queues.filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count();
        found.push(Interface {
            role,
            driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
            mtu,
            queues,
            xdp_features: netdev::xdp_features(link.header.index).await,
            offloads: offloads(&name).await.unwrap_or_default(),
            xdp,
            tcx: tcx(&name),
            filters: filters(link.header.index),
            vlans: vlans.map(self::name).collect(),
            rp_filter,
            gso_max,
            name,
        });
    }
    Ok(found)
}

fn name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

fn is_vlan_on(link: &LinkMessage, index: u32) -> bool {
    let on = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Link(below) if *below == index));
    on && link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan))))
    })
}

/// TCX programs, with their direction.
fn tcx(interface: &str) -> Result<Vec<Program>, String> {
    let mut found = Vec::new();
    for (direction, side) in [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")] {
        let (_, programs) = SchedClassifier::query_tcx(interface, direction)
            .map_err(|error| anyhow::Error::new(error).root_cause().to_string())?;
        found.extend(programs.iter().map(|program| Program {
            number: program.id(),
            name: program.name_as_str().unwrap_or("unnamed").to_owned(),
            side: Some(side),
        }));
    }
    Ok(found)
}

/// Filters of the clsact qdisc at both sides, each sort once.
fn filters(index: u32) -> Vec<Program> {
    let mut found = Vec::new();
    for hook in [Hook::ClsactIngress, Hook::ClsactEgress] {
        for filter in tc::filters(index, hook).unwrap_or_default().iter().filter(|filter| filter.handle != 0) {
            let number = filter.program.unwrap_or(0);
            let filter = Program { number, name: filter.to_string(), side: Some(hook.side()) };
            if !found.contains(&filter) {
                found.push(filter);
            }
        }
    }
    found
}

/// Offloads that are on or off.
async fn offloads(interface: &str) -> Option<BTreeMap<String, bool>> {
    let (connection, mut handle, _) = ethtool::new_connection().ok()?;
    tokio::spawn(connection);
    let answers = handle.feature().get(Some(interface)).execute().await.ok()?;
    pin_mut!(answers);
    let mut offloads = BTreeMap::new();
    while let Some(Ok(message)) = answers.next().await {
        for attribute in message.payload.nlas {
            if let EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) = attribute {
                offloads.extend(bits.into_iter().map(|bit| (bit.name, bit.value)));
            }
        }
    }
    Some(offloads)
}
