//! Giving up what a controller does not need, before it reads or hears anything.

use std::io;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use thiserror::Error;

/// What is kept, so that interfaces can be followed and policies loaded later, too. systemd's unit leaves the first four.
const KEPT: [Capability; 6] = [
    // Maps, programs and links.
    Capability::CAP_BPF,
    // Programs on interfaces.
    Capability::CAP_NET_ADMIN,
    // Programs that the verifier takes only from those who may look into the kernel.
    Capability::CAP_PERFMON,
    // DNS, on port 53.
    Capability::CAP_NET_BIND_SERVICE,
    // A socket for a group that root is not in.
    Capability::CAP_CHOWN,
    // A policy in somebody's home, for root.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Privileges that could not be given up.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// By capabilities(7).
    #[error("cannot give up capabilities")]
    Capabilities(#[from] CapsError),
    /// By prctl(2).
    #[error("cannot rule out new privileges")]
    NewPrivileges(#[source] io::Error),
}

/// Leaves this thread, and those that it starts, no capabilities but those that a controller needs, and no way to get others. To be called while there is
/// one thread: the kernel knows capabilities of threads, not of processes.
///
/// # Errors
/// If the kernel refuses.
pub fn drop_unneeded() -> Result<(), PrivilegeError> {
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)?.into_iter().filter(|one| KEPT.contains(one)).collect();
    // A process without it has been bounded by whoever started it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for one in caps::read(None, CapSet::Bounding)?.into_iter().filter(|one| !kept.contains(one)) {
            caps::drop(None, CapSet::Bounding, one)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    nix::sys::prctl::set_no_new_privs().map_err(|errno| PrivilegeError::NewPrivileges(errno.into()))
}
