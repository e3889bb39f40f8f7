//! `enforcer names`.

use std::{collections::BTreeMap, net::IpAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use jiff::{Timestamp, Unit};
use serde::Serialize;

use super::{Socket, style, units};
use crate::{
    api::{
        client,
        types::{NameAddress, Names},
    },
    catalog::Pattern,
    dns::{Name, Patterns},
    names::How,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// A name such as www.apple.com, or all below one: "*.push.apple.com"
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    #[command(flatten)]
    socket: Socket,
    /// Go on with what changes, as it is seen once a second
    #[arg(long)]
    watch: bool,
    /// Print JSON, with --watch a line for each change as well
    #[arg(long)]
    json: bool,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted: Option<Pattern> = arguments
        .pattern
        .as_ref()
        .map(|word| {
            let word = word.strip_suffix('.').unwrap_or(word);
            word.parse().with_context(|| format!("{word:?}"))
        })
        .transpose()?;
    let wanted: Option<Patterns<()>> = wanted.map(|pattern| [(pattern, ())].into_iter().collect());
    let list = async || -> Result<Names> {
        let mut names: Names = client::get(&arguments.socket.socket, "/v1/names").await?;
        if let Some(wanted) = &wanted {
            let is_wanted = |name: &str| name.parse::<Name>().is_ok_and(|name| wanted.matches(&name).next().is_some());
            names.names.retain(|entry| is_wanted(&entry.name));
        }
        Ok(names)
    };
    super::block_on(async {
        let mut known = list().await?;
        if arguments.json {
            super::print_json(&known)?;
        } else {
            super::print(&render(&known))?;
        }
        if !arguments.watch {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            tokio::time::sleep(PAUSE).await;
            let now = list().await?;
            let (changes, time) = (changes(&known, &now), Timestamp::now().round(Unit::Second)?);
            for Change { change, entry } in &changes {
                if arguments.json {
                    super::print_json(&Change { change, entry })?;
                    continue;
                }
                let NameAddress { name, address, services, .. } = entry;
                super::print(&format!("{time}  {change:8}  {name}  {address}  {}\n", services.join(" ")))?;
            }
            known = now;
        }
    })
}

fn render(names: &Names) -> String {
    let mut rows = vec![
        ["NAME", "ADDRESS", "LEFT", "USED", "HOW", "SERVICES"]
            .map(|word| style::painted(style::HEADING, word))
            .to_vec(),
    ];
    rows.extend(names.names.iter().map(|entry| {
        vec![
            entry.name.clone(),
            entry.address.to_string(),
            match entry.seconds_left {
                _ if !entry.matched => "not matched".to_owned(),
                Some(left) => units::duration(left),
                None => "draining".to_owned(),
            },
            entry.used_seconds.map_or_else(|| "-".to_owned(), |used| format!("{} ago", units::duration(used))),
            match entry.how {
                How::Asked => "asked",
                How::Snooped => "snooped",
                How::Resolved => "resolved",
                How::Kept => "kept",
                How::Restored => "restored",
            }
            .to_owned(),
            entry.services.join(" "),
        ]
    }));
    super::table(&rows, &[])
}

/// What has become of a name's address.
#[derive(Debug, PartialEq, Serialize)]
struct Change<'a> {
    /// `live`, `kept` (resolvers tell of none any more), `draining` or `gone`.
    change: &'a str,
    #[serde(flatten)]
    entry: &'a NameAddress,
}

/// What is new or otherwise, then what is gone.
fn changes<'a>(before: &'a Names, now: &'a Names) -> Vec<Change<'a>> {
    fn index(names: &Names) -> BTreeMap<(&str, IpAddr), &NameAddress> {
        names.names.iter().map(|entry| ((entry.name.as_str(), entry.address), entry)).collect()
    }
    let state = |entry: &NameAddress| match (entry.seconds_left, entry.how) {
        (None, _) => "draining",
        (Some(_), How::Kept) => "kept",
        (Some(_), _) => "live",
    };
    let (old, new) = (index(before), index(now));
    let differs = |key: &(&str, IpAddr), entry: &NameAddress| {
        old.get(key).is_none_or(|old| (state(old), &old.services) != (state(entry), &entry.services))
    };
    let come = new.iter().filter(|(key, entry)| differs(key, entry)).map(|(_, entry)| (state(entry), *entry));
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(_, entry)| ("gone", *entry));
    come.chain(gone).map(|(change, entry)| Change { change, entry }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_and_time_that_goes_by_is_none() {
        let entry = |name: &str, left: Option<u64>, services: &[&str]| NameAddress {
            name: name.into(),
            address: [203, 0, 113, 1].into(),
            matched: true,
            seconds_left: left,
            services: services.iter().map(|&service| service.into()).collect(),
            how: How::Asked,
            used_seconds: None,
        };
        let kept = |name: &str| NameAddress { how: How::Kept, ..entry(name, Some(86_400), &["a"]) };
        let before = Names {
            names: vec![
                entry("stays", Some(9), &["a"]),
                entry("more", Some(9), &["a"]),
                entry("ends", Some(1), &["a"]),
                entry("drains", Some(1), &["a"]),
                entry("lost", Some(1), &["a"]),
                kept("found"),
                kept("silent"),
            ],
        };
        let now = Names {
            names: vec![
                entry("stays", Some(8), &["a"]),
                entry("more", Some(8), &["a", "b"]),
                entry("drains", None, &["a"]),
                entry("new", Some(60), &["b"]),
                kept("lost"),
                entry("found", Some(60), &["a"]),
                kept("silent"),
            ],
        };
        let told = changes(&before, &now);
        let told: Vec<String> = told.iter().map(|told| format!("{} {}", told.change, told.entry.name)).collect();
        assert_eq!(told, ["draining drains", "live found", "kept lost", "live more", "live new", "gone ends"]);
        assert_eq!(changes(&now, &now), []);
    }
}
