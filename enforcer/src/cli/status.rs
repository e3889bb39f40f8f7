//! `enforcer status`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Socket,
    rates::{Amount, Rate, Totals},
    style::{self, painted},
    units,
};
use crate::{
    api::{
        client,
        types::{Counters, HookStatus, NamesStatus, Snooped, Status},
    },
    dns::forwarder::counters::Snapshot,
    names::Counts,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON, without rates
    #[arg(long)]
    json: bool,
}

/// Between the two looks at the counters that rates are told from.
const SAMPLE: Duration = Duration::from_millis(500);

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let socket = &arguments.socket.socket;
    super::block_on(async {
        if arguments.json {
            super::print_json(&client::get::<Status>(socket, "/v1/status").await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (start, before) = (Instant::now(), client::get::<Counters>(socket, "/v1/counters").await?);
        tokio::time::sleep(SAMPLE).await;
        let (now, seconds) = (client::get::<Counters>(socket, "/v1/counters").await?, start.elapsed().as_secs_f64());
        let status: Status = client::get(socket, "/v1/status").await?;
        super::print(&render(&status, Totals::of(&before), Totals::of(&now), seconds, style::columns()))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The screen. Lines without a first word go on with the one above.
fn render(status: &Status, before: Totals, now: Totals, seconds: f64, width: Option<usize>) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |word: &str, text: String| rows.push(vec![painted(style::HEADING, word), text]);
    row("version", status.version.clone());
    row("policy", status.policy.clone());
    row("sha256", status.policy_sha256.clone());
    row(
        "policy size",
        format!(
            "{} services, {} rules, {} prefixes, {} hosts; kernel maps of {:.1} MB",
            status.services,
            status.rules,
            status.prefixes,
            status.hosts,
            status.map_bytes as f64 / 1e6
        ),
    );
    row("running for", units::duration(status.uptime_seconds));
    if !status.schedules.is_empty() {
        row("schedules", format!("now {}", status.schedules.join(", ")));
    }
    if let Some(admitted) = status.admitted {
        row("admitted", format!("{} clients by the portal", units::number(admitted as f64)));
    }
    for (role, text) in hooks(&status.hooks) {
        row(&role, text);
    }
    row("allowed", rate(before.allowed, now.allowed, seconds));
    row("denied", rate(before.denied, now.denied, seconds));
    if now.monitored.packets > 0 {
        row("monitored", rate(before.monitored, now.monitored, seconds));
    }
    if status.events_lost > 0 {
        row("events lost", status.events_lost.to_string());
    }
    if let Some(names) = &status.names {
        for (word, text) in of_names(names) {
            row(word, text);
        }
    }
    if let Some(seconds) = status.confirm_seconds {
        let text = format!("`enforcer confirm` within {seconds} s, or the policy before comes back");
        rows.push(vec![painted(style::WARNING, "unconfirmed"), painted(style::WARNING, &text)]);
    }
    let unplaced = status.names.as_ref().map_or(0, |names| names.unplaced);
    let unplaced = (unplaced > 0)
        .then(|| format!("{unplaced} addresses of names had no room in the tables: they are not matched"));
    for warning in unplaced.iter().chain(&status.warnings) {
        rows.push(vec![painted(style::WARNING, "WARNING"), painted(style::WARNING, warning)]);
    }
    let first = rows.iter().map(|row| style::width(&row[0])).max().unwrap_or(0) + 2;
    let wrapped = rows.into_iter().flat_map(|mut row| {
        let text = row.pop().unwrap_or_default();
        let lines = width.map_or_else(|| vec![text.clone()], |width| wrap(&text, width.saturating_sub(first)));
        lines.into_iter().enumerate().map(move |(index, line)| {
            let word = if index == 0 { row[0].clone() } else { String::new() };
            vec![word, line]
        })
    });
    super::table(&wrapped.collect::<Vec<_>>(), &[])
}

/// Text in lines of at most so many columns, but for words that are longer.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut words = text.split(' ');
    let mut lines = vec![words.next().unwrap_or_default().to_owned()];
    for word in words {
        match lines.last_mut() {
            Some(line) if style::width(line) + 1 + style::width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A line for each role and interface, LANs first: the hook that judges, then the others.
fn hooks(hooks: &[HookStatus]) -> Vec<(String, String)> {
    let rank = |role: &str| ["lan", "wan", "snoop"].iter().position(|known| *known == role);
    let mut lines: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for hook in hooks {
        match lines.iter_mut().find(|(role, interface, _)| (*role, *interface) == (&hook.role, &hook.interface)) {
            Some((.., found)) => found.push(&hook.hook),
            None => lines.push((&hook.role, &hook.interface, vec![&hook.hook])),
        }
    }
    lines.sort_by_key(|(role, ..)| rank(role));
    let text = |(role, interface, mut hooks): (&str, &str, Vec<&str>)| {
        hooks.sort_by_key(|hook| (hook.contains("egress"), *hook));
        (role.to_owned(), format!("{interface} by {}", hooks.join(" and ")))
    };
    lines.into_iter().map(text).collect()
}

/// What is going on now, and what went on so far.
fn rate(before: Amount, now: Amount, seconds: f64) -> String {
    let Rate { packets, bits } = Rate::between(before, now, seconds);
    let so_far = format!("{} packets, {} so far", units::number(now.packets as f64), units::bytes(now.bytes));
    format!("{:>9} packets/s  {:>10}   {}", units::number(packets), units::bits(bits), painted(style::FAINT, &so_far))
}

fn of_names(status: &NamesStatus) -> Vec<(&'static str, String)> {
    let NamesStatus { counts, queries, snooped, upstreams, .. } = status;
    let Counts { names, addresses, draining, kept, evicted, refused } = counts;
    let mut rows = vec![(
        "names",
        format!(
            "{names} with {addresses} addresses, {draining} draining, {kept} kept as resolvers tell of none; \
             {evicted} evicted, {refused} refused"
        ),
    )];
    if let Some(queries) = queries {
        let Snapshot {
            queries,
            answers,
            nxdomain,
            zero,
            refused,
            failed,
            over_limit,
            displaced,
            over_client_rate,
            connections_over_limit,
            outside,
            ..
        } = queries;
        let (denied, over_limit) = (nxdomain + zero + refused, over_limit + displaced + connections_over_limit);
        let over_rate = if *over_client_rate == 0 { String::new() } else { format!(", {over_client_rate} over rates") };
        let outside = if *outside == 0 { String::new() } else { format!(", {outside} from outside") };
        let text = format!(
            "{queries}, {answers} answered, {denied} denied, {failed} failed, {over_limit} over limits{over_rate}{outside}"
        );
        rows.push(("DNS queries", text));
    }
    rows.extend(snooped.iter().flat_map(of_snooped));
    rows.extend(upstreams.iter().map(|upstream| {
        let error = upstream.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let (style, state) = if upstream.well { (style::GOOD, "well") } else { (style::BAD, "does not answer") };
        ("resolver", format!("{} {}, {} failures{error}", upstream.address, painted(style, state), upstream.failures))
    }));
    rows
}

fn of_snooped(snooped: &Snooped) -> [(&'static str, String); 3] {
    let resolvers: Vec<String> = snooped.resolvers.iter().map(ToString::to_string).collect();
    let Snooped { taken, lost, unasked, forged, malformed, fragmented, tcp, truncated, too_long, over_limit, .. } =
        snooped;
    [
        ("DNS heard", format!("{taken} answers of {}; {lost} lost", resolvers.join(", "))),
        (
            "not heard",
            format!("{fragmented} in fragments, {tcp} TCP connections, {truncated} truncated, {too_long} too long"),
        ),
        (
            "not believed",
            format!("{unasked} unasked, {forged} forged, {malformed} malformed; {over_limit} queries over limits"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::UpstreamStatus;

    fn status() -> Status {
        let hook = |role: &str, interface: &str, hook: &str| HookStatus {
            interface: interface.into(),
            role: role.into(),
            hook: hook.into(),
        };
        let upstream = UpstreamStatus {
            address: "tls://192.0.2.1:853#dns.example".into(),
            well: false,
            failures: 2,
            error: Some("its certificate is of an unknown CA (one of your own is named with --dns-ca)".into()),
        };
        Status {
            version: "0.1.0".into(),
            policy: "/etc/enforcer/school.toml".into(),
            policy_sha256: "0123456789abcdef".repeat(4),
            uptime_seconds: 3700,
            hooks: vec![
                hook("wan", "wan0", "TCX ingress"),
                hook("wan", "wan0", "TCX egress"),
                hook("snoop", "lan0", "TCX egress"),
                hook("lan", "lan0", "TCX egress"),
                hook("lan", "lan0", "native XDP"),
            ],
            services: 12,
            rules: 30,
            prefixes: 1203,
            hosts: 40,
            map_bytes: 58_000_000,
            schedules: vec!["lessons".into()],
            events_lost: 7,
            warnings: vec!["lan1 is gone: its programs are attached again when it comes back".into()],
            names: Some(NamesStatus {
                counts: Counts { names: 3, addresses: 5, draining: 1, kept: 0, evicted: 0, refused: 2 },
                unplaced: 0,
                queries: None,
                snooped: None,
                upstreams: vec![upstream],
            }),
            confirm_seconds: Some(42),
            ..Status::default()
        }
    }

    #[test]
    fn the_screen_fits_eighty_columns() {
        let amount = |packets| Amount { packets, bytes: packets * 1000 };
        let totals =
            |scale: u64| Totals { allowed: amount(1_000_000 * scale), denied: amount(7 * scale), monitored: amount(0) };
        let text = render(&status(), totals(1), totals(2), 0.5, Some(80));
        let text = anstream::adapter::strip_str(&text).to_string();
        let expected = "\
version      0.1.0
policy       /etc/enforcer/school.toml
sha256       0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
policy size  12 services, 30 rules, 1203 prefixes, 40 hosts; kernel maps of 58.0
             MB
running for  1 h 1 min
schedules    now lessons
lan          lan0 by native XDP and TCX egress
wan          wan0 by TCX ingress and TCX egress
snoop        lan0 by TCX egress
allowed      2,000,000 packets/s   16.0 Gb/s   2,000,000 packets, 2.0 GB so far
denied              14 packets/s  112.0 kb/s   14 packets, 14.0 kB so far
events lost  7
names        3 with 5 addresses, 1 draining, 0 kept as resolvers tell of none; 0
             evicted, 2 refused
resolver     tls://192.0.2.1:853#dns.example does not answer, 2 failures: its
             certificate is of an unknown CA (one of your own is named with
             --dns-ca)
unconfirmed  `enforcer confirm` within 42 s, or the policy before comes back
WARNING      lan1 is gone: its programs are attached again when it comes back
";
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
        // In a file, each is one line, which programs can look for.
        let lines = render(&status(), totals(1), totals(2), 0.5, None);
        assert_eq!(lines.lines().count(), 16);
    }
}
