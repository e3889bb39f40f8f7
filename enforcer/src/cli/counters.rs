//! `enforcer counters`.

use std::process::ExitCode;

use anyhow::Result;

use super::{Socket, style, units};
use crate::api::{
    client,
    types::{Counters, PseudoCounter, RuleCounter},
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Print what changed every second
    #[arg(long)]
    follow: bool,
    /// Print JSON, with --follow a line each second
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let socket = &arguments.socket.socket;
    if !arguments.follow {
        let counters: Counters = super::block_on(client::get(socket, "/v1/counters"))?;
        if arguments.json {
            super::print_json(&counters)?;
        } else {
            super::print(&render(&counters, None))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut before: Option<Counters> = None;
    super::block_on(client::stream(socket, "/v1/counters/stream", |counters: Counters| {
        if arguments.json {
            super::print_json(&counters)?;
        } else {
            super::print(&format!("{}\n", render(&counters, before.as_ref())))?;
        }
        before = Some(counters);
        Ok(true)
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// A table; with earlier counters, the change since then as well, and only rows that changed.
fn render(now: &Counters, before: Option<&Counters>) -> String {
    let mut rows = vec![vec!["POLICY", "RULE", "SERVICE", "ACTION", "PACKETS", "BYTES"]];
    let change = before.is_some();
    if change {
        rows[0].extend(["PACKETS/S", "BYTES/S"]);
    }
    let mut rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(|word| style::painted(style::HEADING, word)).collect())
        .collect();
    let mut row = |words: [&str; 4], now: (u64, u64), before: Option<(u64, u64)>| {
        let mut cells: Vec<String> = words.into_iter().map(str::to_owned).collect();
        cells[3] = style::painted(style::of_action(words[3]), words[3]);
        cells.extend([now.0.to_string(), units::bytes(now.1)]);
        if change {
            let before = before.unwrap_or_default();
            if before == now {
                return;
            }
            cells.extend([now.0.saturating_sub(before.0).to_string(), units::bytes(now.1.saturating_sub(before.1))]);
        }
        rows.push(cells);
    };
    for (index, counter) in now.rules.iter().enumerate() {
        let RuleCounter { policy, rule, service, action, packets, bytes } = counter;
        let earlier = before.and_then(|before| before.rules.get(index)).map(|counter| (counter.packets, counter.bytes));
        row([policy, rule, service.as_deref().unwrap_or("any"), action], (*packets, *bytes), earlier);
    }
    for (index, counter) in now.pseudo.iter().enumerate() {
        let PseudoCounter { name, action, packets, bytes } = counter;
        let earlier =
            before.and_then(|before| before.pseudo.get(index)).map(|counter| (counter.packets, counter.bytes));
        row(["-", name, "-", action], (*packets, *bytes), earlier);
    }
    super::table(&rows, &[4, 5, 6, 7])
}
