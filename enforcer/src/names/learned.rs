//! The life of names' addresses.
//!
//! A name *claims* an address for a time, and an address is one of the services of all names that claim it. When the last claim ends while connections
//! to the address stand, it *drains*: they go on, and new ones are not opened. Whoever calls knows the time, how long an address has not been used, and
//! what to do with the changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Change, Counts, Entry, How, Limits};
use crate::{
    dns::{Name, is_public},
    policy::ServiceId,
};

struct Known {
    services: Arc<[ServiceId]>,
    how: How,
    /// When each claim ends.
    addresses: BTreeMap<IpAddr, Instant>,
}

/// An address that names claim.
#[derive(Default)]
struct Live {
    names: BTreeSet<Name>,
    /// How many of them claim it for each service.
    services: BTreeMap<ServiceId, u32>,
}

struct Draining {
    name: Name,
    how: How,
    services: Vec<ServiceId>,
    end: Instant,
}

/// For how long an address has not been used.
pub type Idle<'a> = &'a dyn Fn(IpAddr) -> Duration;

/// All claims, and what drains.
pub struct Learned {
    limits: Limits,
    /// Names that the policy has without an asterisk: none of others takes their place.
    exact: HashSet<Name>,
    names: HashMap<Name, Known>,
    live: HashMap<IpAddr, Live>,
    draining: BTreeMap<IpAddr, Draining>,
    /// What drains by when it ends.
    drains: BTreeSet<(Instant, IpAddr)>,
    /// All claims by when they end.
    order: BTreeSet<(Instant, Name, IpAddr)>,
    /// Claims of names that are not exact, the first learned in front; and some that have ended.
    queue: VecDeque<(Name, IpAddr)>,
    evicted: u64,
    refused: u64,
}

impl Learned {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(limits: Limits, exact: HashSet<Name>) -> Self {
        Self {
            limits,
            exact,
            names: HashMap::new(),
            live: HashMap::new(),
            draining: BTreeMap::new(),
            drains: BTreeSet::new(),
            order: BTreeSet::new(),
            queue: VecDeque::new(),
            evicted: 0,
            refused: 0,
        }
    }

    /// The same under other limits, where names are of other services, and what each address is there. Names that are of none are forgotten.
    #[must_use]
    pub fn under(
        &self,
        limits: Limits,
        exact: HashSet<Name>,
        services_of: impl Fn(&Name) -> Vec<ServiceId>,
        now: Instant,
    ) -> (Self, Vec<Change>) {
        let mut next = Self { evicted: self.evicted, refused: self.refused, ..Self::new(limits, exact) };
        let mut changes = Vec::new();
        let used = |_| Duration::ZERO;
        // By when they end: about as they were learned.
        for (until, name, address) in &self.order {
            let services = services_of(name);
            if let (Some(known), false) = (self.names.get(name), services.is_empty()) {
                next.claim((name, &services, known.how), *address, *until, now, &used, &mut changes);
            }
        }
        for (&address, Draining { name, how, end, .. }) in &self.draining {
            let services = services_of(name);
            if !services.is_empty() {
                let draining = Draining { name: name.clone(), how: *how, services, end: *end };
                next.drain(address, draining, &mut changes);
            }
        }
        (next, changes)
    }

