//! `enforcer diff`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use super::{IncludeRoots, progress::Progress};

use crate::{
    compile::{self, Limits},
    control,
    diff::Diff,
    policy::Policy,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The policy as it would be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// Print JSON, with all flows
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::of("comparing");
    let [old, new] = [&arguments.old, &arguments.new].map(|path| -> Result<Policy> {
        let policy = arguments.include_roots.load(path)?;
        // What cannot be put in force need not be compared, and might take for ever.
        compile::compile(&policy, &Limits::default(), control::seed()).with_context(|| path.display().to_string())?;
        Ok(policy)
    });
    let diff = Diff::new(&old?, &new?)?;
    drop(progress);
    if arguments.json {
        super::print_json(&diff)?;
    } else {
        super::print(&diff.to_string())?;
    }
    Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::CHANGED) })
}
