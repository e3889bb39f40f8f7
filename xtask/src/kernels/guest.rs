//! A machine that boots, runs its tests and is off again, all in software: no host need allow virtual machines in hardware.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::images::Image;
use crate::cross::Architecture;

/// A guest that hangs is ended. Tests end by themselves long before.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The output of a guest.
pub struct Told {
    /// Its lines, from the first test to the last.
    pub lines: Vec<String>,
    /// How many test programs failed; `None` if the guest was ended before its last test, or never started one.
    pub failed_programs: Option<u32>,
}

/// Boots a kernel with an archive, hands over each line as it comes, and keeps all of them in a file.
pub fn boot(
    architecture: Architecture,
    image: &Image,
    archive: &Path,
    log: &Path,
    mut heard: impl FnMut(&str),
) -> Result<Told> {
    let mut qemu = architecture.qemu();
    qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "2G", "-nodefaults", "-nographic", "-no-reboot"]);
    qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(archive);
    qemu.args(["-append", &format!("console={} quiet panic=-1", architecture.console()), "-serial", "stdio"]);
    let mut guest = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run qemu")?;
    let output = BufReader::new(guest.stdout.take().context("no output of qemu")?);
    let mut log = File::create(log)?;
    let (ended, watched) = std::sync::mpsc::channel::<()>();
    let told = thread::scope(|scope| {
        let guest = &mut guest;
        scope.spawn(move || {
            if watched.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = guest.kill();
            }
        });
        let (mut lines, mut failed, mut begun) = (Vec::new(), None, false);
        for line in output.split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            writeln!(log, "{line}")?;
            // The firmware's last words are on the same line.
            begun |= line.contains("guest begins ");
            if let Some((_, rest)) = line.split_once("guest ends ") {
                failed = rest.split(' ').next().and_then(|count| count.parse().ok());
            }
            if begun {
                heard(&line);
                lines.push(line);
            }
        }
        drop(ended);
        anyhow::Ok((lines, failed))
    });
    guest.wait()?;
    let (lines, failed_programs) = told?;
    Ok(Told { lines, failed_programs })
}
