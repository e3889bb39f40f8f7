//! `enforcer detach`.

use std::{
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::Socket;
use crate::{
    api::client,
    kernel::{
        guard,
        pins::{Pins, PinsError},
    },
};

/// A controller has ended by then.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let start = Instant::now();
    let mut asked = false;
    while folder.exists() {
        match Pins::open(folder) {
            Ok(pins) => {
                pins.remove()?;
                break;
            }
            // The controller's own: it is to end, and take everything along.
            Err(PinsError::Taken(_)) if start.elapsed() < PATIENCE => {
                if !asked {
                    let answer: Result<()> = super::block_on(client::post(socket, "/v1/detach", &()));
                    answer.with_context(|| format!("a controller keeps its programs in {}", folder.display()))?;
                    asked = true;
                }
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => bail!(error),
        }
    }
    guard::remove()?;
    super::print("nothing is enforced any more\n")?;
    Ok(ExitCode::SUCCESS)
}
