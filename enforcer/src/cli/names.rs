//! `enforcer names`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::Socket;
use crate::{
    api::{client, types::Names},
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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted: Option<Pattern> =
        arguments.pattern.as_ref().map(|word| word.parse().with_context(|| format!("{word:?}"))).transpose()?;
    let mut names: Names = super::block_on(client::get(&arguments.socket.socket, "/v1/names"))?;
    if let Some(pattern) = wanted {
        let wanted: Patterns<()> = [(pattern, ())].into_iter().collect();
        let is_wanted = |name: &str| name.parse::<Name>().is_ok_and(|name| wanted.matches(&name).next().is_some());
        names.names.retain(|entry| is_wanted(&entry.name));
    }
    if arguments.json {
        super::print_json(&names)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["NAME", "ADDRESS", "LEFT", "HOW", "SERVICES"].map(str::to_owned).to_vec()];
    rows.extend(names.names.into_iter().map(|entry| {
        vec![
            entry.name,
            entry.address.to_string(),
            entry.seconds_left.map_or_else(|| "draining".to_owned(), super::status::duration),
            match entry.how {
                How::Asked => "asked",
                How::Snooped => "snooped",
                How::Resolved => "resolved",
                How::Restored => "restored",
            }
            .to_owned(),
            entry.services.join(" "),
        ]
    }));
    super::print(&super::table(&rows, &[]))?;
    Ok(ExitCode::SUCCESS)
}
