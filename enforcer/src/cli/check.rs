//! `enforcer check`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{
    compile::{self, Limits, Usage},
    control,
    policy::{FileError, Policy},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    /// Print JSON: the tables' sizes, or the mistakes
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let policy = match Policy::load(&arguments.policy) {
        Err(FileError::Mistakes(mistakes)) if arguments.json => {
            super::print_json(&mistakes)?;
            return Ok(ExitCode::FAILURE);
        }
        other => other?,
    };
    let image = compile::compile(&policy, &Limits::default(), control::seed())?;
    if arguments.json {
        super::print_json(&image.usage)?;
    } else {
        super::print(&format!("{}: {}\n", arguments.policy.display(), summary(&policy, &image.usage)))?;
        super::print(&unresolved(&policy))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A policy in a line.
fn summary(policy: &Policy, usage: &Usage) -> String {
    format!(
        "{} services, {} rules; {} IPv4 and {} IPv6 prefixes, {} hosts; tables of {:.1} MB",
        policy.services.len(),
        policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
        usage.prefixes4,
        usage.prefixes6,
        usage.hosts4 + usage.hosts6,
        usage.bytes as f64 / 1e6
    )
}

/// The names that are no addresses yet, by service.
fn unresolved(policy: &Policy) -> String {
    if policy.unresolved.is_empty() {
        return String::new();
    }
    let lines = policy.unresolved.iter().map(|(service, names)| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        format!("  {service}: {}\n", names.join(" "))
    });
    format!(
        "warning: these names are no addresses yet, and traffic to them is not matched:\n{}",
        lines.collect::<String>()
    )
}
