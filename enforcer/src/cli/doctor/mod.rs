//! `enforcer doctor`.

mod checks;
mod facts;
mod gather;
mod netdev;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::{
    Socket,
    style::{self, painted},
};
use checks::{Finding, Level, examine};

#[derive(clap::Args)]
pub struct Arguments {
    /// Interfaces that clients are behind
    #[arg(long = "lan", num_args = 1.., value_name = "IF")]
    lans: Vec<String>,
    /// Interfaces that lead outside; with neither, all that are up are looked at
    #[arg(long = "wan", num_args = 1.., value_name = "IF")]
    wans: Vec<String>,
    /// Where the kernel's programs are kept: others are another enforcer's
    #[arg(long, default_value = super::PINS, value_parser = super::pins_folder, value_name = "DIR")]
    pins: PathBuf,
    #[command(flatten)]
    socket: Socket,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lans = arguments.lans.iter().map(|name| (name.clone(), "lan"));
    let wanted: Vec<_> = lans.chain(arguments.wans.iter().map(|name| (name.clone(), "wan"))).collect();
    let findings = examine(&super::block_on(gather::gather(&wanted, &arguments.pins, &arguments.socket.socket))?);
    if arguments.json {
        super::print_json(&findings)?;
    } else {
        super::print(&render(&findings))?;
    }
    let problems = findings.iter().any(|finding| finding.level == Level::Problem);
    Ok(if problems { ExitCode::from(super::FOUND) } else { ExitCode::SUCCESS })
}

/// A line for each finding, and one for what to do.
fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            subject = &finding.subject;
            text += &format!("{}\n", painted(style::HEADING, subject));
        }
        let (color, word) = match finding.level {
            Level::Ok => (style::GOOD, "ok"),
            Level::Note => (style::HEADING, "note"),
            Level::Warning => (style::WARNING, "warning"),
            Level::Problem => (style::BAD, "PROBLEM"),
        };
        text += &format!("  {}{}{}\n", painted(color, word), " ".repeat(9 - word.len()), finding.message);
        if let Some(help) = &finding.help {
            text += &format!("           {}\n", painted(style::FAINT, help));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text + &format!("{} problems, {} warnings\n", count(Level::Problem), count(Level::Warning))
}
