//! The command line: what was typed, and what it exits with.

mod apply;
mod check;
mod clients;
mod completions;
mod counters;
mod detach;
mod diff;
mod doctor;
mod events;
mod explain;
mod export;
mod fmt;
mod history;
mod import;
mod man;
mod names;
mod openapi;
mod output;
mod progress;
mod rates;
mod resolve;
mod run;
mod schema;
mod services;
mod status;
mod style;
mod top;
mod units;

use std::{
    io,
    path::{self, Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::{
    api::client::NoController,
    policy::{FileError, Policy, files::Disk},
    service,
};

/// Exit code of wrong usage, which is clap's, too.
const USAGE: u8 = 2;

/// Exit code of `explain` for a packet that would be denied.
pub const DENIED: u8 = 3;

/// Exit code of `diff` and `apply --dry-run` for policies that differ in effect, and of `fmt --check` for files that are laid out otherwise.
pub const CHANGED: u8 = 4;

/// Where pins are, unless somewhere else is named.
const PINS: &str = crate::kernel::pins::FOLDER;

/// Where policies and names are kept, unless somewhere else is named.
const STATE: &str = "/var/lib/enforcer";

/// The one spelling of a folder of pins, by which it is known: absolute, with no links but its own name's, which may not be there yet.
fn pins_folder(text: &str) -> io::Result<PathBuf> {
    let folder = path::absolute(text)?;
    Ok(match (folder.parent().map(Path::canonicalize), folder.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => folder,
    })
}

/// Exit code of `check --strict` if there are warnings, and of `doctor` if there are problems.
pub const FOUND: u8 = 5;

/// Exit code of commands that need a running controller, if there is none that answers.
pub const NO_CONTROLLER: u8 = 6;

/// All of them, for `--help` and the manual.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; explain: allowed
  1  failed
  2  wrong usage
  3  explain: denied
  4  diff, apply --dry-run: flows change; fmt --check: files are laid out otherwise
  5  check --strict: warnings; doctor: problems
  6  no controller answers";

#[derive(Parser)]
#[command(
    name = "enforcer",
    version,
    about = "An eBPF/XDP egress enforcer for Linux gateways",
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Tell the causes of an error, too
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Put a policy in force until interrupted
    Run(Box<run::Arguments>),
    /// Put another policy in force, without a wrong verdict in between
    Apply(apply::Arguments),
    /// Let a policy that was applied with --confirm stay
    Confirm(history::Arguments),
    /// Go back to the policy before, or to an earlier one
    Rollback(history::RollbackArguments),
    /// List the policies that were in force
    History(history::Arguments),
    /// Take all programs off their interfaces, and end the controller if it runs
    Detach(detach::Arguments),
    /// Check a policy file without touching the kernel
    Check(check::Arguments),
    /// Lay out policy and catalogue files: same words, order and comments
    Fmt(fmt::Arguments),
    /// Print the JSON Schema of policies, for editors
    Schema,
    /// Print the OpenAPI document of the controller's API
    Openapi,
    /// Say which flows another policy would allow or deny
    Diff(diff::Arguments),
    /// Say what would happen to a packet, and why
    Explain(explain::Arguments),
    /// Write a policy in the words of other programs: firewalls, proxies, DNS servers
    Export(export::Arguments),
    /// Make a catalogue of other programs' hosts and ports
    Import(import::Arguments),
    /// List the services that policies may name, or show one
    Services(services::Arguments),
    /// Show where the running controller is attached, and its policy
    Status(status::Arguments),
    /// Show the addresses of names, and for how long they count
    Names(names::Arguments),
    /// Ask resolvers for a name, let its addresses count, and show what they are
    Resolve(resolve::Arguments),
    /// Show packets and bytes by rule and service
    Counters(counters::Arguments),
    /// Let a client of the portal reach what the rules allow, for a time
    Admit(clients::AdmitArguments),
    /// Take a client's admission back
    Expel(clients::ExpelArguments),
    /// List the clients that the portal has admitted
    Clients(clients::Arguments),
    /// Look at what of this machine and its interfaces helps or hinders, and say what to do
    Doctor(doctor::Arguments),
    /// Watch services, rules and denied clients by rate
    Top(top::Arguments),
    /// Show what became of single packets: those that were denied or would be, and those that rules log
    Events(events::Arguments),
    /// Print what completes commands in a shell
    Completions(completions::Arguments),
    /// Write the manual's pages
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Where the controller listens.
#[derive(Args, Clone)]
struct Socket {
    /// The controller's socket
    #[arg(long, default_value = "/run/enforcer/api.sock", value_name = "PATH")]
    socket: PathBuf,
}

/// Where policies may include files from.
#[derive(Args, Clone)]
struct IncludeRoots {
    /// Let policies include files from this folder as well as from their own, such as
    /// /usr/share/policies (repeatable)
    #[arg(long = "include-root", env = "ENFORCER_INCLUDE_ROOT", value_delimiter = ':', value_name = "DIR")]
    include_roots: Vec<PathBuf>,
}

impl IncludeRoots {
    fn disk(&self) -> Disk {
        Disk { include_roots: self.include_roots.clone() }
    }

    /// Reads a policy from disk.
    fn load(&self, policy: &Path) -> Result<Policy, FileError> {
        Policy::load_from(&self.disk(), policy)
    }
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbose = cli.verbose;
    let is_controller = matches!(cli.command, Command::Run(_));
    if let Command::Run(arguments) = &cli.command {
        service::log::begin(arguments.log);
    }
    match dispatch(cli.command) {
        Ok(code) => code,
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = error.chain().skip(1).filter(|_| verbose).map(|cause| format!("\n  because: {cause}"));
            let message = format!("{}{}", short(&error), causes.collect::<String>());
            if is_controller {
                tracing::error!("{message}");
            } else {
                anstream::eprintln!("{} {message}", style::painted(style::BAD, "enforcer:"));
            }
            if error.is::<NoController>() { ExitCode::from(NO_CONTROLLER) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Apply(arguments) => apply::run(&arguments),
        Command::Confirm(arguments) => history::confirm(&arguments),
        Command::Rollback(arguments) => history::roll_back(&arguments),
        Command::History(arguments) => history::run(&arguments),
        Command::Detach(arguments) => detach::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Fmt(arguments) => fmt::run(&arguments),
        Command::Schema => schema::run(),
        Command::Openapi => openapi::run(),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Services(arguments) => services::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Names(arguments) => names::run(&arguments),
        Command::Resolve(arguments) => resolve::run(&arguments),
        Command::Counters(arguments) => counters::run(&arguments),
        Command::Admit(arguments) => clients::admit(&arguments),
        Command::Expel(arguments) => clients::expel(&arguments),
        Command::Clients(arguments) => clients::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// The error and its last cause: what failed, and what the system said.
fn short(error: &anyhow::Error) -> String {
    let cause = error.root_cause().to_string();
    let error = error.to_string();
    let cause = cause.trim().lines().next().unwrap_or_default();
    if cause.is_empty() || error.contains(cause) { error } else { format!("{error}: {cause}") }
}

/// Whether nobody reads what is printed any more; not that a controller did not read all that it was sent.
fn broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe) && !error.chain().any(|cause| cause.downcast_ref::<hyper::Error>().is_some())
}

/// A runtime for a command that talks to the controller.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Writes a value as JSON and a newline.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    use io::Write as _;
    let mut out = io::stdout().lock();
    // One write: a reader never gets half a line and then an error.
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()?;
    Ok(())
}

/// Writes text, reporting a closed pipe instead of panicking on it. Colours only go to terminals, or where the environment wants them.
fn print(text: &str) -> Result<()> {
    use io::Write as _;
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Rows with their columns aligned; those named in `right` to the right.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| style::width(cell)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column] - style::width(cell));
            line += &if right.contains(&column) { format!("{gap}{cell}  ") } else { format!("{cell}{gap}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
