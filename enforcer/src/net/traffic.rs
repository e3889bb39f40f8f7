//! What the kernel counts on an interface by itself.

use std::fs;

use crate::api::types::Traffic;

/// An interface's counters; none if there is no such interface. A few small reads: nothing is counted for this.
#[must_use]
pub fn traffic(interface: &str) -> Option<Traffic> {
    let read = |counter: &str| -> Option<u64> {
        fs::read_to_string(format!("/sys/class/net/{interface}/statistics/{counter}")).ok()?.trim().parse().ok()
    };
    Some(Traffic {
        received_packets: read("rx_packets")?,
        received_bytes: read("rx_bytes")?,
        sent_packets: read("tx_packets")?,
        sent_bytes: read("tx_bytes")?,
    })
}
