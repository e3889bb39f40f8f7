//! A table of nftables that judges what the enforcer judges.
//!
//! Packets of a LAN are judged where they are forwarded, each by itself, as the enforcer does it; connections are asked about only where the policy
//! does, for replies to what comes from outside and for ICMP errors. Loading it again exchanges rules and prefixes at once, and keeps the addresses that
//! dnsmasq has told of a service whose names are as they were.

use std::fmt::Write as _;

use super::{
    Export, Refusal, head,
    matching::{Way, list, ways},
    ports::Ports,
    sets::{self, TABLE},
};
use crate::policy::{Action, Policy, PortMatch, Rule, Rules, Service};

/// The gateway's interfaces.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Where clients are.
    pub lans: Vec<String>,
    /// Where the internet is; without any, other interfaces' packets and the gateway's own are not judged.
    pub wans: Vec<String>,
}

/// Where denied packets go that their sender is told of.
const REFUSE: &str = "goto refuse";
/// Authentication headers.
const AH: u8 = 51;

/// The table. The policy is one without schedules, see [`super::at`].
///
/// # Errors
/// If an interface has a name that none can have, or the policy has rules for the gateway that would apply nowhere.
pub fn nftables(policy: &Policy, interfaces: &Interfaces) -> Result<Export, Refusal> {
    if let Some(bad) = interfaces.lans.iter().chain(&interfaces.wans).find(|name| !is_interface(name)) {
        return Err(Refusal::Interface(bad.clone()));
    }
    if policy.portal.is_some() {
        return Err(Refusal::Portal("nftables"));
    }
    let judges_gateway = !policy.router.rules.is_empty() || policy.router.default != Action::Allow;
    if judges_gateway && interfaces.wans.is_empty() {
        return Err(Refusal::NoWan);
    }
    let warnings = warnings(policy, interfaces);
    let about = [
        "What clients may reach, written by `enforcer export nftables`: load it with `nft -f FILE`, again for each change.",
        "What goes to the gateway itself, or from client to client, is not judged here. Of IPv6 packets with an authentication header behind another",
        "extension header, nftables sees what is in them, where the enforcer sees the authentication header alone.",
    ];
    let lans: Vec<String> = interfaces.lans.iter().map(|name| format!("{name:?}")).collect();
    let wans: Vec<String> = interfaces.wans.iter().map(|name| format!("{name:?}")).collect();
    let used = sets::used(policy, &[&policy.lan, &policy.router, &policy.inbound]);
    let mut text = format!("#!/usr/sbin/nft -f\n{}", head("#", &about, &warnings));

    // First what is there afterwards in any case, so that all that an earlier file left in it can be taken out.
    let mut chains = vec!["refuse", "clients", "clients-ah", "replies"];
    let (mut declared, mut flushed, mut filled) = (String::new(), String::new(), String::new());
    for service in &used {
        for Way { v6, .. } in ways(false) {
            let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
            if has_set(policy, service, v6) {
                let name = sets::prefixes(service, v6);
                writeln!(declared, "\tset {name} {{ type {kind}; flags interval; }}").expect("to memory");
                writeln!(flushed, "flush set inet {TABLE} {name}").expect("to memory");
                let nets = sets::of_family(&policy.destinations(service), v6);
                let nets: Vec<String> = nets.iter().map(|net| format!("\t\t{net},\n")).collect();
                let nets = nets.concat();
                writeln!(filled, "\tset {name} {{ type {kind}; flags interval; elements = {{\n{nets}\t}} }}")
                    .expect("to memory");
            }
            if !service.names.is_empty() {
                let (name, seconds) = (sets::told(policy, service, v6), sets::seconds(policy));
                writeln!(declared, "\tset {name} {{ type {kind}; flags timeout; timeout {seconds}s; }}")
                    .expect("to memory");
            }
        }
    }
    if judges_gateway {
        chains.push("gateway");
    }
    let chains: String = chains.iter().map(|name| format!("\tchain {name} {{ }}\n")).collect();
    let forward = "type filter hook forward priority filter; policy accept;";
    let output = "type filter hook output priority filter; policy accept;";
    let hooks = format!("\tchain forward {{ {forward} }}\n\tchain output {{ {output} }}\n");
    writeln!(
        text,
        "table inet {TABLE} {{\n{declared}{chains}{hooks}}}\nflush table inet {TABLE}\n{flushed}table inet {TABLE} {{"
    )
    .expect("to memory");
    text += &filled;
    chain(
        &mut text,
        "refuse",
        &["meta l4proto tcp reject with tcp reset".into(), "reject with icmpx admin-prohibited".into()],
    );
    chain(&mut text, "replies", &replies(policy));
    chain(&mut text, "clients-ah", &hidden(policy));
    chain(&mut text, "clients", &clients(policy, &lans));
    if judges_gateway {
        chain(&mut text, "gateway", &gateway(policy));
    }
    let mut hook = vec![format!("iifname {} jump clients", list(&lans))];
    if !wans.is_empty() && policy.watched(policy.unlisted) == Action::Drop {
        hook.push(format!("iifname != {} oifname {} counter drop comment \"unlisted\"", list(&wans), list(&wans)));
    }
    chain(&mut text, "forward", &hook);
    if judges_gateway {
        chain(&mut text, "output", &[format!("oifname {} jump gateway", list(&wans))]);
    }
    text += "}\n";
    Ok(Export { text, warnings })
}

