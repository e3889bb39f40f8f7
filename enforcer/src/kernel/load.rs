//! An object whose maps are made: programs to the verifier, its pins, its size.

use std::{os::fd::AsFd as _, path::Path, thread};

use aya::{Ebpf, maps::Map, programs::Program};

use super::{KernelError, shared, take::data};

/// Programs to the verifier, those whose names are wanted. Nearly all of a start's time is his, who can look at several at a time.
pub fn programs(ebpf: &mut Ebpf, is_wanted: impl Fn(&str) -> bool) -> Result<(), KernelError> {
    let wanted = ebpf.programs_mut().filter(|(name, _)| is_wanted(name));
    thread::scope(|scope| {
        let loading: Vec<_> = wanted.map(|(name, loaded)| scope.spawn(move || program(name, loaded))).collect();
        loading
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// A program to the verifier.
pub fn program(name: &str, program: &mut Program) -> Result<(), KernelError> {
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Ok(()),
    };
    loaded.map_err(|source| KernelError::Program { program: name.to_owned(), source })
}

/// Undoes [`program`].
pub fn unload(program: &mut Program) {
    // It fails where it is not loaded.
    let _ = match program {
        Program::Xdp(program) => program.unload(),
        Program::SchedClassifier(program) => program.unload(),
        _ => Ok(()),
    };
}

/// Pins those maps that are of this set alone, in a directory that is made for them.
pub fn pin_maps(ebpf: &Ebpf, set: &Path) -> Result<(), KernelError> {
    let shared = shared::shapes(false).map(|shape| shape.name);
    for (name, map) in ebpf.maps().filter(|(name, _)| MAPS.contains(name) && !shared.contains(name)) {
        map.pin(set.join(name)).map_err(|source| KernelError::Pin { path: set.to_owned(), source })?;
    }
    Ok(())
}

/// Pins a program beside them, if it is loaded.
pub fn pin_program(name: &str, program: &mut Program, set: &Path) -> Result<(), KernelError> {
    match program {
        Program::Xdp(program) if program.fd().is_ok() => program.pin(set.join(name)),
        Program::SchedClassifier(program) if program.fd().is_ok() => program.pin(set.join(name)),
        _ => Ok(()),
    }
    .map_err(|source| KernelError::Pin { path: set.to_owned(), source })
}

/// The product's own maps; the benchmark's object has more.
const MAPS: &[&str] = &[
    "BLOCKS",
    "HOSTS4",
    "HOSTS6",
    "KEYS6",
    "OVERFLOW",
    "LONG6",
    "COUNTERS",
    "IDENTITIES",
    "NET",
    "PLACES6",
    "FRAGMENTS",
    "REPLIES",
    "EVENTS",
    "QUERIES",
    "ASKERS",
    "ANSWERS",
    "MESSAGE",
    "RESOLVERS",
    "OUTCOMES",
    "ADMITTED",
    "ADMITTED_NETS",
];

/// The `memlock` line of each map's `fdinfo`: what the kernel accounts, overhead included.
pub fn map_bytes(ebpf: &Ebpf) -> u64 {
    let of = |map: &Map| -> Option<u64> {
        let data = data(map)?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&data.fd().as_fd());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
    };
    ebpf.maps().filter(|(name, _)| MAPS.contains(name)).filter_map(|(_, map)| of(map)).sum()
}
