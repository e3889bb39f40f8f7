//! So many at a time, and so many of each client.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for queries or connections.
pub struct Places {
    all: Arc<Semaphore>,
    clients: Shares<IpAddr>,
    /// The clients of an IPv6 /64 together: one alone can take as many addresses from it as it likes.
    networks: Shares<Ipv6Addr>,
}

/// A place that is taken until this is dropped.
#[must_use]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _network: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all, for each client, and for all clients of an IPv6 /64.
    pub fn new(most: usize, each: usize, network: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(most)),
            clients: Shares::new(most, each),
            networks: Shares::new(most, network),
        }
    }

    /// A place, if there is one.
    pub fn try_take(&self, client: IpAddr) -> Option<Place> {
        let own = self.clients.of(client).try_acquire_owned().ok()?;
        let network = match network(client) {
            Some(network) => Some(self.networks.of(network).try_acquire_owned().ok()?),
            None => None,
        };
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _own: own, _network: network, _all: all })
    }

    /// A place, as soon as there is one. None would be for semaphores that are closed; these never are.
    pub async fn take(&self, client: IpAddr) -> Option<Place> {
        let own = self.clients.of(client).acquire_owned().await.ok()?;
        let network = match network(client) {
            Some(network) => Some(self.networks.of(network).acquire_owned().await.ok()?),
            None => None,
        };
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _own: own, _network: network, _all: all })
    }
}

fn network(client: IpAddr) -> Option<Ipv6Addr> {
    match client {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Places of each of those who have some.
struct Shares<T> {
    most: usize,
    each: usize,
    held: Mutex<HashMap<T, Arc<Semaphore>>>,
}

impl<T: Eq + Hash> Shares<T> {
    fn new(most: usize, each: usize) -> Self {
        Self { most, each, held: Mutex::default() }
    }

    fn of(&self, whose: T) -> Arc<Semaphore> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who have and want no place are forgotten, and only now and then: at most `most` of them have one.
        if held.len() >= 2 * self.most {
            held.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(held.entry(whose).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn each_has_its_share_and_all_have_one() {
        let places = Places::new(3, 2, 2);
        let take = |client: &str| places.try_take(client.parse().unwrap());
        let first = take("10.1.0.2");
        let second = take("10.1.0.2");
        assert!(first.is_some() && second.is_some() && take("10.1.0.2").is_none());
        let third = take("fd00:1::2");
        assert!(third.is_some() && take("10.1.0.3").is_none());
        drop(first);
        assert!(take("10.1.0.3").is_some() && take("10.1.0.2").is_some());
    }

    #[test]
    fn neighbours_have_shares_of_their_own_and_one_for_the_network() {
        let places = Places::new(20, 2, 5);
        let take = |client: &str| places.try_take(client.parse().unwrap());
        let mut held = ["fd00:1::2", "fd00:1::2", "fd00:1::3", "fd00:1::3", "fd00:1::4"].map(take);
        assert!(held.iter().all(Option::is_some));
        // All of the network is taken; what a refusal had taken already is given back.
        for _ in 0..10 {
            assert!(take("fd00:1::4").is_none() && take("fd00:1::5").is_none());
        }
        assert!(take("fd00:2::2").is_some() && take("10.1.0.2").is_some());
        held[2] = None;
        assert!(take("fd00:1::2").is_none() && take("fd00:1::4").is_some() && take("fd00:1:0:1::4").is_some());
    }

    #[test]
    fn clients_without_a_place_are_forgotten() {
        let places = Places::new(4, 2, 2);
        let kept = places.try_take([10, 1, 0, 1].into());
        for number in 0..1000_u32 {
            assert!(places.try_take(std::net::Ipv4Addr::from_bits(number).into()).is_some());
        }
        assert!(places.clients.held.lock().unwrap().len() <= 8);
        let again = places.try_take([10, 1, 0, 1].into());
        assert!(again.is_some() && places.try_take([10, 1, 0, 1].into()).is_none());
        drop(kept);
    }
}
