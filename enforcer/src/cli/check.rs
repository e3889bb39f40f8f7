//! `enforcer check`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{
    compile::{self, Limits},
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
        super::print(&format!("{}: {}\n", arguments.policy.display(), control::summary(&policy, &image.usage)))?;
    }
    Ok(ExitCode::SUCCESS)
}
