//! From DNS answers to the kernel: which names matter, for how long their addresses count, and that they are stored.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv6Net;

use super::tables::table;
use crate::{
    api::types::{NameAddress, Table},
    compile::{Addresses, Limits as Tables, Live, NoRoom},
    dns::{Name, Patterns},
    kernel::object::Object,
    names::{Change, Counts, Entry, How, Learned, Limits, store::Record},
    policy::{NameTimes, Policy, ServiceId, nat64},
};

/// Addresses of one name: a content network's have dozens, and a name that somebody made to fill the tables has no more.
const PER_NAME: usize = 512;
/// An epoch is never longer: so exact is what is known of an address's last use.
const EPOCH: Duration = Duration::from_secs(60);
/// Epochs of the time for which a connection may be silent.
const EPOCHS_IDLE: u32 = 8;
/// A new address is as one that was last used so many epochs ago: half of those that there are numbers for, so that it is not for long.
const UNUSED: u16 = 1 << 15;
/// Claims that may wait to be noted: a disk that is slower has all of them to save.
const MOST_FRESH: usize = 16_384;
/// Names of an address that are told with an event.
const FEW: usize = 4;

/// The names of a policy and their addresses, here and in the kernel.
pub struct Learning {
    patterns: Patterns<ServiceId>,
    /// Services by their names, for people.
    names_of_services: Arc<[String]>,
    nat64: Vec<Ipv6Net>,
    learned: Learned,
    addresses: Addresses,
    live: Vec<Live>,
    /// The room that they began with, words.
    room: Vec<u32>,
    /// How long an address drains at most.
    lifetime: Duration,
    epoch: Duration,
    next_epoch: Instant,
    /// Addresses that the kernel's tables had no room for.
    unplaced: u64,
    /// Something is known that the disk does not know.
    changed: bool,
    /// Claims that are not noted yet.
    fresh: Vec<(Name, IpAddr, Instant)>,
    /// How often something was learned.
    learned_count: u64,
}

impl Learning {
    /// Nothing is known yet. `live` are the class tables of the policy's image.
    pub fn new(policy: &Policy, live: Vec<Live>, now: Instant) -> Self {
        let named = policy.named().flat_map(|(id, service)| service.names.iter().map(move |name| (name.clone(), id)));
        let limits = limits(policy);
        let epoch = (limits.idle / EPOCHS_IDLE).clamp(Duration::from_secs(1), EPOCH);
        Self {
            patterns: named.collect(),
            names_of_services: policy.services.iter().map(|service| service.name.clone()).collect(),
            nat64: policy.nat64.clone(),
            learned: Learned::new(limits, exact_names(policy).collect()),
            addresses: Addresses::new(&policy.nat64),
            room: live.iter().flat_map(Live::room).collect(),
            live,
            lifetime: limits.lifetime,
            epoch,
            next_epoch: now + epoch,
            unplaced: 0,
            changed: false,
            fresh: Vec::new(),
            learned_count: 0,
        }
    }

    /// The same under another policy, of which nothing is in its tables yet. Addresses keep the time of their last use.
    pub fn under(&self, policy: &Policy, live: Vec<Live>, old: &Object, new: &mut Object, now: Instant) -> Self {
        let mut next = Self::new(policy, live, now);
        new.set_epoch(old.epoch());
        let (learned, changes) =
            self.learned.under(limits(policy), exact_names(policy).collect(), |name| next.services(name), now);
        next.learned = learned;
        for change in changes {
            let idle = idle(&self.addresses, self.epoch, old, change.address());
            let epochs = idle.as_secs() / next.epoch.as_secs();
            let epochs = u16::try_from(epochs).unwrap_or(UNUSED).min(UNUSED);
            next.apply_from(new, vec![change], old.epoch().wrapping_sub(epochs));
        }
        next.unplaced += self.unplaced;
        next.changed = true;
        next.fresh.clone_from(&self.fresh);
        next.learned_count = self.learned_count;
        next
    }

