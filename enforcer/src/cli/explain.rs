//! `enforcer explain`.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::{Result, anyhow};
use jiff::Timestamp;

use crate::{
    compile::{self, Limits},
    control,
    explain::{Question, explain},
    moments::Moments,
    policy::{Policy, PortMatch, words},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The gateway itself sends the packet: its own policy is asked
    #[arg(long, conflicts_with = "from")]
    router: bool,
    /// When, such as 2026-11-25T09:30+01:00; now, if it is not said
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The client; without one, 0.0.0.0 or ::, which rules name only by covering every source
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// Destination address
    #[arg(value_name = "DST")]
    to: IpAddr,
    /// Protocol and port, such as tcp/443, udp/123, icmp/8 or proto/47
    #[arg(value_name = "PORT", value_parser = port)]
    port: PortMatch,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn port(word: &str) -> Result<PortMatch, String> {
    words::port(word).map_err(|(message, help)| format!("{message}: {help}"))
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let policy = Policy::load(&arguments.policy)?;
    let mut image = compile::compile(&policy, &Limits::default(), control::seed())?;
    let moments = Moments::of(&policy).map_err(|count| anyhow!("{count} combinations of schedules"))?;
    image.set_moment(moments.at(arguments.at.unwrap_or_else(Timestamp::now)));
    let Arguments { from, to, port, router, .. } = *arguments;
    let question = Question { router, from, to, port };
    let answer = explain(&policy, &image, &question)?;
    if arguments.json {
        super::print_json(&answer)?;
    } else {
        super::print(&format!("{}: {}\n", answer.action, answer.why))?;
    }
    Ok(if answer.passes { ExitCode::SUCCESS } else { ExitCode::from(super::DENIED) })
}
