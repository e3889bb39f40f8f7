//! What is counted.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$text:meta])* $name:ident,)*) => {
        /// Counters of a forwarder.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$text])* pub $name: Counter,)*
            /// Upstreams with how often each was silent or not to be reached.
            pub upstream_failures: Vec<(SocketAddr, Counter)>,
        }

        /// Their values at a moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(default)]
        pub struct Snapshot {
            $($(#[$text])* pub $name: u64,)*
            /// Upstreams with how often each was silent or not to be reached.
            #[serde(skip)]
            pub upstream_failures: Vec<(SocketAddr, u64)>,
        }

        impl Counters {
            /// All zero.
            #[must_use]
            pub fn new(upstreams: &[SocketAddr]) -> Self {
                let failures = upstreams.iter().map(|&upstream| (upstream, Counter::default())).collect();
                Self { upstream_failures: failures, ..Self::default() }
            }

            /// The values now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                let failures = self.upstream_failures.iter().map(|(upstream, counter)| (*upstream, counter.get()));
                Snapshot { $($name: self.$name.get(),)* upstream_failures: failures.collect() }
            }
        }
    };
}

counters! {
    /// Messages from clients that were looked at, whatever they were.
    queries,
    /// Upstreams' answers that were passed on.
    answers,
    /// Messages that were no query, or none that can be forwarded.
    unfit,
    /// Queries answered with "no such name".
    nxdomain,
    /// Queries answered with the unspecified address.
    zero,
    /// Queries refused.
    refused,
    /// Queries that no upstream answered.
    failed,
    /// How often an upstream was silent for too long.
    timeouts,
    /// Queries that were not sent, but waited for the answer to an equal one.
    joined,
    /// Queries that were asked by TCP, as there were too many for the same name by datagram.
    crowded,
    /// Answers of an upstream that say that it cannot answer: the next was asked.
    at_a_loss,
    /// Messages from an upstream's address that do not answer the query: forged, late, or of one that does not keep the case of a question.
    mismatched,
    /// Answers that were passed on without being understood: nothing was learned of them.
    unreadable,
    /// Queries by UDP dropped because their device had too many at a time.
    over_limit,
    /// Queries by UDP dropped because their client had asked too many a second.
    over_client_rate,
    /// Queries ended before their answer because others wanted their place, and their device had most.
    displaced,
    /// TCP connections closed because there were too many, of one client, of one LAN or in all.
    connections_over_limit,
    /// Queries by UDP of allowed clients beyond the rate of their network, which were sent to TCP.
    over_rate,
    /// Queries and TCP connections that came from outside the LANs, and were dropped.
    outside,
}
