//! An object whose maps are made: its programs to the verifier, its pins, its size.

use std::{os::fd::AsFd as _, path::Path, thread};

use aya::{Ebpf, maps::Map, programs::Program};

use super::{KernelError, shared, snoop};

/// Those that snoop only if they are asked for: no kernel need take what is not used. Nearly all of a start's time is the verifier's, who can look at several
/// programs at a time.
pub fn programs(ebpf: &mut Ebpf, snoops: bool) -> Result<(), KernelError> {
    let wanted = ebpf.programs_mut().filter(|(name, _)| snoops || !snoop::PROGRAMS.contains(name));
    let load = |name: &str, program: &mut Program| {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => Ok(()),
        };
        loaded.map_err(|source| KernelError::Program { program: name.to_owned(), source })
    };
    thread::scope(|scope| {
        let loading: Vec<_> = wanted.map(|(name, program)| scope.spawn(move || load(name, program))).collect();
        loading
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Pins programs, and those maps that are of this set alone, in a directory that is made for them.
pub fn pin(ebpf: &mut Ebpf, set: &Path) -> Result<(), KernelError> {
    let refused = |source| KernelError::Pin { path: set.to_owned(), source };
    let shared = shared::shapes(false).map(|shape| shape.name);
    for (name, map) in ebpf.maps().filter(|(name, _)| MAPS.contains(name) && !shared.contains(name)) {
        map.pin(set.join(name)).map_err(refused)?;
    }
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::Xdp(program) if program.fd().is_ok() => program.pin(set.join(name)),
            Program::SchedClassifier(program) if program.fd().is_ok() => program.pin(set.join(name)),
            _ => Ok(()),
        }
        .map_err(refused)?;
    }
    Ok(())
}

/// The product's own maps; the benchmark's object has more.
const MAPS: &[&str] = &[
    "ROOTS",
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
];

/// The `memlock` line of each map's `fdinfo`: what the kernel accounts, overhead included.
pub fn map_bytes(ebpf: &Ebpf) -> u64 {
    let of = |map: &Map| -> Option<u64> {
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data)
        | Map::PerCpuArray(data)) = map
        else {
            return None;
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&data.fd().as_fd());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
    };
    ebpf.maps().filter(|(name, _)| MAPS.contains(name)).filter_map(|(_, map)| of(map)).sum()
}