    /// A name has these addresses, each for some seconds. When this returns, the kernel knows. Whether the name is any service's.
    pub fn learn(
        &mut self,
        object: &mut Object,
        name: &Name,
        how: How,
        addresses: &[(IpAddr, u32)],
        now: Instant,
    ) -> bool {
        let services = self.services(name);
        if services.is_empty() {
            return false;
        }
        let inner: Vec<(IpAddr, u32)> =
            addresses.iter().map(|&(address, ttl)| (nat64::inside(&self.nat64, address), ttl)).collect();
        let idle = |address| idle(&self.addresses, self.epoch, object, address);
        let changes = self.learned.learn((name, &services, how), &inner, now, &idle);
        self.changed = true;
        self.learned_count += 1;
        // What there is no room for is saved with all others.
        if how != How::Restored && self.fresh.len() < MOST_FRESH {
            let claim = |&(address, _): &(IpAddr, u32)| {
                self.learned.until(name, address).map(|until| (name.clone(), address, until))
            };
            self.fresh.extend(inner.iter().filter_map(claim));
        }
        self.apply(object, changes);
        true
    }

    /// A name of which an address's time is over.
    pub fn due(&self, now: Instant) -> Option<Name> {
        self.learned.due(now).cloned()
    }

    /// Ends what is over, with `hold` only what drains; and begins an epoch when it is time.
    pub fn sweep(&mut self, object: &mut Object, now: Instant, hold: bool) {
        while self.next_epoch <= now {
            object.set_epoch(object.epoch().wrapping_add(1));
            self.next_epoch += self.epoch;
        }
        let idle = |address| idle(&self.addresses, self.epoch, object, address);
        let changes = self.learned.sweep(now, hold, &idle);
        self.changed |= !changes.is_empty();
        self.apply(object, changes);
    }

    fn apply(&mut self, object: &mut Object, changes: Vec<Change>) {
        self.apply_from(object, changes, object.epoch().wrapping_sub(UNUSED));
    }

    /// New addresses begin as if they had been used in this epoch.
    fn apply_from(&mut self, object: &mut Object, changes: Vec<Change>, epoch: u16) {
        for change in changes {
            let (address, services, draining) = match change {
                Change::Live(address, services) => (address, services, false),
                Change::Draining(address, services) => (address, services, true),
                Change::Gone(address) => {
                    self.addresses.remove(object.memory(), address);
                    continue;
                }
            };
            let stored = self.addresses.set(object.memory(), &mut self.live, address, &services, draining, epoch);
            if let Err(NoRoom) = stored {
                if self.unplaced == 0 {
                    tracing::warn!("{address} is not matched: {NoRoom}");
                }
                self.unplaced += 1;
            }
        }
    }

