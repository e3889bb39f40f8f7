//! The kernel at arm's length: the loaded object, its maps and its links.

pub mod admitted;
pub mod attach;
pub mod clsact;
pub mod counters;
pub mod diagnostics;
pub mod events;
pub mod guard;
pub mod hook;
pub mod hosts;
pub mod links;
mod load;
pub mod memory;
pub mod object;
pub mod others;
pub mod pins;
mod places;
pub mod programs;
mod ring;
mod shared;
pub mod snoop;
mod take;
pub mod tc;

use std::path::PathBuf;

use thiserror::Error;

/// The oldest kernel that the programs are tested on.
pub const OLDEST: (u32, u32) = (6, 1);

/// What the kernel, or the way to it, refused.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The object could not be loaded.
    #[error(
        "cannot load the eBPF object (kernel {}.{} or newer and root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, are needed)",
        OLDEST.0,
        OLDEST.1
    )]
    Load(#[source] aya::EbpfError),
    /// A program was refused, usually by the verifier.
    #[error("the kernel refused program {program} (kernel {}.{} or newer is needed)", OLDEST.0, OLDEST.1)]
    Program {
        /// Its name.
        program: String,
        /// The verifier's word.
        source: aya::programs::ProgramError,
    },
    /// A program could not be attached.
    #[error("cannot attach {program} to {interface} ({hook}){advice}")]
    Attach {
        /// Program.
        program: String,
        /// Interface.
        interface: String,
        /// Hook and mode.
        hook: &'static str,
        /// What to do, if that is known.
        advice: String,
        /// Why.
        source: aya::programs::ProgramError,
    },
    /// What is to outlive this process cannot be pinned.
    #[error("cannot pin {path}: is the BPF file system still mounted, and is there memory?", path = path.display())]
    Pin {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        source: aya::pin::PinError,
    },
    /// A pinned link cannot be used.
    #[error("cannot use the link {path}: is the BPF file system still mounted?", path = path.display())]
    Link {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: aya::programs::links::LinkError,
    },
    /// The directory for pins cannot be used.
    #[error(transparent)]
    Pins(#[from] pins::PinsError),
    /// A program is on it in another way than it is to be.
    #[error(
        "{interface} has the program of the controller before by {there}: start with --xdp auto to keep it so, or `enforcer detach` first"
    )]
    OtherMode {
        /// Interface.
        interface: String,
        /// The hook and mode that it is on.
        there: &'static str,
    },
    /// TCX is asked for, and not there.
    #[error(
        "--tc tcx: this kernel has no TCX, which Linux has from 6.6 on; --tc auto, or clsact, attaches by the clsact qdisc"
    )]
    NoTcx,
    /// Somebody else's filter is where one is to be.
    #[error(
        "{interface} has a filter of {there} where enforcer's is to be the first ({hook}): `{delete}`, or give it a higher priority number"
    )]
    Occupied {
        /// Interface.
        interface: String,
        /// The filter's kind, and its program's name.
        there: String,
        /// Hook.
        hook: &'static str,
        /// The command that deletes it.
        delete: String,
    },
    /// Another enforcer is there.
    #[error(
        "{interface} has programs of another enforcer, which keeps them in {folder}: `enforcer detach --pins {folder}` takes them off", folder = folder.display()
    )]
    Another {
        /// Interface.
        interface: String,
        /// The other's pins.
        folder: PathBuf,
    },
    /// Another qdisc is where clsact is to be.
    #[error(
        "{interface} has the qdisc {there} in the place of clsact, which can do all that {there} can: let what made it make clsact (`tc qdisc del dev {interface} {there}`)"
    )]
    Qdisc {
        /// Interface.
        interface: String,
        /// The qdisc's kind.
        there: String,
    },
    /// A map is missing from the object or of another kind than expected.
    #[error("map {name}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// The programs' messages cannot be read.
    #[error("cannot read the kernel programs' diagnostics")]
    Log(#[source] Box<aya_log::Error>),
    /// What the programs hand over cannot be waited for.
    #[error("cannot wait for what the kernel programs tell")]
    Ring(#[source] std::io::Error),
    /// More resolvers than there is room for.
    #[error("{0} resolvers for --dns-snoop, more than {most}", most = enforcer_ebpf::abi::dns::RESOLVERS)]
    Resolvers(usize),
    /// The number of CPUs cannot be told.
    #[error("cannot tell how many CPUs there are")]
    Cpus(#[source] std::io::Error),
    /// The network's facts do not fit.
    #[error(transparent)]
    Net(#[from] crate::net::image::NetError),
    /// A map's memory cannot be mapped.
    #[error("cannot map the memory of {name} ({bytes} bytes)")]
    Memory {
        /// Its name.
        name: &'static str,
        /// How much was asked for.
        bytes: usize,
        /// Why.
        source: std::io::Error,
    },
}
