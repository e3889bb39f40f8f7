//! `enforcer explain`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use serde::Serialize;

use super::{IncludeRoots, Socket, style};
use crate::{
    api::{
        client,
        types::{Clients, Names},
    },
    clients::Client,
    compile::{self, Image, Limits},
    control,
    dns::Name,
    explain::{Admitted, Explanation, Question, explain, know},
    moments::Moments,
    policy::{Bundle, Policy, PortMatch, nat64, words},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy; without it, the one that is in force
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// The gateway itself sends the packet: its own policy is asked
    #[arg(long, conflicts_with = "from")]
    router: bool,
    /// When, such as 2026-11-25T09:30+01:00; now, if it is not said
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The client; without one, 0.0.0.0 or ::, which rules name only by covering every source
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// The portal has admitted the client; without this, it has if it is among `enforcer clients` by its address, as a
    /// question does not say by which MAC it sends
    #[arg(long, conflicts_with = "router")]
    admitted: bool,
    /// Destination: an address, or a name, which stands for its addresses that the running controller knows
    #[arg(value_name = "DST", value_parser = destination)]
    to: Destination,
    /// Protocol and port, such as tcp/443, udp/123, icmp/8 or proto/47
    #[arg(value_name = "PORT", value_parser = port)]
    port: PortMatch,
    #[command(flatten)]
    socket: Socket,
    /// Print JSON, a line for each address
    #[arg(long)]
    json: bool,
}

#[derive(Clone)]
enum Destination {
    Address(IpAddr),
    Name(Name),
}

fn destination(word: &str) -> Result<Destination, String> {
    if let Ok(address) = word.parse() {
        return Ok(Destination::Address(address));
    }
    // No top-level domain is a number, but a part of a mistyped address is.
    if word.trim_end_matches('.').rsplit('.').next().is_some_and(|label| label.parse::<u64>().is_ok()) {
        return Err("no address, such as 17.1.2.3 or 2001:db8::1, nor a name, such as \"www.apple.com\"".into());
    }
    word.parse().map(Destination::Name).map_err(|error: crate::dns::name::NotAName| format!("no address; {error}"))
}

fn port(word: &str) -> Result<PortMatch, String> {
    words::port(word).map_err(|(message, help)| format!("{message}: {help}"))
}

/// Addresses outside all that is given out, for a name of which none is known.
const SOME4: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1));
const SOME6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x4000, 0, 0, 0, 0, 0, 0, 1));

#[derive(Serialize)]
struct Answer {
    /// Nothing if the name has none that is known.
    address: Option<IpAddr>,
    #[serde(flatten)]
    explanation: Explanation,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let socket = &arguments.socket.socket;
    let names = super::block_on(client::get::<Names>(socket, "/v1/names"));
    let (policy, names) = match &arguments.policy {
        // What DNS has told helps there, too, but need not be had.
        Some(file) => (arguments.include_roots.load(file)?, names.unwrap_or_default()),
        None => (in_force(socket).map_err(without_policy)?, names?),
    };
    let admitted = match &policy.portal {
        Some(_) if !arguments.admitted => admitted(arguments.from, super::block_on(client::get(socket, "/v1/clients"))),
        _ => Admitted::Yes,
    };
    let known = by_address(&names);
    let asked: BTreeMap<Option<IpAddr>, BTreeSet<Name>> = match &arguments.to {
        &Destination::Address(address) => {
            let names = known.get(&nat64::inside(&policy.nat64, address)).cloned();
            [(Some(address), names.unwrap_or_default())].into()
        }
        Destination::Name(name) => {
            let family = |address: &IpAddr| arguments.from.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
            let has = known.into_iter().filter(|(address, names)| names.contains(name) && family(address));
            has.map(|(address, names)| (Some(address), names)).collect()
        }
    };
    let asked = match &arguments.to {
        Destination::Name(name) if asked.is_empty() => [(None, [name.clone()].into())].into(),
        _ => asked,
    };
    let mut image = compile::compile(&policy, &Limits::default(), control::seed())?;
    let moments = Moments::of(&policy).map_err(|count| anyhow!("{count} combinations of schedules"))?;
    image.set_moment(moments.at(arguments.at.unwrap_or_else(Timestamp::now)));
    let answers =
        asked.into_iter().map(|(address, names)| answer(arguments, admitted, &policy, &mut image, address, names));
    let answers = answers.collect::<Result<Vec<Answer>>>()?;
    for answer in &answers {
        if arguments.json {
            super::print_json(answer)?;
            continue;
        }
        let Explanation { action, why, .. } = &answer.explanation;
        let place = match (&arguments.to, answer.address) {
            (Destination::Address(_), _) => String::new(),
            (Destination::Name(_), Some(address)) => format!("{address}: "),
            (Destination::Name(_), None) => "an address that nothing else covers (none is known): ".into(),
        };
        let action = style::painted(style::of_action(action), action);
        super::print(&format!("{place}{action}: {why}\n"))?;
    }
    let passes = answers.iter().all(|answer| answer.explanation.passes);
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::from(super::DENIED) })
}

/// Why there is no policy to ask.
fn without_policy(error: anyhow::Error) -> anyhow::Error {
    let told = format!("{error}; or name a policy with --policy");
    error.context(told)
}

/// The policy of the running controller.
fn in_force(socket: &Path) -> Result<Policy> {
    let bundle: Bundle = super::block_on(client::get(socket, "/v1/policy"))?;
    Ok(bundle.policy()?)
}

/// Whether the running controller's portal has admitted an address, by what it has told.
fn admitted(from: Option<IpAddr>, told: Result<Clients>) -> Admitted {
    let clients = match told {
        Ok(Clients { clients, .. }) => clients,
        Err(error) => {
            eprintln!("enforcer: who is admitted is not known: {error}");
            return Admitted::Untold;
        }
    };
    let clients: Vec<Client> = clients.iter().filter_map(|admitted| admitted.client.parse().ok()).collect();
    let holds = |client: &Client| matches!((client, from), (Client::Net(net), Some(from)) if net.contains(&from));
    if clients.iter().any(holds) {
        Admitted::Yes
    } else if clients.iter().any(|client| matches!(client, Client::Station(_))) {
        Admitted::NotByAddress
    } else {
        Admitted::No
    }
}

/// Names that have addresses for new connections.
fn by_address(names: &Names) -> BTreeMap<IpAddr, BTreeSet<Name>> {
    let mut known: BTreeMap<IpAddr, BTreeSet<Name>> = BTreeMap::new();
    for entry in names.names.iter().filter(|entry| entry.seconds_left.is_some() && entry.matched) {
        if let Ok(name) = entry.name.parse() {
            known.entry(entry.address).or_default().insert(name);
        }
    }
    known
}

fn answer(
    arguments: &Arguments,
    admitted: Admitted,
    policy: &Policy,
    image: &mut Image,
    address: Option<IpAddr>,
    names: BTreeSet<Name>,
) -> Result<Answer> {
    let some = if arguments.from.is_some_and(|from| from.is_ipv6()) { SOME6 } else { SOME4 };
    let to = address.unwrap_or(some);
    let names: Vec<Name> = names.into_iter().collect();
    know(policy, image, to, &names)?;
    let Arguments { from, port, router, .. } = *arguments;
    let explanation = explain(policy, image, &Question { router, admitted, from, to, port }, &names)?;
    Ok(Answer { address, explanation })
}
