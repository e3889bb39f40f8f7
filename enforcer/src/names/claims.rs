//! What is said of names' addresses: how long they count, what they become, how they are known, how many there are.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{dns::Name, policy::ServiceId};

/// How long addresses count, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The least time that an answer is taken to be valid for.
    pub floor: Duration,
    /// The longest.
    pub ceiling: Duration,
    /// How long an address counts beyond that: clients are late.
    pub grace: Duration,
    /// How long a connection that stands may be silent.
    pub idle: Duration,
    /// How long an address drains at most.
    pub lifetime: Duration,
    /// Addresses of a name.
    pub per_name: usize,
    /// Claims and draining addresses together; a quarter of them drain at most.
    pub all: usize,
}

impl Limits {
    pub(super) fn draining(&self) -> usize {
        self.all / 4
    }

    pub(super) fn claims(&self) -> usize {
        self.all - self.draining()
    }
}

/// How an address became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// A client asked for the name.
    Asked,
    /// A client asked another server, whose answer passed.
    Snooped,
    /// It was asked for ahead of its clients.
    Resolved,
    /// It was, and resolvers do not tell of it any more.
    Kept,
    /// It was known before the last start.
    Restored,
}

/// What an address is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One of these services.
    Live(IpAddr, Vec<ServiceId>),
    /// One of these for connections that stand.
    Draining(IpAddr, Vec<ServiceId>),
    /// None of any name's services.
    Gone(IpAddr),
}

impl Change {
    /// Whose it is.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::Live(address, _) | Self::Draining(address, _) | Self::Gone(address) => *address,
        }
    }
}

/// An address as somebody who looks sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; of a draining address, the last that claimed it.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// For how long the name claims it; nothing if it drains.
    pub left: Option<Duration>,
    /// For how long it drains at most.
    pub drains: Option<Duration>,
    /// The services: of the name, or those that it drains for.
    pub services: Vec<ServiceId>,
    /// How it became known.
    pub how: How,
}

/// How many there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Names that claim addresses.
    pub names: usize,
    /// Addresses that names claim.
    pub addresses: usize,
    /// Addresses that drain.
    pub draining: usize,
    /// Names of which resolvers do not tell any more: they keep what they had.
    pub kept: usize,
    /// Claims and draining addresses that ended early because there were too many.
    pub evicted: u64,
    /// Addresses that were refused because they are not the internet's.
    pub refused: u64,
}
