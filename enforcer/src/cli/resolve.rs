//! `enforcer resolve`.

use std::process::ExitCode;

use anyhow::Result;

use super::Socket;
use crate::{
    api::{
        client,
        types::{Resolve, Resolved},
    },
    dns::Name,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// A name such as www.apple.com
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    socket: Socket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    // In any script here; what is no name, the controller says.
    let name = arguments.name.parse().map_or_else(|_| arguments.name.clone(), |name: Name| name.to_string());
    let asked = Resolve { name };
    let resolved: Resolved = super::block_on(client::post(&arguments.socket.socket, "/v1/resolve", &asked))?;
    if arguments.json {
        super::print_json(&resolved)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Resolved { name, services, aliases, addresses } = resolved;
    let of = if services.is_empty() { "of no service that a rule names".into() } else { services.join(" ") };
    let mut rows = vec![vec![name, of]];
    rows.extend(aliases.into_iter().map(|alias| vec!["alias of".into(), alias]));
    if addresses.is_empty() {
        rows.push(vec!["addresses".into(), "none".into()]);
    }
    rows.extend(addresses.into_iter().map(|found| {
        let state = match (found.matched, services.is_empty()) {
            (true, _) => "matched",
            (false, true) => "not matched",
            (false, false) => "not matched: not the internet's, or there is no room for it",
        };
        vec![found.address.to_string(), format!("{state}, valid for {} s", found.ttl)]
    }));
    super::print(&super::table(&rows, &[]))?;
    Ok(ExitCode::SUCCESS)
}
