//! A policy as tables for those who keep another firewall: CSV for programs, Markdown for people.

use std::fmt::Write as _;

use super::{Export, on_a_line, ports, ports::Ports};
use crate::policy::{Policy, Rule, Rules, Service, words};

/// The columns of the CSV; `enforcer import csv` reads those that it needs by these names.
pub const COLUMNS: [&str; 11] =
    ["part", "order", "rule", "action", "from", "service", "host", "protocol", "ports", "schedule", "comment"];

/// A line for each rule's hosts and protocols, in the order in which they are asked.
#[must_use]
pub fn csv(policy: &Policy) -> Export {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS).expect("to memory");
    for (part, rules) in parts(policy) {
        for (order, rule) in (1..).map(|order: u32| order.to_string()).zip(&rules.rules) {
            let mut row = |service: &str, host: &str, protocol: &str, ports: &str| {
                let (label, from, when) = (plain(&rule.label()), from(policy, rule), when(policy, rule));
                let comment = rule.comment.as_deref().map(plain).unwrap_or_default();
                let row = [part, &order, &label, action(rule), &from, service, host, protocol, ports, &when, &comment];
                writer.write_record(row).expect("to memory");
            };
            match &rule.services {
                None => row("", "any", "any", ""),
                Some(services) => {
                    for service in services.iter().map(|id| &policy.services[id.0 as usize]) {
                        for host in hosts(service) {
                            for (protocol, ports) in protocols(service) {
                                row(&service.name, &host, &protocol, &ports);
                            }
                        }
                    }
                }
            }
        }
        let last = (rules.rules.len() + 1).to_string();
        let rest = [part, &last, "default", words::name(rules.default), "any", "", "any", "any", "", "", ""];
        writer.write_record(rest).expect("to memory");
    }
    let text = String::from_utf8(writer.into_inner().expect("to memory")).expect("made of text");
    Export { text, warnings: watched(policy) }
}

/// A table for each part of the policy, a line for each rule's services.
#[must_use]
pub fn markdown(policy: &Policy) -> Export {
    let mut text = String::from(
        "# Firewall rules\n\nThe first rule that matches decides. `*.` stands for all names below a name.\n",
    );
    let warnings = watched(policy);
    for warning in &warnings {
        writeln!(text, "\n**Warning:** {warning}").expect("to memory");
    }
    for (part, rules) in parts(policy) {
        writeln!(text, "\n## Packets of {part}\n").expect("to memory");
        text +=
            "| | rule | action | from | service | to | protocols and ports | when | comment |\n|-:|-|-|-|-|-|-|-|-|\n";
        for (number, rule) in (1..).zip(&rules.rules) {
            let (when, comment) = (when(policy, rule), unmarked(rule.comment.as_deref().unwrap_or_default()));
            let mut row = |service: &str, to: &str, ports: &str| {
                let (label, from) = (unmarked(&rule.label()), from(policy, rule).replace(' ', "<br>"));
                let cells = [&label, action(rule), &from, service, to, ports, &when, &comment].map(cell);
                writeln!(text, "| {number} | {} |", cells.join(" | ")).expect("to memory");
            };
            match &rule.services {
                None => row("", "any", "any"),
                Some(services) => {
                    for service in services.iter().map(|id| &policy.services[id.0 as usize]) {
                        let ports: Vec<String> = protocols(service)
                            .into_iter()
                            .map(|(protocol, ports)| format!("{protocol} {ports}").trim().to_owned())
                            .collect();
                        row(&service.name, &hosts(service).join("<br>"), &ports.join("<br>"));
                    }
                }
            }
        }
        writeln!(text, "| | default | {} | any | | any | any | | |", words::name(rules.default)).expect("to memory");
    }
    Export { text, warnings }
}

/// Those that say something; clients' always.
fn parts(policy: &Policy) -> Vec<(&'static str, &Rules)> {
    let absent = Policy::default();
    let mut parts = vec![("clients", &policy.lan)];
    for (name, rules, without) in
        [("gateway", &policy.router, &absent.router), ("outside", &policy.inbound, &absent.inbound)]
    {
        if rules != without {
            parts.push((name, rules));
        }
    }
    parts
}

fn watched(policy: &Policy) -> Vec<String> {
    let warning = "the policy only watches: until its monitor is taken out, nothing of this is denied";
    policy.monitor.then(|| warning.to_owned()).into_iter().collect()
}

/// What a rule does, or would do.
fn action(rule: &Rule) -> &'static str {
    if rule.monitor { "monitor" } else { words::name(rule.action) }
}

