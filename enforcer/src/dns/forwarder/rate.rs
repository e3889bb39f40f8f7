//! Response-rate limiting: a bound on the answers by UDP to a network, as source addresses may be
//! forged.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Answers a second for a network, and at once.
const RATE: f64 = 100.0;
const BURST: f64 = 200.0;
/// Networks that are remembered. A new one beyond that gets no full answers by UDP until others
/// have been silent for [`BURST`] / [`RATE`] seconds.
const ROOM: usize = 4096;

/// Token buckets by IPv4 /24 and IPv6 /56.
#[derive(Default)]
pub struct Rates {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    answers: f64,
    then: Instant,
}

impl Bucket {
    fn at(self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.then).as_secs_f64();
        seconds.mul_add(RATE, self.answers).min(BURST)
    }
}

impl Rates {
    /// Returns whether a client may get another answer, and counts it.
    pub fn take(&self, client: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(client);
        if buckets.len() >= ROOM && !buckets.contains_key(&network) {
            buckets.retain(|_, bucket| bucket.at(now) < BURST);
            if buckets.len() >= ROOM {
                return false;
            }
        }
        let bucket = buckets.entry(network).or_insert(Bucket { answers: BURST, then: now });
        let answers = bucket.at(now);
        let may = answers >= 1.0;
        *bucket = Bucket { answers: if may { answers - 1.0 } else { answers }, then: now };
        may
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0 << 8).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 72).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_network_gets_a_burst_and_then_its_rate() {
        let (rates, start) = (Rates::default(), Instant::now());
        let taken = |client: &str, after: u64| {
            let now = start + Duration::from_millis(after);
            (0..1000).filter(|_| rates.take(client.parse().unwrap(), now)).count()
        };
        assert_eq!(taken("192.0.2.1", 0), 200);
        assert_eq!((taken("192.0.2.200", 0), taken("192.0.3.1", 0)), (0, 200), "by /24");
        assert_eq!(
            (taken("2001:db8::1", 0), taken("2001:db8:0:ff::1", 0), taken("2001:db8:0:100::1", 0)),
            (200, 0, 200)
        );
        assert_eq!(taken("192.0.2.2", 500), 50);
        assert_eq!(taken("192.0.2.2", 60_000), 200);
    }

    #[test]
    fn networks_are_bounded_and_silent_ones_make_room() {
        let (rates, start) = (Rates::default(), Instant::now());
        let client = |number: usize| IpAddr::from(Ipv4Addr::from_bits((number as u32) << 8));
        assert!((0..ROOM).all(|number| rates.take(client(number), start)));
        assert!(!rates.take(client(ROOM), start) && rates.take(client(0), start));
        assert!(rates.take(client(ROOM), start + Duration::from_secs(3)));
    }
}