    /// What the disk is to know, if that has changed; `today` is the time of day that `now` is, since 1970.
    pub fn changed(&mut self, now: Instant, today: Duration) -> Option<Vec<Record>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        // What drains is known by a time that is over: when it began to.
        let until = |left, drains: Option<Duration>| match (left, drains) {
            (Some(left), _) => today + left,
            (None, drains) => (today + drains.unwrap_or_default()).saturating_sub(self.lifetime),
        };
        let record = |Entry { name, address, left, drains, .. }: Entry| Record {
            name: name.to_string(),
            address,
            until: until(left, drains).as_secs(),
        };
        Some(self.learned.entries(now).map(record).collect())
    }

    /// The disk does not know what it was told.
    pub fn unsaved(&mut self) {
        self.changed = true;
    }

    /// How often something was learned so far.
    pub fn learned(&self) -> u64 {
        self.learned_count
    }

    /// What was learned since this was asked last, to be noted on disk; times as for [`Self::changed`].
    pub fn fresh(&mut self, now: Instant, today: Duration) -> Vec<Record> {
        let record = |(name, address, until): (Name, IpAddr, Instant)| Record {
            name: name.to_string(),
            address,
            until: (today + until.saturating_duration_since(now)).as_secs(),
        };
        self.fresh.drain(..).map(record).collect()
    }

    /// Takes what the disk knew of names that this policy has. What has ended may have connections: it drains.
    pub fn restore(&mut self, object: &mut Object, records: Vec<Record>, now: Instant, today: Duration) {
        for Record { name, address, until } in records {
            let Ok(name) = name.parse() else { continue };
            let left = u32::try_from(until.saturating_sub(today.as_secs())).unwrap_or(u32::MAX);
            if left > 0 {
                self.learn(object, &name, How::Restored, &[(address, left)], now);
                continue;
            }
            let services = self.services(&name);
            let over = Duration::from_secs(today.as_secs().saturating_sub(until));
            if let (Some(rest), false) = (self.lifetime.checked_sub(over), services.is_empty()) {
                let changes = self.learned.drain_again(&name, &services, address, now + rest);
                self.apply_from(object, changes, object.epoch());
            }
        }
    }

    /// Names that an address is known by, the first few of them.
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.learned.names_of(nat64::inside(&self.nat64, address)).take(FEW).map(ToString::to_string).collect()
    }

    /// Whether an address is matched as one of a name's.
    pub fn is_matched(&self, object: &Object, name: &Name, address: IpAddr) -> bool {
        let address = nat64::inside(&self.nat64, address);
        let is_stored = !self.addresses.epochs(object.tables(), address).is_empty();
        is_stored && self.learned.names_of(address).any(|known| known == name)
    }

    /// The services that a name is of.
    pub fn services_of(&self, name: &Name) -> Vec<String> {
        self.services(name).iter().map(|id| self.names_of_services[id.0 as usize].clone()).collect()
    }

    fn services(&self, name: &Name) -> Vec<ServiceId> {
        let services: BTreeSet<ServiceId> = self.patterns.matches(name).copied().collect();
        services.into_iter().collect()
    }

    /// All addresses with their names, to be put into words where nobody waits for that.
    pub fn listing(&self, object: &Object, now: Instant) -> Listing {
        let entry = |entry: Entry| {
            let idle = idle(&self.addresses, self.epoch, object, entry.address);
            let used = (idle < self.epoch * UNUSED.into()).then_some(idle);
            Listed { matched: idle != Duration::MAX, used, entry }
        };
        Listing {
            entries: self.learned.entries(now).map(entry).collect(),
            services: Arc::clone(&self.names_of_services),
        }
    }

    /// How full the tables of names are. Of the room for combinations, that which is used most.
    pub fn tables(&self) -> Vec<Table> {
        let [addresses, draining] = self.learned.fill();
        let left = self.live.iter().flat_map(Live::room);
        let room = self.room.iter().zip(left).map(|(&room, left)| (room as usize - left as usize, room as usize));
        let fullest = room.filter(|(_, room)| *room > 0).max_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
        let (used, room) = fullest.unwrap_or_default();
        vec![
            table("addresses", addresses.0, addresses.1),
            table("draining", draining.0, draining.1),
            table("combinations", used, room),
        ]
    }

    /// How many there are, and how many the kernel's tables had no room for.
    pub fn counts(&self) -> (Counts, u64) {
        (self.learned.counts(), self.unplaced)
    }
}

/// For how long addresses count under a policy, and how many there is room for.
fn limits(policy: &Policy) -> Limits {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let NameTimes { floor, ceiling, grace, idle, lifetime } = policy.names;
    Limits {
        floor: seconds(floor),
        ceiling: seconds(ceiling),
        grace: seconds(grace),
        idle: seconds(idle),
        lifetime: seconds(lifetime),
        per_name: PER_NAME,
        all: Tables::default().learned,
    }
}

/// The names without an asterisk of services that rules name; some more than once.
pub fn exact_names(policy: &Policy) -> impl Iterator<Item = Name> {
    let names = policy.named().flat_map(|(_, service)| &service.names);
    names.filter(|name| !name.is_wildcard()).filter_map(|name| name.to_string().parse().ok())
}

/// For how long no packet of a connection that stands has passed to an address. What is not known counts as used.
fn idle(addresses: &Addresses, epoch: Duration, object: &Object, address: IpAddr) -> Duration {
    let since =
        |last: Option<u16>| last.map_or(Duration::ZERO, |last| epoch * object.epoch().wrapping_sub(last).into());
    addresses.epochs(object.tables(), address).into_iter().map(since).min().unwrap_or(Duration::MAX)
}

/// What is known at a moment.
pub struct Listing {
    entries: Vec<Listed>,
    services: Arc<[String]>,
}

struct Listed {
    entry: Entry,
    matched: bool,
    used: Option<Duration>,
}

impl Listing {
    /// In words, by name.
    pub fn names(self) -> Vec<NameAddress> {
        let service = |id: &ServiceId| self.services[id.0 as usize].clone();
        let shown =
            |Listed { entry: Entry { name, address, left, services, how, .. }, matched, used }: Listed| NameAddress {
                name: name.to_string(),
                address,
                matched,
                seconds_left: left.map(|left| left.as_secs()),
                services: services.iter().map(service).collect(),
                how,
                used_seconds: used.map(|used| used.as_secs()),
            };
        let mut names: Vec<NameAddress> = self.entries.into_iter().map(shown).collect();
        names.sort_unstable_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        names
    }
}
