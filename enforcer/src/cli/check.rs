//! `enforcer check`.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use serde::Serialize;

use super::{
    IncludeRoots,
    progress::Progress,
    style::{self, painted},
};

use crate::{
    advice::{Advice, Exposure, advise, exposures},
    catalog::{Catalogs, Pattern},
    compile::{self, Limits, Usage},
    control,
    policy::{FileError, Policy},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// Print JSON: the tables' sizes, the warnings and what names open, or the mistakes
    #[arg(long)]
    json: bool,
    /// Fail if there are warnings
    #[arg(long)]
    strict: bool,
}

/// What is printed of a valid policy with `--json`.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    usage: &'a Usage,
    warnings: &'a [Advice],
    /// What rules open by names.
    exposures: &'a [Exposure],
    /// Names, by service.
    names: BTreeMap<&'a str, Vec<String>>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::of("checking");
    let policy = match arguments.include_roots.load(&arguments.policy) {
        Err(FileError::Mistakes(mistakes)) if arguments.json => {
            super::print_json(&mistakes)?;
            return Ok(ExitCode::FAILURE);
        }
        other => other?,
    };
    let image = compile::compile(&policy, &Limits::default(), control::seed())?;
    let warnings = advise(&policy, &Catalogs::beside(&arguments.include_roots.disk(), &arguments.policy)?);
    let exposures = exposures(&policy);
    drop(progress);
    if arguments.json {
        let (usage, names) = (&image.usage, names(&policy));
        super::print_json(&Report { usage, warnings: &warnings, exposures: &exposures, names })?;
    } else {
        let file = arguments.policy.display().to_string();
        super::print(&format!("{file}: {}\n", summary(&policy, &image.usage)))?;
        super::print(&told_of_names(&policy))?;
        super::print(&exposures.iter().map(|exposure| shown(&file, exposure)).collect::<String>())?;
        super::print(&warnings.iter().map(|advice| told(&file, advice)).collect::<String>())?;
    }
    Ok(if arguments.strict && !warnings.is_empty() { ExitCode::from(super::FOUND) } else { ExitCode::SUCCESS })
}

/// What a rule opens by names, with its place.
fn shown(policy: &str, exposure: &Exposure) -> String {
    let word = painted(style::HEADING, "note:");
    format!("{word} {}:{}: {exposure}\n", exposure.file.as_deref().unwrap_or(policy), exposure.line)
}

/// A warning with its place.
fn told(policy: &str, advice: &Advice) -> String {
    let Advice { file, line, message, help } = advice;
    let file = file.as_deref().unwrap_or(policy);
    let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
    let word = painted(style::WARNING, "warning:");
    format!("{word} {place}: {message}\n  help: {help}\n")
}

/// The names that rules speak of, by service.
fn names(policy: &Policy) -> BTreeMap<&str, Vec<String>> {
    let words = |names: &[Pattern]| names.iter().map(ToString::to_string).collect();
    policy.named().map(|(_, service)| (service.name.as_str(), words(&service.names))).collect()
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

/// What it takes to match names.
fn told_of_names(policy: &Policy) -> String {
    let services = policy.named().count();
    if services == 0 {
        return String::new();
    }
    let names: usize = policy.named().map(|(_, service)| service.names.len()).sum();
    format!(
        "{names} names of {services} services are matched by the addresses that DNS gives them: `enforcer run` learns these with --dns-listen or --dns-snoop\n"
    )
}