/// What the table does otherwise than the enforcer.
fn warnings(policy: &Policy, interfaces: &Interfaces) -> Vec<String> {
    let mut warnings = Vec::new();
    if interfaces.wans.is_empty() && policy.watched(policy.unlisted) == Action::Drop {
        warnings.push("what other interfaces forward to the internet is not judged, as no --wan is named".into());
    }
    for (word, action) in [("fragments", policy.fragments), ("malformed", policy.malformed), ("non-ip", policy.non_ip)]
    {
        if action != Action::Drop {
            warnings
                .push(format!("{word} = {:?} is not exported: the kernel decides", crate::policy::words::name(action)));
        }
    }
    warnings
}

/// Whether a service has prefixes of a family, and not all of them.
fn has_set(policy: &Policy, service: &Service, v6: bool) -> bool {
    sets::of_family(&policy.destinations(service), v6).first().is_some_and(|net| net.prefix_len() > 0)
}

fn chain(text: &mut String, name: &str, lines: &[String]) {
    let lines: String = lines.iter().map(|line| format!("\t\t{line}\n")).collect();
    writeln!(text, "\tchain {name} {{\n{lines}\t}}").expect("to memory");
}

/// Clients' packets: what is settled before any rule, the rules, the rest.
fn clients(policy: &Policy, lans: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    // No word of the policy opens these.
    let refused = if policy.monitor { "counter" } else { "counter drop" };
    for source_route in ["ip option lsrr exists", "ip option ssrr exists", "exthdr rt exists"] {
        lines.push(format!("{source_route} {refused} comment \"source-route\""));
    }
    if policy.strict_sources {
        lines.push(format!("fib saddr . iif oif missing {refused} comment \"source\""));
    }
    lines.push(format!("oifname {} accept comment \"local\"", list(lans)));
    lines.extend(connections(policy));
    // nftables looks through IPv6's authentication headers, the enforcer does not.
    lines.push(format!("ip6 nexthdr {AH} goto clients-ah"));
    lines.extend(judged(policy, &policy.lan, &ways(false), <[PortMatch]>::to_vec));
    lines
}

/// Clients' packets behind an authentication header, whose ports are not looked for.
fn hidden(policy: &Policy) -> Vec<String> {
    let way = Way { v6: true, reply: false };
    judged(policy, &policy.lan, &[way], |ports| {
        let hidden = |port: &&PortMatch| matches!(port, PortMatch::Any | PortMatch::Protocol(AH));
        // The header itself is no longer to be asked for: what is in this chain has one.
        ports.iter().filter(hidden).map(|_| PortMatch::Any).collect()
    })
}

/// The gateway's own packets.
fn gateway(policy: &Policy) -> Vec<String> {
    const GROUPS: [&str; 2] = ["ip daddr { 224.0.0.0/4, 255.255.255.255 }", "ip6 daddr { ff00::/8, fe80::/10 }"];
    let mut lines = vec!["icmpv6 type { 133, 134, 135, 136, 137 } accept comment \"local\"".to_owned()];
    // But for tunnels: IPIP, 6in4, GRE, and by UDP VXLAN (on both of its ports) and Geneve.
    for group in GROUPS {
        lines.push(format!("{group} meta l4proto != {{ 4, 17, 41, 47 }} accept comment \"local\""));
        lines.push(format!("{group} udp dport != {{ 4789, 6081, 8472 }} accept comment \"local\""));
    }
    lines.extend(connections(policy));
    lines.extend(judged(policy, &policy.router, &ways(false), <[PortMatch]>::to_vec));
    lines
}

