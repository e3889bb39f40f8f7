//! Limits on concurrent queries and connections: in total, per device and per LAN.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::net::neighbours::Mac;

/// A device of a LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Index of the LAN's interface.
    pub lan: u32,
    /// The identity of the device on that LAN.
    pub station: Station,
}

/// The identity of a device on its LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Station {
    /// The MAC of a device, which may have any number of addresses.
    Mac(Mac),
    /// An address without a known MAC, such as one behind another router.
    Address(IpAddr),
}

/// Slots for queries or connections. When the slots of a LAN or all slots are taken, the oldest slot of the
/// device with the most slots ends.
pub struct Places {
    devices: Shares<Device>,
    held: Arc<Mutex<Held>>,
}

/// A place that is taken until this is dropped or ended.
#[must_use]
pub struct Place {
    held: Arc<Mutex<Held>>,
    device: Device,
    number: u64,
    end: Arc<Notify>,
    _own: OwnedSemaphorePermit,
}

impl Places {
    /// Creates limits for all devices together, for each device, and for each LAN.
    pub fn new(most: usize, each: usize, lan: usize) -> Self {
        let held = Held { most, most_of_lan: lan, ..Held::default() };
        Self { devices: Shares::new(most, each), held: Arc::new(Mutex::new(held)) }
    }

    /// Returns a place, or nothing if the device has reached its own limit.
    pub fn try_take(&self, device: Device) -> Option<Place> {
        let own = self.devices.of(device).try_acquire_owned().ok()?;
        Some(self.place(device, own))
    }

    /// Waits until the device is below its own limit, and returns a place. Returns nothing only for a closed
    /// semaphore; these are never closed.
    pub async fn take(&self, device: Device) -> Option<Place> {
        let own = self.devices.of(device).acquire_owned().await.ok()?;
        Some(self.place(device, own))
    }

    fn place(&self, device: Device, own: OwnedSemaphorePermit) -> Place {
        let end = Arc::<Notify>::default();
        let number = lock(&self.held).add(device, Arc::clone(&end));
        Place { held: Arc::clone(&self.held), device, number, end, _own: own }
    }
}

impl Place {
    /// Waits until the place was ended to make room for another one.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.held).remove(self.device, self.number);
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All taken places.
#[derive(Default)]
struct Held {
    most: usize,
    most_of_lan: usize,
    /// The number of the newest place; later places have higher numbers.
    ever: u64,
    number: usize,
    lans: HashMap<u32, Lan>,
}

/// The taken places of a LAN.
#[derive(Default)]
struct Lan {
    number: usize,
    devices: HashMap<Device, Ends>,
    ranks: BTreeSet<Rank>,
}

/// The places of a device, oldest first, each with the signal that ends it.
type Ends = BTreeMap<u64, Arc<Notify>>;

/// The number of a device's places, its oldest place, and the device. The oldest place of the last rank ends next.
type Rank = (usize, Reverse<u64>, Device);

impl Held {
    fn add(&mut self, device: Device, end: Arc<Notify>) -> u64 {
        self.ever += 1;
        self.number += 1;
        let lan = self.lans.entry(device.lan).or_default();
        lan.number += 1;
        lan.change(device, |ends| ends.insert(self.ever, end));
        let is_lan_full = lan.number > self.most_of_lan;
        let fullest = || self.lans.iter().max_by_key(|(_, lan)| lan.number).map(|(lan, _)| *lan);
        let full = if is_lan_full { Some(device.lan) } else { fullest().filter(|_| self.number > self.most) };
        if let Some(full) = full {
            self.end_oldest(full);
        }
        self.ever
    }

    /// Ends the oldest place of the device that has the most places of a LAN.
    fn end_oldest(&mut self, lan: u32) {
        let most = self.lans.get(&lan).and_then(|lan| lan.ranks.last());
        if let Some(&(_, Reverse(oldest), device)) = most
            && let Some(end) = self.remove(device, oldest)
        {
            end.notify_one();
        }
    }

