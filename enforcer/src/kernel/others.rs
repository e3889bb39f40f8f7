//! Other enforcers on an interface: two that judge the same packets each count them, and let pass only what both allow.

use std::{fs, path::Path};

use aya::programs::links::{FdLink, PinnedLink};

use super::{KernelError, clsact, links::OpenLinks, pins::Pins};
use crate::net::facts::Interface;

/// Refuses an interface that another enforcer has programs on, kept in a folder beside these pins, or in filters that no pins keep any more. Programs
/// themselves cannot be asked: that takes a right that is given up by then.
///
/// # Errors
/// With its folder, or its filter.
pub fn refuse(pins: &Pins, on: &Interface) -> Result<(), KernelError> {
    let beside = fs::read_dir(pins.folder().parent().unwrap_or(pins.folder())).into_iter().flatten();
    let mut folders = beside.filter_map(|entry| Some(entry.ok()?.path())).filter(|folder| folder != pins.folder());
    if let Some(folder) = folders.find(|folder| Pins::are_here_too(folder) && keeps(folder, on.index)) {
        return Err(KernelError::Another { interface: on.name.clone(), folder });
    }
    clsact::refuse_lost(pins, on)
}

/// Whether one of the links in a folder is on an interface.
fn keeps(folder: &Path, index: u32) -> bool {
    let pins = fs::read_dir(Pins::links_of(folder)).into_iter().flatten().filter_map(Result::ok);
    let links: Vec<FdLink> = pins.filter_map(|pin| Some(PinnedLink::from_pin(pin.path()).ok()?.into())).collect();
    let open = OpenLinks::read();
    links.iter().any(|link| open.interface(link) == Some(index))
}