fn from(policy: &Policy, rule: &Rule) -> String {
    // What the portal leaves out of its clients is said in words.
    let portal = policy.portal.as_ref().filter(|_| rule.closes());
    match portal.map_or(&rule.from, |portal| &portal.from) {
        None => "any".into(),
        Some(nets) => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn when(policy: &Policy, rule: &Rule) -> String {
    let Some(when) = rule.when else {
        let unadmitted = match &policy.proxies[..] {
            [] => "while the client is not admitted",
            _ => "while the client is not admitted, and is no proxy",
        };
        return if rule.closes() { unadmitted.into() } else { String::new() };
    };
    let schedule = &policy.schedules[when.0 as usize];
    let times = schedule.spans().join("; ");
    format!("{}: {times} ({})", schedule.name, schedule.zone)
}

fn hosts(service: &Service) -> Vec<String> {
    service.to.iter().map(ToString::to_string).chain(service.names.iter().map(ToString::to_string)).collect()
}

/// Protocols, each with its ports, or types and codes; nothing means all.
fn protocols(service: &Service) -> Vec<(String, String)> {
    let all = Ports::of(&service.ports);
    if all.any {
        return vec![("any".into(), String::new())];
    }
    let mut list: Vec<(String, String)> = Vec::new();
    for (transport, ranges) in &all.ranges {
        let some = (ranges != ports::ALL).then(|| ranges.iter().map(ports::range).collect::<Vec<_>>().join(" "));
        list.push((transport.to_string(), some.unwrap_or_default()));
    }
    for (name, kinds) in [("icmp", &all.icmp), ("icmpv6", &all.icmpv6)] {
        let one = |(kind, code): &(Option<u8>, Option<u8>)| {
            let parts = [*kind, *code].into_iter().flatten().map(|part| part.to_string());
            parts.collect::<Vec<_>>().join("/")
        };
        if !kinds.is_empty() {
            list.push((name.into(), kinds.iter().map(one).collect::<Vec<_>>().join(" ")));
        }
    }
    list.extend(all.protocols.iter().map(|number| (format!("proto/{number}"), String::new())));
    list
}

/// A text that ends no cell.
fn cell(text: &str) -> String {
    on_a_line(text).replace('|', "\\|")
}

/// A comment's text, which is no markup.
fn unmarked(comment: &str) -> String {
    comment.replace('\\', "\\\\").replace('<', "&lt;")
}

/// What spreadsheets would take for a formula as the text that it is.
fn plain(text: &str) -> String {
    let text = on_a_line(text);
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_formulas_and_no_markup() {
        assert_eq!(plain("=HYPERLINK(\"http://x\")"), "'=HYPERLINK(\"http://x\")");
        assert_eq!(plain("a = b"), "a = b");
        assert_eq!(cell(&unmarked("a \\| <b>")), "a \\\\\\| &lt;b>");
    }
    use crate::catalog::Catalogs;

    const POLICY: &str = r#"
default = "drop"
[[schedule]]
name = "lessons"
zone = "Europe/Berlin"
times = ["mon 08:00-13:00"]
[[service]]
name = "push"
to = ["17.0.0.0/8", "*.push.apple.com"]
ports = ["tcp/443", "tcp/5223", "icmp/8"]
[[rule]]
name = "tablets"
comment = "a, \"quoted\" | comment"
action = "allow"
services = ["push"]
from = ["10.1.0.0/24", "fd00::/64"]
when = "lessons"
"#;

    #[test]
    fn a_csv_has_a_line_for_each_host_and_protocol() {
        let policy = Policy::parse("p", POLICY, &Catalogs::default()).expect("valid");
        let end = "\"lessons: mon 08:00-13:00 (Europe/Berlin)\",\"a, \"\"quoted\"\" | comment\"";
        let end = end.replacen('"', "", 2);
        let row = |host: &str, ports: &str| {
            format!("clients,1,tablets,allow,10.1.0.0/24 fd00::/64,push,{host},{ports},{end}")
        };
        let wanted = [
            COLUMNS.join(","),
            row("17.0.0.0/8", "tcp,443 5223"),
            row("17.0.0.0/8", "icmp,8"),
            row("*.push.apple.com", "tcp,443 5223"),
            row("*.push.apple.com", "icmp,8"),
            "clients,2,default,drop,any,,any,any,,,".into(),
        ];
        assert_eq!(csv(&policy).text.lines().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn markdown_has_a_line_for_each_service() {
        let policy = Policy::parse("p", POLICY, &Catalogs::default()).expect("valid");
        let text = markdown(&policy).text;
        let row = "| 1 | tablets | allow | 10.1.0.0/24<br>fd00::/64 | push | 17.0.0.0/8<br>*.push.apple.com | tcp 443 5223<br>icmp 8 | \
                   lessons: mon 08:00-13:00 (Europe/Berlin) | a, \"quoted\" \\| comment |";
        assert!(text.contains(row), "{text}");
        assert!(text.ends_with("| | default | drop | any | | any | any | | |\n"), "{text}");
    }
}
