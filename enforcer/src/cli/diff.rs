//! `enforcer diff`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{diff::Diff, policy::Policy};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it would be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print JSON, with all flows
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let diff = Diff::new(&Policy::load(&arguments.old)?, &Policy::load(&arguments.new)?)?;
    if arguments.json {
        super::print_json(&diff)?;
    } else {
        super::print(&diff.to_string())?;
    }
    Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::CHANGED) })
}
