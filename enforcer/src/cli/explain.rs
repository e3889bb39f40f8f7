//! `enforcer explain`.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{
    compile::{self, Limits},
    control,
    explain::{Question, explain},
    policy::{Policy, PortMatch, words},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
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
    let image = compile::compile(&policy, &Limits::default(), control::seed())?;
    let question = Question { from: arguments.from, to: arguments.to, port: arguments.port };
    let answer = explain(&policy, &image, &question)?;
    if arguments.json {
        super::print_json(&answer)?;
    } else {
        super::print(&format!("{}: {}\n", answer.action, answer.why))?;
    }
    Ok(if answer.action == "allow" { ExitCode::SUCCESS } else { ExitCode::from(super::DENIED) })
}
