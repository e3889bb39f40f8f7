//! What the kernel counts on an interface by itself.

use std::fs;

use crate::api::types::Traffic;

/// An interface's counters; none if there is no such interface. Nothing is counted for this. Unlike `/sys`, this is of the process's own network namespace,
/// whoever mounted it.
#[must_use]
pub fn traffic(interface: &str) -> Option<Traffic> {
    of_table(&fs::read_to_string("/proc/thread-self/net/dev").ok()?, interface)
}

/// As proc_pid_net(5) has it: bytes and packets are the first two columns, and the ninth and tenth.
fn of_table(table: &str, interface: &str) -> Option<Traffic> {
    let counts = table.lines().find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim() == interface).then_some(counts)
    });
    let counts: Vec<u64> = counts?.split_whitespace().map(|count| count.parse().ok()).collect::<Option<_>>()?;
    Some(Traffic {
        received_bytes: *counts.first()?,
        received_packets: *counts.get(1)?,
        sent_bytes: *counts.get(8)?,
        sent_packets: *counts.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_the_interfaces_whole_name() {
        let table = "Inter-|   Receive                                                |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
                     lan01:    1    2    0    0    0     0          0         0      3     4    0    0    0     0       0          0\n  \
                     lan0: 10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n";
        let found = of_table(table, "lan0").expect("it is there");
        assert_eq!(
            (found.received_bytes, found.received_packets, found.sent_bytes, found.sent_packets),
            (10, 20, 30, 40)
        );
        assert!(of_table(table, "lan").is_none() && of_table(table, "face").is_none());
    }
}