/// What passes whatever the rules say: replies to connections from outside, errors about connections.
fn connections(policy: &Policy) -> Vec<String> {
    let mut lines = vec!["ct direction reply jump replies".to_owned()];
    if verdict(policy, policy.icmp_errors) == "accept" {
        lines.push("ct state related meta l4proto { 1, 58 } counter accept comment \"icmp-error\"".into());
    }
    lines
}

/// Replies to connections from outside, by the rules that allow those.
fn replies(policy: &Policy) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in &policy.inbound.rules {
        let verdict = if rule.action == Action::Allow { "accept" } else { "return" };
        lines.extend(of_rule(policy, rule, &ways(true), verdict, <[PortMatch]>::to_vec));
    }
    if policy.inbound.default == Action::Allow {
        lines.push("counter accept comment \"inbound-default\"".into());
    }
    lines
}

/// Rules in order, and what becomes of the rest.
fn judged(policy: &Policy, rules: &Rules, ways: &[Way], ports: impl Fn(&[PortMatch]) -> Vec<PortMatch>) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in &rules.rules {
        let verdict = verdict(policy, policy.effect(rule));
        lines.extend(of_rule(policy, rule, ways, verdict, &ports));
    }
    let rest = verdict(policy, rules.default);
    lines.push(format!("counter {rest} comment \"default\""));
    lines
}

/// A rule: a line for each of its services' families, kinds of destinations and of ports.
fn of_rule(
    policy: &Policy,
    rule: &Rule,
    ways: &[Way],
    verdict: &str,
    ports: impl Fn(&[PortMatch]) -> Vec<PortMatch>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |parts: &[&str]| {
        let comment = format!("comment \"{}\"", comment(rule));
        let parts = parts.iter().copied().filter(|part| !part.is_empty());
        lines.push(parts.chain(["counter", verdict, &comment]).collect::<Vec<_>>().join(" "));
    };
    let Some(services) = &rule.services else {
        if rule.from.is_none() {
            add(&[]);
        } else {
            ways.iter().filter_map(|way| way.from(rule.from.as_deref())).for_each(|from| add(&[&from]));
        }
        return lines;
    };
    for service in services.iter().map(|id| &policy.services[id.0 as usize]) {
        let taken = ports(&service.ports);
        if taken.is_empty() {
            continue;
        }
        let taken = Ports::of(&taken);
        for way in ways {
            let Some(from) = way.from(rule.from.as_deref()) else { continue };
            for to in way.to(policy, service) {
                for port in way.ports(&taken) {
                    add(&[&from, &to, &port]);
                }
            }
        }
    }
    lines
}

/// What a packet meets: what is only watched passes.
fn verdict(policy: &Policy, action: Action) -> &'static str {
    match policy.watched(action) {
        Action::Allow | Action::Monitor => "accept",
        Action::Drop => "drop",
        Action::Reject => REFUSE,
    }
}

/// A rule's name: nftables has no way to write quotes, and takes 128 bytes.
fn comment(rule: &Rule) -> String {
    let plain = |letter: char| if letter.is_ascii_graphic() && letter != '"' { letter } else { '_' };
    rule.label().chars().map(plain).take(120).collect()
}

