//! `enforcer detach`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::Socket;
use crate::{
    api::{
        client::{self, NoController},
        types::Status,
    },
    control::History,
    kernel::{
        guard::Guard,
        pins::{Pins, PinsError, is_place},
    },
};

/// A controller has ended by then.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the kernel's programs are kept [default: as the controller says, or /sys/fs/bpf/enforcer]
    #[arg(long, value_parser = super::pins_folder, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// Where the controller kept policies, if it does not run any more: forget the one that was
    /// applied
    #[arg(long, default_value = super::STATE, value_name = "DIR")]
    state: PathBuf,
    #[command(flatten)]
    socket: Socket,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { pins: named, state, socket: Socket { socket } } = arguments;
    let controller = end_controller(named.as_deref(), socket)?;
    let folder = match (&controller, named) {
        (Controller::Ends(theirs), _) => theirs,
        (_, Some(named)) => named,
        (_, None) => Path::new(super::PINS),
    };
    let ends = matches!(controller, Controller::Ends(_));
    let (start, mut found) = (Instant::now(), ends);
    while folder.exists() {
        match Pins::open(folder) {
            Ok(pins) => {
                pins.must_be_here()?;
                Guard::of(folder).remove()?;
                pins.remove()?;
                found = true;
                break;
            }
            Err(PinsError::Taken(_)) if ends && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => match (&error, &controller) {
                (PinsError::Taken(_), Controller::Another(theirs)) => bail!(
                    "{error}; it is not the one on {}, whose programs are in {}: say where its --socket is",
                    socket.display(),
                    theirs.display()
                ),
                _ => bail!(error),
            },
        }
    }
    if let Some(named) = named.as_deref().filter(|named| !found && !is_place(named)) {
        bail!(PinsError::NoBpffs(named.to_owned()));
    }
    // It is there where a start has failed, too.
    Guard::of(folder).remove()?;
    // A controller that ends forgets it by itself.
    if !ends {
        History::forget_current_of(state, folder)
            .with_context(|| format!("cannot forget the policy that is kept in {}", state.display()))?;
    }
    match &controller {
        _ if found => super::print("nothing is enforced any more\n")?,
        Controller::Another(theirs) => super::print(&format!(
            "nothing was attached in {}; the controller on {} keeps its programs in {}\n",
            folder.display(),
            socket.display(),
            theirs.display()
        ))?,
        _ => super::print("nothing was attached\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Who answers on the socket, with the folder that its programs are kept in.
enum Controller {
    /// The one that is meant. It ends, and takes everything along: it may hold what no pin shows any more.
    Ends(PathBuf),
    /// One that keeps them elsewhere.
    Another(PathBuf),
    /// Nobody.
    Absent,
}

/// Lets the controller end that answers, unless it is another one than that of the folder that is named.
fn end_controller(named: Option<&Path>, socket: &Path) -> Result<Controller> {
    let answered: Result<Status> = super::block_on(client::get(socket, "/v1/status"));
    let theirs = match answered {
        Ok(status) => PathBuf::from(status.pins),
        Err(error) if matches!(error.downcast_ref(), Some(NoController::Absent(_))) => return Ok(Controller::Absent),
        Err(error) => return Err(error),
    };
    // A version that does not tell is taken to be meant.
    let folder =
        if theirs.as_os_str().is_empty() { named.unwrap_or(Path::new(super::PINS)).to_owned() } else { theirs };
    if named.is_some_and(|named| named != folder) {
        return Ok(Controller::Another(folder));
    }
    let asked: Result<()> = super::block_on(client::post(socket, "/v1/detach", &()));
    asked.or_else(|error| match error.downcast_ref::<NoController>() {
        // It may have ended, or be ending.
        Some(reason) if reason.was_asked() || matches!(reason, NoController::Absent(_)) => Ok(()),
        _ => Err(error),
    })?;
    Ok(Controller::Ends(folder))
}
