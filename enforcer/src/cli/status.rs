//! `enforcer status`.

use std::process::ExitCode;

use anyhow::Result;

use super::Socket;
use crate::{
    api::{
        client,
        types::{NamesStatus, Snooped, Status},
    },
    dns::forwarder::counters::Snapshot,
    names::learned::Counts,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let status: Status = super::block_on(client::get(&arguments.socket.socket, "/v1/status"))?;
    if arguments.json {
        super::print_json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![
        vec!["version".into(), status.version],
        vec!["policy".into(), format!("{} (sha256 {:.12})", status.policy, status.policy_sha256)],
        vec!["in force for".into(), duration(status.uptime_seconds)],
        vec![
            "policy size".into(),
            format!(
                "{} services, {} rules, {} prefixes, {} hosts",
                status.services, status.rules, status.prefixes, status.hosts
            ),
        ],
        vec!["kernel maps".into(), format!("{:.1} MB", status.map_bytes as f64 / 1e6)],
    ];
    if !status.schedules.is_empty() {
        rows.push(vec!["schedules".into(), format!("now {}", status.schedules.join(", "))]);
    }
    if status.events_lost > 0 {
        rows.push(vec!["events lost".into(), status.events_lost.to_string()]);
    }
    if let Some(names) = status.names {
        rows.extend(of_names(&names));
    }
    rows.extend(status.hooks.into_iter().map(|hook| vec![hook.role, format!("{} by {}", hook.interface, hook.hook)]));
    rows.extend(status.warnings.into_iter().map(|warning| vec!["WARNING".into(), warning]));
    super::print(&super::table(&rows, &[]))?;
    Ok(ExitCode::SUCCESS)
}

fn of_names(status: &NamesStatus) -> Vec<Vec<String>> {
    let NamesStatus { counts, unplaced, queries, snooped, upstreams } = status;
    let Counts { names, addresses, draining, kept, evicted, refused } = counts;
    let mut rows = vec![vec![
        "names".into(),
        format!(
            "{names} with {addresses} addresses, {draining} draining, {kept} kept as resolvers tell of none; \
             {evicted} evicted, {refused} refused"
        ),
    ]];
    if let Some(queries) = queries {
        let Snapshot { queries, answers, nxdomain, zero, refused, failed, over_limit, connections_over_limit, .. } =
            queries;
        let (denied, over_limit) = (nxdomain + zero + refused, over_limit + connections_over_limit);
        let text = format!("{queries}, {answers} answered, {denied} denied, {failed} failed, {over_limit} over limits");
        rows.push(vec!["DNS queries".into(), text]);
    }
    rows.extend(snooped.iter().flat_map(of_snooped));
    rows.extend(upstreams.iter().map(|upstream| {
        let state = if upstream.well { "well" } else { "does not answer" };
        let error = upstream.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        vec!["resolver".into(), format!("{} {state}, {} failures{error}", upstream.address, upstream.failures)]
    }));
    if *unplaced > 0 {
        let warning = format!("{unplaced} addresses of names had no room in the tables: they are not matched");
        rows.push(vec!["WARNING".into(), warning]);
    }
    rows
}

fn of_snooped(snooped: &Snooped) -> [Vec<String>; 3] {
    let resolvers: Vec<String> = snooped.resolvers.iter().map(ToString::to_string).collect();
    let Snooped { taken, lost, unasked, forged, malformed, fragmented, tcp, truncated, too_long, over_limit, .. } =
        snooped;
    [
        vec!["DNS heard".into(), format!("{taken} answers of {}; {lost} lost", resolvers.join(", "))],
        vec![
            "not heard".into(),
            format!("{fragmented} in fragments, {tcp} TCP connections, {truncated} truncated, {too_long} too long"),
        ],
        vec![
            "not believed".into(),
            format!("{unasked} unasked, {forged} forged, {malformed} malformed; {over_limit} queries over limits"),
        ],
    ]
}

pub fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
