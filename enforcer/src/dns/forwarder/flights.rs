//! Those who want the same at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What some share by a key, for as long as anyone does.
pub struct Flights<K, V> {
    flights: Mutex<HashMap<K, (Arc<V>, usize)>>,
}

/// One who shares.
pub struct Flight<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: K,
    /// What is shared.
    pub shared: Arc<V>,
    /// Whether others were there before.
    pub joined: bool,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { flights: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V> Flights<K, V> {
    /// Shares what those have who are there already, or else something new.
    pub fn join(&self, key: K, new: impl FnOnce() -> V) -> Flight<'_, K, V> {
        let mut flights = self.lock();
        let (shared, number) = flights.entry(key.clone()).or_insert_with(|| (Arc::new(new()), 0));
        *number += 1;
        Flight { flights: self, key, shared: Arc::clone(shared), joined: *number > 1 }
    }
}

impl<K, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Arc<V>, usize)>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Flight<'_, K, V> {
    /// Lets nobody join any more: whoever comes now begins anew.
    pub fn close(&self) {
        self.leave(true);
    }

    fn leave(&self, all: bool) {
        let mut flights = self.flights.lock();
        // After it was closed, another's flight may have the key.
        if let Some((shared, number)) = flights.get_mut(&self.key)
            && Arc::ptr_eq(shared, &self.shared)
        {
            *number -= 1;
            if all || *number == 0 {
                flights.remove(&self.key);
            }
        }
    }
}

impl<K: Eq + Hash, V> Drop for Flight<'_, K, V> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

#[cfg(test)]
mod tests {
    use super::Flights;

    #[test]
    fn what_is_shared_goes_with_the_last_or_when_it_is_closed() {
        let flights = Flights::default();
        let join = |number: u32| flights.join("key", || number);
        let (first, second) = (join(1), join(2));
        assert_eq!((first.joined, second.joined, *second.shared), (false, true, 1));
        drop(first);
        assert_eq!(*join(3).shared, 1);
        second.close();
        let third = join(4);
        assert_eq!((third.joined, *third.shared), (false, 4));
        // One that was closed leaves the next alone.
        drop(second);
        assert!(join(5).joined);
        drop(third);
        assert!(flights.lock().is_empty());
    }
}
