//! `enforcer detach`.

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::Socket;
use crate::{
    api::client::{self, NoController},
    kernel::{
        guard::Guard,
        pins::{Pins, PinsError},
    },
};

/// A controller has ended by then.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the kernel's programs are kept
    #[arg(long, default_value = super::PINS, value_name = "DIR")]
    pins: PathBuf,
    #[command(flatten)]
    socket: Socket,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { pins: folder, socket: Socket { socket } } = arguments;
    // A controller, if there is one, is to end, and take everything along: it may hold what no pin shows any more.
    let asked: Result<()> = super::block_on(client::post(socket, "/v1/detach", &()));
    let controller = match asked {
        Ok(()) => true,
        Err(error) => match error.downcast_ref::<NoController>() {
            Some(NoController::Absent(_)) => false,
            // It may be ending, or not.
            Some(reason) if reason.was_asked() => true,
            _ => return Err(error),
        },
    };
    let (start, mut found) = (Instant::now(), controller);
    while folder.exists() {
        match Pins::open(folder) {
            Ok(pins) => {
                pins.must_be_here()?;
                Guard::of(folder).remove()?;
                pins.remove()?;
                found = true;
                break;
            }
            Err(PinsError::Taken(_)) if controller && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => bail!(error),
        }
    }
    // It is there where a start has failed, too.
    Guard::of(folder).remove()?;
    super::print(if found { "nothing is enforced any more\n" } else { "nothing was attached\n" })?;
    Ok(ExitCode::SUCCESS)
}
