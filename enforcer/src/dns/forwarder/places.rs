//! So many at a time, and so many of each client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for queries or connections.
pub struct Places {
    all: Arc<Semaphore>,
    most: usize,
    each: usize,
    clients: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A place that is taken until this is dropped.
#[must_use]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all, and for each client.
    pub fn new(most: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(most)), most, each, clients: Mutex::default() }
    }

    /// A place, if there is one.
    pub fn try_take(&self, client: IpAddr) -> Option<Place> {
        let own = self.of(client).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// A place, as soon as there is one. None would be for semaphores that are closed; these never are.
    pub async fn take(&self, client: IpAddr) -> Option<Place> {
        let own = self.of(client).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _own: own, _all: all })
    }

    fn of(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who have and want no place are forgotten, and only now and then: at most `most` of them have one.
        if clients.len() >= 2 * self.most {
            clients.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(clients.entry(network(client)).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// An IPv6 client has a whole /64 to take addresses from.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn each_has_its_share_and_all_have_one() {
        let places = Places::new(3, 2);
        let take = |client: &str| places.try_take(client.parse().unwrap());
        let first = take("10.1.0.2");
        let second = take("10.1.0.2");
        assert!(first.is_some() && second.is_some() && take("10.1.0.2").is_none());
        let third = take("fd00:1::2");
        assert!(third.is_some() && take("10.1.0.3").is_none());
        drop(first);
        assert!(take("10.1.0.3").is_some() && take("10.1.0.2").is_some());
        drop(second);
        let fourth = take("fd00:1::3");
        assert!(fourth.is_some() && take("fd00:1::4").is_none() && take("fd00:2::4").is_some());
    }

    #[test]
    fn clients_without_a_place_are_forgotten() {
        let places = Places::new(4, 2);
        let kept = places.try_take([10, 1, 0, 1].into());
        for number in 0..1000_u32 {
            assert!(places.try_take(std::net::Ipv4Addr::from_bits(number).into()).is_some());
        }
        assert!(places.clients.lock().unwrap().len() <= 8);
        let again = places.try_take([10, 1, 0, 1].into());
        assert!(again.is_some() && places.try_take([10, 1, 0, 1].into()).is_none());
        drop(kept);
    }
}
