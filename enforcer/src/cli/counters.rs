//! `enforcer counters`.

use std::{collections::HashMap, process::ExitCode};

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
    // By labels, not by index: another policy may have been applied in between.
    let earlier: HashMap<[&str; 4], (u64, u64)> = before.map(lines).into_iter().flatten().collect();
    for (words, amount) in lines(now) {
        row(words, amount, earlier.get(&words).copied());
    }
    super::table(&rows, &[4, 5, 6, 7])
}

/// Returns the labels of each counter, with its packets and bytes.
fn lines(counters: &Counters) -> impl Iterator<Item = ([&str; 4], (u64, u64))> {
    let rules = counters.rules.iter().map(|RuleCounter { policy, rule, service, action, packets, bytes }| {
        ([policy.as_str(), rule, service.as_deref().unwrap_or("any"), action], (*packets, *bytes))
    });
    let pseudo = counters.pseudo.iter().map(|PseudoCounter { name, action, packets, bytes }| {
        (["-", name.as_str(), "-", action.as_str()], (*packets, *bytes))
    });
    rules.chain(pseudo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_another_action_is_no_change_of_the_one_before() {
        let counters = |action: &str, packets| {
            let pseudo = PseudoCounter { name: "default".into(), action: action.into(), packets, bytes: packets };
            Counters { rules: Vec::new(), pseudo: vec![pseudo] }
        };
        let shown = |before, now| anstream::adapter::strip_str(&render(now, Some(before))).to_string();
        let monitored = counters("monitor", 7);
        assert_eq!(shown(&monitored, &monitored).lines().count(), 1, "nothing has changed");
        let text = shown(&monitored, &counters("drop", 9));
        let words: Vec<&str> = text.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(words[3..5], ["drop", "9"]);
        assert_eq!(words[words.len() - 3], "9", "{text}");
    }
}