    fn remove(&mut self, device: Device, number: u64) -> Option<Arc<Notify>> {
        let lan = self.lans.get_mut(&device.lan)?;
        let end = lan.change(device, |ends| ends.remove(&number))?;
        self.number -= 1;
        lan.number -= 1;
        if lan.number == 0 {
            self.lans.remove(&device.lan);
        }
        Some(end)
    }
}

impl Lan {
    fn change<T>(&mut self, device: Device, change: impl FnOnce(&mut Ends) -> T) -> T {
        let ends = self.devices.entry(device).or_default();
        let rank = |ends: &Ends| ends.keys().next().map(|oldest| (ends.len(), Reverse(*oldest), device));
        if let Some(before) = rank(ends) {
            self.ranks.remove(&before);
        }
        let changed = change(ends);
        match rank(ends) {
            Some(now) => {
                self.ranks.insert(now);
            }
            None => {
                self.devices.remove(&device);
            }
        }
        changed
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
    use std::net::Ipv4Addr;

    use futures_util::FutureExt as _;

    use super::*;

    fn device(lan: u32, address: &str) -> Device {
        Device { lan, station: Station::Address(address.parse().unwrap()) }
    }

    fn is_ended(place: Option<&Place>) -> bool {
        place.unwrap().ended().now_or_never().is_some()
    }

    #[test]
    fn device_has_its_share_whatever_its_addresses() {
        let places = Places::new(100, 2, 50);
        let laptop = Device { lan: 1, station: Station::Mac([2, 0, 0, 0, 0, 1]) };
        let first = places.try_take(laptop);
        let second = places.try_take(laptop);
        assert!(first.is_some() && second.is_some() && places.try_take(laptop).is_none());
        assert!(places.try_take(device(1, "10.1.0.3")).is_some());
        drop(first);
        assert!(places.try_take(laptop).is_some());
        assert!(lock(&places.held).lans[&1].number == 1, "the second");
    }

    #[test]
    fn full_lan_ends_the_oldest_place_of_the_device_that_has_most() {
        let places = Places::new(100, 4, 6);
        let take = |address: &str| places.try_take(device(1, address));
        let [one, other] = ["10.1.0.2", "fd00:1::3"];
        let first = [take(other), take(one), take(one), take(one), take(other), take(other)];
        assert!(first.iter().all(|place| !is_ended(place.as_ref())));
        // Both have three: the oldest of all ends.
        let new = take("10.1.0.4");
        let ended: Vec<bool> = first.iter().map(|place| is_ended(place.as_ref())).collect();
        assert_eq!(ended, [true, false, false, false, false, false]);
        // The device with the most places loses one, also to its own new place.
        let newer = take(one);
        let ended: Vec<bool> = first.iter().map(|place| is_ended(place.as_ref())).collect();
        assert_eq!(ended, [false, true, false, false, false, false], "the first was told before");
        assert!(!is_ended(new.as_ref()) && !is_ended(newer.as_ref()));
        // Dropping an ended place frees nothing a second time.
        drop(first);
        let left = || lock(&places.held).number;
        assert_eq!(left(), 2);
        // Another LAN has places of its own.
        let others: Vec<Option<Place>> = (0..6).map(|n| places.try_take(device(2, &format!("10.2.0.{n}")))).collect();
        assert!(others.iter().all(|place| !is_ended(place.as_ref())) && !is_ended(new.as_ref()));
    }

    #[test]
    fn all_places_taken_end_one_of_the_lan_that_has_most() {
        let places = Places::new(5, 4, 4);
        let large: Vec<Option<Place>> = (0..4).map(|n| places.try_take(device(1, &format!("10.1.0.{n}")))).collect();
        let small = [places.try_take(device(2, "10.2.0.2")), places.try_take(device(2, "10.2.0.2"))];
        assert!(is_ended(large[0].as_ref()) && !is_ended(large[1].as_ref()));
        assert!(small.iter().all(|place| !is_ended(place.as_ref())));
        drop((large, small));
        let held = lock(&places.held);
        assert!(held.number == 0 && held.lans.is_empty());
    }

    #[test]
    fn clients_without_a_place_are_forgotten() {
        let places = Places::new(4, 2, 2);
        let kept = places.try_take(device(1, "10.1.0.1"));
        for number in 0..1000_u32 {
            let address = Ipv4Addr::from_bits(number).to_string();
            assert!(places.try_take(device(1, &address)).is_some());
        }
        assert!(places.devices.held.lock().unwrap().len() <= 8);
        let again = places.try_take(device(1, "10.1.0.1"));
        assert!(again.is_some() && places.try_take(device(1, "10.1.0.1")).is_none());
        drop(kept);
    }
}
