//! Rate limits on queries: per client, and per network where source addresses may be forged.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time;

use super::places::{Device, Station};

/// A sustained rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Queries per second.
    pub second: f64,
    /// Queries at once, after a pause.
    pub burst: f64,
}

/// The rate of a client's queries, and of UDP answers to a network whose addresses may be forged.
pub const CLIENT: Rate = Rate { second: 100.0, burst: 200.0 };
/// The rate of all clients of a network that have no known MAC, as a multiple of one client's rate. One
/// device can have any number of addresses.
const CLIENTS_OF_NETWORK: f64 = 20.0;

/// The most buckets. Beyond that, a new key is refused until buckets of silent keys are full again.
const ROOM: usize = 16_384;

/// Token buckets.
pub struct Rates<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    then: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    /// Creates an empty set of buckets with a rate for each key.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes a token from the bucket of a key.
    ///
    /// # Errors
    /// If the bucket is empty: the time until it has a token.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let Rate { second, burst } = self.rate;
        let at = |bucket: &Bucket| {
            let seconds = now.saturating_duration_since(bucket.then).as_secs_f64();
            seconds.mul_add(second, bucket.left).min(burst)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ROOM && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| at(bucket) < burst);
            if buckets.len() >= ROOM {
                return Err(Duration::from_secs_f64(1.0 / second));
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: burst, then: now });
        let left = at(bucket);
        let (left, taken) = if left >= 1.0 {
            (left - 1.0, Ok(()))
        } else {
            (left, Err(Duration::from_secs_f64((1.0 - left) / second)))
        };
        *bucket = Bucket { left, then: now };
        taken
    }
}

/// The rate limits of clients.
pub struct ClientRates {
    stations: Rates<Device>,
    /// Devices without a known MAC.
    addresses: Rates<Device>,
    /// All devices without a known MAC, by network.
    networks: Rates<(u32, IpAddr)>,
}

impl ClientRates {
    /// Creates rate limits with a rate for each client.
    pub fn new(rate: Rate) -> Self {
        let of_network = Rate { second: CLIENTS_OF_NETWORK * rate.second, burst: CLIENTS_OF_NETWORK * rate.burst };
        Self { stations: Rates::new(rate), addresses: Rates::new(rate), networks: Rates::new(of_network) }
    }

    /// Counts a query of a client.
    ///
    /// # Errors
    /// If the client is over its rate: the time until it may send again.
    pub fn take(&self, device: Device, now: Instant) -> Result<(), Duration> {
        match device.station {
            Station::Mac(_) => self.stations.take(device, now),
            Station::Address(address) => {
                self.addresses.take(device, now)?;
                self.networks.take((device.lan, network(address)), now)
            }
        }
    }

    /// Waits until the client is below its rate, and counts a query.
    pub async fn wait(&self, device: Device) {
        while let Err(over) = self.take(device, Instant::now()) {
            time::sleep(over).await;
        }
    }
}

/// Returns the IPv4 /24 or IPv6 /56 of an address.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0 << 8).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 72).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_a_burst_and_then_its_rate() {
        let (rates, start) = (Rates::new(CLIENT), Instant::now());
        let taken = |client: &str, after: u64| {
            let now = start + Duration::from_millis(after);
            (0..1000).filter(|_| rates.take(network(client.parse().unwrap()), now).is_ok()).count()
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
        let (rates, start) = (Rates::new(CLIENT), Instant::now());
        let take = |number: usize, now| rates.take(number, now).is_ok();
        assert!((0..ROOM).all(|number| take(number, start)));
        assert!(!take(ROOM, start) && take(0, start));
        assert!(take(ROOM, start + Duration::from_secs(3)));
    }

    #[test]
    fn a_client_has_one_rate_for_all_addresses_of_its_mac() {
        let (rates, start) = (ClientRates::new(CLIENT), Instant::now());
        let laptop = Device { lan: 1, station: Station::Mac([2, 0, 0, 0, 0, 1]) };
        let taken = |device| (0..1000).filter(|_| rates.take(device, start).is_ok()).count();
        assert_eq!((taken(laptop), taken(Device { lan: 2, ..laptop })), (200, 200));
        assert_eq!(rates.take(laptop, start), Err(Duration::from_millis(10)));
        // Without a MAC, addresses have rates of their own, and one of their network together.
        let address = |number: u8| Device { lan: 1, station: Station::Address([10, 1, 0, number].into()) };
        let taken: Vec<usize> = (0..30).map(|number| taken(address(number))).collect();
        assert_eq!((taken[0], taken.iter().sum::<usize>()), (200, 4000));
    }

    #[tokio::test]
    async fn a_client_that_waits_gets_its_rate() {
        let rates = ClientRates::new(Rate { second: 100.0, burst: 1.0 });
        let device = Device { lan: 1, station: Station::Mac([2, 0, 0, 0, 0, 1]) };
        let start = Instant::now();
        for _ in 0..6 {
            rates.wait(device).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(49), "{:?}", start.elapsed());
    }
}