/// As the kernel has them (`dev_valid_name`), but for what would mean something else between quotes.
fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && ![".", ".."].contains(&name)
        && name.chars().all(|letter| letter.is_ascii_graphic() && !"\"\\/*:".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    fn parsed(text: &str) -> Policy {
        Policy::parse("p", text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn interfaces(wans: &[&str]) -> Interfaces {
        Interfaces { lans: vec!["lan0".into()], wans: wans.iter().map(ToString::to_string).collect() }
    }

    /// The lines of a chain.
    fn lines(policy: &str, chain: &str) -> Vec<String> {
        let export = nftables(&parsed(policy), &interfaces(&["wan0"])).expect("exported");
        let (_, rest) = export.text.rsplit_once(&format!("\tchain {chain} {{\n")).expect("the chain");
        let (lines, _) = rest.split_once("\t}\n").expect("its end");
        lines.lines().map(|line| line.trim().to_owned()).collect()
    }

    const POLICY: &str = r#"
default = "reject"
[[service]]
name = "push/1"
to = ["17.0.0.0/8", "17.1.0.0/16", "2620:149::/32", "*.push.apple.com"]
ports = ["tcp/443", "tcp/5223", "udp", "icmp/8", "icmpv6/128/0", "proto/47"]
[[rule]]
name = "tablets"
action = "allow"
services = ["push/1"]
from = ["10.1.0.0/24"]
[[rule]]
action = "drop"
from = ["10.1.0.0/16", "::/0"]
"#;

    #[test]
    fn a_rule_is_a_line_for_each_family_set_and_kind_of_ports() {
        let from = "ip saddr 10.1.0.0/24";
        let policy = parsed(POLICY);
        let [told4, told6] = [false, true].map(|v6| sets::told(&policy, &policy.services[0], v6));
        let wanted: Vec<String> = ["to4-push_-1", &told4]
            .into_iter()
            .flat_map(|set| {
                let ports = ["meta l4proto { udp, 47 }", "tcp dport { 443, 5223 }", "icmp type 8"];
                ports.map(|port| format!("{from} ip daddr @{set} {port} counter accept comment \"tablets\""))
            })
            .chain(
                ["ip saddr 10.1.0.0/16", "meta nfproto ipv6"]
                    .map(|from| format!("{from} counter drop comment \"line-12\"")),
            )
            .chain(["counter goto refuse comment \"default\"".into()])
            .collect();
        let lines = lines(POLICY, "clients");
        assert_eq!(lines[lines.len() - wanted.len()..], wanted);
        let text = nftables(&policy, &interfaces(&[])).expect("exported").text;
        assert!(
            text.contains("set to4-push_-1 { type ipv4_addr; flags interval; elements = {\n\t\t17.0.0.0/8,\n\t} }"),
            "{text}"
        );
        let told6 = format!("set {told6} {{ type ipv6_addr; flags timeout; timeout 86460s; }}");
        assert!(text.contains(&told6), "{text}");
    }

    #[test]
    fn replies_are_told_by_the_rules_about_connections_from_outside() {
        let policy = "default = \"drop\"\n[[service]]\nname = \"mail\"\nto = [\"10.1.0.9\"]\nports = [\"tcp/25\", \"icmp/8\"]\n\
                      [[inbound.rule]]\nname = \"in\"\naction = \"allow\"\nservices = [\"mail\"]\nfrom = [\"192.0.2.0/24\"]\n";
        let match_of = |port| format!("ip daddr 192.0.2.0/24 ip saddr @to4-mail {port} counter accept comment \"in\"");
        assert_eq!(lines(policy, "replies"), ["tcp sport 25", "icmp type 0"].map(match_of));
    }

    #[test]
    fn what_only_watches_denies_nothing() {
        let lines = lines(&format!("monitor = true{POLICY}"), "clients");
        assert!(lines.iter().all(|line| !line.contains("drop") && !line.contains("refuse")), "{lines:?}");
    }

    #[test]
    fn what_cannot_be_said_is_refused_or_warned_of() {
        for name in ["lan0\" drop", "", "..", "lan*", "lan:1", "lan\\", "länder", "a234567890123456"] {
            let bad = Interfaces { lans: vec![name.into()], wans: Vec::new() };
            assert_eq!(nftables(&parsed(POLICY), &bad), Err(Refusal::Interface(name.into())));
        }
        let gateway = format!("{POLICY}[router]\ndefault = \"drop\"\n");
        assert_eq!(nftables(&parsed(&gateway), &interfaces(&[])), Err(Refusal::NoWan));
        let warned = nftables(&parsed(&format!("fragments = \"allow\"{POLICY}")), &interfaces(&[])).expect("exported");
        assert!(warned.warnings.iter().any(|warning| warning.contains("fragments")), "{:?}", warned.warnings);
        assert!(warned.warnings.iter().all(|warning| warned.text.contains(warning)), "{}", warned.text);
    }
}