    /// A name that is one of some services has these addresses, each for some seconds.
    pub fn learn(
        &mut self,
        (name, services, how): (&Name, &[ServiceId], How),
        addresses: &[(IpAddr, u32)],
        now: Instant,
        idle: Idle<'_>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for &(address, ttl) in addresses {
            if !is_public(address) {
                self.refused += 1;
                continue;
            }
            let Limits { floor, ceiling, grace, .. } = self.limits;
            // What is kept counts until it is asked again, however long that is.
            let ceiling = if how == How::Kept { Duration::MAX } else { ceiling };
            let until = now + Duration::from_secs(ttl.into()).min(ceiling).max(floor) + grace;
            self.claim((name, services, how), address, until, now, idle, &mut changes);
        }
        changes
    }

    fn claim(
        &mut self,
        (name, services, how): (&Name, &[ServiceId], How),
        address: IpAddr,
        until: Instant,
        now: Instant,
        idle: Idle<'_>,
        changes: &mut Vec<Change>,
    ) {
        if let Some(known) = self.names.get_mut(name) {
            known.how = how;
            if let Some(end) = known.addresses.get_mut(&address) {
                // Others may have the earlier answer: a claim never becomes shorter.
                if until > *end {
                    self.order.remove(&(*end, name.clone(), address));
                    self.order.insert((until, name.clone(), address));
                    *end = until;
                }
                return;
            }
            if known.addresses.len() >= self.limits.per_name
                && let Some((&first, _)) = known.addresses.iter().min_by_key(|(_, end)| **end)
            {
                self.evicted += 1;
                self.release(name, first, Some(now), idle, changes);
            }
        }
        while self.order.len() >= self.limits.claims() {
            self.make_room(now, idle, changes);
        }
        if !self.exact.contains(name) {
            if self.queue.len() >= 2 * self.limits.all {
                let names = &self.names;
                self.queue.retain(|(name, address)| {
                    names.get(name).is_some_and(|known| known.addresses.contains_key(address))
                });
            }
            self.queue.push_back((name.clone(), address));
        }
        let fresh = || Known { services: services.into(), how, addresses: BTreeMap::new() };
        self.names.entry(name.clone()).or_insert_with(fresh).addresses.insert(address, until);
        self.order.insert((until, name.clone(), address));
        let Live { names, services: counts } = self.live.entry(address).or_default();
        names.insert(name.clone());
        let before = counts.len();
        services.iter().for_each(|&service| *counts.entry(service).or_default() += 1);
        let (grows, services) = (counts.len() > before, counts.keys().copied().collect());
        if self.end_drain(address) || grows {
            changes.push(Change::Live(address, services));
        }
    }

    /// Ends a claim. A last one's address drains from a moment on, if there is one and connections stand.
    fn release(
        &mut self,
        name: &Name,
        address: IpAddr,
        drain: Option<Instant>,
        idle: Idle<'_>,
        changes: &mut Vec<Change>,
    ) {
        let Some(known) = self.names.get_mut(name) else { return };
        let Some(end) = known.addresses.remove(&address) else { return };
        let (services, how) = (Arc::clone(&known.services), known.how);
        if known.addresses.is_empty() {
            self.names.remove(name);
        }
        self.order.remove(&(end, name.clone(), address));
        let Some(Live { names, services: counts }) = self.live.get_mut(&address) else { return };
        names.remove(name);
        let before: Vec<ServiceId> = counts.keys().copied().collect();
        for service in services.iter() {
            if let Some(count) = counts.get_mut(service) {
                *count -= 1;
            }
        }
        counts.retain(|_, count| *count > 0);
        if !counts.is_empty() {
            if counts.len() < before.len() {
                changes.push(Change::Live(address, counts.keys().copied().collect()));
            }
            return;
        }
        self.live.remove(&address);
        match drain {
            Some(now) if idle(address) <= self.limits.idle => {
                let end = now + self.limits.lifetime;
                self.drain(address, Draining { name: name.clone(), how, services: before, end }, changes);
            }
            _ => changes.push(Change::Gone(address)),
        }
    }

    /// Lets an address drain, in place of the one that would end first if there are too many.
    fn drain(&mut self, address: IpAddr, draining: Draining, changes: &mut Vec<Change>) {
        if self.draining.len() >= self.limits.draining()
            && let Some(&(_, first)) = self.drains.first()
        {
            self.evicted += 1;
            self.end_drain(first);
            changes.push(Change::Gone(first));
        }
        changes.push(Change::Draining(address, draining.services.clone()));
        self.drains.insert((draining.end, address));
        self.draining.insert(address, draining);
    }

    /// Whether it drained.
    fn end_drain(&mut self, address: IpAddr) -> bool {
        let Some(draining) = self.draining.remove(&address) else { return false };
        self.drains.remove(&(draining.end, address))
    }

    /// Ends a claim: of those of names that are not exact, the one learned first to whose address nobody has been lately. Where all are used, the first's
    /// connections stand.
    fn make_room(&mut self, now: Instant, idle: Idle<'_>, changes: &mut Vec<Change>) {
        /// So many that are used get a second chance.
        const LOOK: usize = 16;
        self.evicted += 1;
        let mut chances = LOOK.min(self.queue.len());
        while let Some((name, address)) = self.queue.pop_front() {
            if self.until(&name, address).is_none() {
                continue;
            }
            if chances > 0 && idle(address) <= self.limits.idle {
                chances -= 1;
                self.queue.push_back((name, address));
                continue;
            }
            return self.release(&name, address, Some(now), idle, changes);
        }
        if let Some((_, name, address)) = self.order.first().cloned() {
            self.release(&name, address, Some(now), idle, changes);
        }
    }

    /// Addresses of a name that may have been draining before the last start: until that is known, they do.
    pub fn drain_again(&mut self, name: &Name, services: &[ServiceId], address: IpAddr, end: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        if is_public(address) && !self.live.contains_key(&address) {
            self.end_drain(address);
            let draining = Draining { name: name.clone(), how: How::Restored, services: services.into(), end };
            self.drain(address, draining, &mut changes);
        }
        changes
    }

    /// A name of which a claim's time is over.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<&Name> {
        self.order.first().filter(|(end, ..)| *end <= now).map(|(_, name, _)| name)
    }

    /// Ends what is over; with `hold`, no claims.
    pub fn sweep(&mut self, now: Instant, hold: bool, idle: Idle<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        while !hold
            && let Some((end, name, address)) = self.order.first().cloned()
            && end <= now
        {
            self.release(&name, address, Some(now), idle, &mut changes);
        }
        let over = |(&address, draining): (&IpAddr, &Draining)| {
            (draining.end <= now || idle(address) > self.limits.idle).then_some(address)
        };
        let over: Vec<IpAddr> = self.draining.iter().filter_map(over).collect();
        for address in over {
            self.end_drain(address);
            changes.push(Change::Gone(address));
        }
        changes
    }

    /// Until when a name claims an address.
    #[must_use]
    pub fn until(&self, name: &Name, address: IpAddr) -> Option<Instant> {
        self.names.get(name)?.addresses.get(&address).copied()
    }

    /// The names that claim an address; of a draining one, the last that did.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        let live = self.live.get(&address).into_iter().flat_map(|live| &live.names);
        live.chain(self.draining.get(&address).map(|draining| &draining.name))
    }

    /// All claims and what drains, in no order.
    pub fn entries(&self, now: Instant) -> impl Iterator<Item = Entry> {
        let claims = self.names.iter().flat_map(move |(name, known)| {
            known.addresses.iter().map(move |(&address, end)| Entry {
                name: name.clone(),
                address,
                left: Some(end.saturating_duration_since(now)),
                drains: None,
                services: known.services.to_vec(),
                how: known.how,
            })
        });
        let draining = self.draining.iter().map(move |(&address, draining)| Entry {
            name: draining.name.clone(),
            address,
            left: None,
            drains: Some(draining.end.saturating_duration_since(now)),
            services: draining.services.clone(),
            how: draining.how,
        });
        claims.chain(draining)
    }

    /// How many claims and draining addresses there are, each with how many there can be.
    #[must_use]
    pub fn fill(&self) -> [(usize, usize); 2] {
        [(self.order.len(), self.limits.claims()), (self.draining.len(), self.limits.draining())]
    }

    /// How many there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            names: self.names.len(),
            addresses: self.live.len(),
            draining: self.draining.len(),
            kept: self.names.values().filter(|known| known.how == How::Kept).count(),
            evicted: self.evicted,
            refused: self.refused,
        }
    }
}

#[cfg(test)]
#[path = "learned_tests.rs"]
mod tests;
