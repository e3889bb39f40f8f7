//! Names' addresses on injected time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits {
    floor: Duration::from_secs(5),
    ceiling: Duration::from_secs(50),
    grace: Duration::from_secs(2),
    idle: Duration::from_secs(20),
    lifetime: Duration::from_secs(100),
    per_name: 4,
    all: 12,
};

fn name(number: usize) -> Name {
    format!("n{number}.example").parse().unwrap()
}

fn address(number: u8) -> IpAddr {
    [203, 0, 113, number].into()
}

fn services(ids: &[u32]) -> Vec<ServiceId> {
    ids.iter().copied().map(ServiceId).collect()
}

fn unused(_: IpAddr) -> Duration {
    Duration::MAX
}

fn used(_: IpAddr) -> Duration {
    Duration::ZERO
}

#[test]
fn an_address_counts_for_its_time_and_a_grace() {
    let now = Instant::now();
    for (ttl, counts) in [(0, 7), (5, 7), (30, 32), (1_000_000, 52)] {
        let mut learned = Learned::new(LIMITS, HashSet::new());
        let of = (&name(0), &services(&[1])[..], How::Asked);
        let changes = learned.learn(of, &[(address(1), ttl)], now, &unused);
        assert_eq!(changes, [Change::Live(address(1), services(&[1]))]);
        assert_eq!(learned.sweep(now + counts * SECOND - Duration::from_millis(1), false, &unused), []);
        assert_eq!(learned.sweep(now + counts * SECOND, false, &unused), [Change::Gone(address(1))]);
        assert_eq!(learned.counts(), Counts::default());
    }
}

#[test]
fn claims_can_be_held_over_their_time() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = services(&[1]);
    learned.learn((&name(0), &of, How::Asked), &[(address(1), 10)], now, &unused);
    assert_eq!(learned.due(now + 11 * SECOND), None);
    assert_eq!(learned.due(now + 12 * SECOND), Some(&name(0)));
    assert_eq!(learned.sweep(now + 1000 * SECOND, true, &unused), []);
    assert_eq!(learned.names_of(address(1)).next(), Some(&name(0)));
    assert_eq!(learned.sweep(now + 1000 * SECOND, false, &unused), [Change::Gone(address(1))]);
}

#[test]
fn what_is_kept_counts_beyond_the_ceiling() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = services(&[1]);
    learned.learn((&name(0), &of, How::Resolved), &[(address(1), 10)], now, &unused);
    learned.learn((&name(0), &of, How::Kept), &[(address(1), 300)], now, &unused);
    assert_eq!((learned.sweep(now + 301 * SECOND, false, &unused), learned.counts().kept), (Vec::new(), 1));
    learned.learn((&name(0), &of, How::Resolved), &[(address(1), 10)], now, &unused);
    assert_eq!(learned.counts().kept, 0);
}

#[test]
fn an_address_is_one_of_the_services_of_all_its_names() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let (a, b) = (services(&[1, 2]), services(&[2, 3]));
    learned.learn((&name(0), &a, How::Asked), &[(address(1), 10)], now, &unused);
    let changes = learned.learn((&name(1), &b, How::Asked), &[(address(1), 30)], now, &unused);
    assert_eq!(changes, [Change::Live(address(1), services(&[1, 2, 3]))]);
    // A shorter answer takes nothing back.
    assert_eq!(learned.learn((&name(1), &b, How::Asked), &[(address(1), 5)], now, &unused), []);
    assert_eq!(learned.sweep(now + 12 * SECOND, false, &used), [Change::Live(address(1), services(&[2, 3]))]);
    assert_eq!(learned.sweep(now + 31 * SECOND, false, &used), []);
    assert_eq!(learned.sweep(now + 32 * SECOND, false, &used), [Change::Draining(address(1), b)]);
}

#[test]
fn what_is_used_drains_until_it_is_idle_or_old_or_known_again() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = services(&[1]);
    let learn = |learned: &mut Learned, now| learned.learn((&name(0), &of, How::Asked), &[(address(1), 5)], now, &used);
    learn(&mut learned, now);
    assert_eq!(learned.sweep(now + 7 * SECOND, false, &used), [Change::Draining(address(1), of.clone())]);
    assert_eq!(learned.entries(now).next().unwrap().left, None);
    assert_eq!(learn(&mut learned, now + 8 * SECOND), [Change::Live(address(1), of.clone())]);
    learned.sweep(now + 15 * SECOND, false, &used);
    assert_eq!(learned.sweep(now + 16 * SECOND, false, &|_| 21 * SECOND), [Change::Gone(address(1))]);
    learn(&mut learned, now + 20 * SECOND);
    learned.sweep(now + 27 * SECOND, false, &used);
    assert_eq!(learned.sweep(now + 126 * SECOND, false, &used), []);
    assert_eq!(learned.sweep(now + 127 * SECOND, false, &used), [Change::Gone(address(1))]);
}

#[test]
fn addresses_of_own_networks_are_refused() {
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = (&name(0), &services(&[1])[..], How::Asked);
    let own = ["10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "fe80::1", "fd00::1"];
    let own: Vec<_> = own.iter().map(|address| (address.parse().unwrap(), 60)).collect();
    assert_eq!(learned.learn(of, &own, Instant::now(), &unused), []);
    assert_eq!(learned.counts(), Counts { refused: 6, ..Counts::default() });
}

#[test]
fn a_names_connections_stand_when_it_has_too_many_addresses() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = (&name(0), &services(&[1])[..], How::Asked);
    let five: Vec<_> = (1..=5).map(|number| (address(number), 10 + u32::from(number))).collect();
    let changes = learned.learn(of, &five, now, &used);
    assert_eq!(changes[4..], [Change::Draining(address(1), services(&[1])), Change::Live(address(5), services(&[1]))]);
    assert_eq!(learned.counts().evicted, 1);
}

#[test]
fn room_is_made_by_what_nobody_uses() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let in_use = |address: IpAddr| if address == self::address(3) { Duration::MAX } else { Duration::ZERO };
    for number in 1..=9 {
        let of = (&name(number.into()), &services(&[1])[..], How::Asked);
        learned.learn(of, &[(address(number), u32::from(number))], now, &in_use);
    }
    let of = (&name(99), &services(&[1])[..], How::Asked);
    assert_eq!(learned.learn(of, &[(address(99), 9)], now, &in_use)[0], Change::Gone(address(3)));
}

#[derive(Clone, Debug)]
enum Step {
    Learn { name: usize, addresses: Vec<(u8, u32)> },
    Wait(u64),
    Use(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_usize, prop::collection::vec((1..12_u8, 0..80_u32), 1..6))
            .prop_map(|(name, addresses)| Step::Learn { name, addresses }),
        3 => (0..30_u64).prop_map(Step::Wait),
        2 => (1..12_u8).prop_map(Step::Use),
    ]
}

proptest! {
    #[test]
    fn an_address_is_enforced_while_a_name_claims_it_or_it_drains(steps in prop::collection::vec(step(), 1..80)) {
        let start = Instant::now();
        let mut now = start;
        let mut learned = Learned::new(LIMITS, HashSet::new());
        let mut uses: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        // What the changes say: services and whether it drains.
        let mut enforced: BTreeMap<IpAddr, (Vec<ServiceId>, bool)> = BTreeMap::new();
        let of = |name: usize| services(&[name as u32 % 3, 7 + name as u32 / 2]);
        for step in steps {
            let idle = |address: IpAddr| uses.get(&address).map_or(Duration::MAX, |last| now - *last);
            let changes = match step {
                Step::Learn { name: number, addresses } => {
                    let addresses: Vec<_> = addresses.into_iter().map(|(number, ttl)| (address(number), ttl)).collect();
                    learned.learn((&name(number), &of(number), How::Asked), &addresses, now, &idle)
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    let idle = |address: IpAddr| uses.get(&address).map_or(Duration::MAX, |last| now - *last);
                    learned.sweep(now, false, &idle)
                }
                Step::Use(number) => {
                    if enforced.contains_key(&address(number)) {
                        uses.insert(address(number), now);
                    }
                    Vec::new()
                }
            };
            for change in changes {
                match change {
                    Change::Live(address, services) => { enforced.insert(address, (services, false)); }
                    Change::Draining(address, services) => {
                        prop_assert!(uses.get(&address).is_some_and(|last| now - *last <= LIMITS.idle));
                        enforced.insert(address, (services, true));
                    }
                    Change::Gone(address) => prop_assert!(enforced.remove(&address).is_some(), "{} was not there", address),
                }
            }
            let entries: Vec<Entry> = learned.entries(now).collect();
            prop_assert!(entries.len() <= LIMITS.all);
            let mut claimed: BTreeMap<IpAddr, BTreeSet<ServiceId>> = BTreeMap::new();
            let mut per_name: BTreeMap<&Name, usize> = BTreeMap::new();
            for entry in &entries {
                if entry.left.is_some() {
                    claimed.entry(entry.address).or_default().extend(&entry.services);
                    *per_name.entry(&entry.name).or_default() += 1;
                }
            }
            prop_assert!(per_name.values().all(|count| *count <= LIMITS.per_name));
            let live: BTreeMap<IpAddr, BTreeSet<ServiceId>> = enforced.iter().filter(|(_, (_, draining))| !draining)
                .map(|(address, (services, _))| (*address, services.iter().copied().collect())).collect();
            prop_assert_eq!(&live, &claimed);
            let draining: BTreeSet<IpAddr> = entries.iter().filter(|entry| entry.left.is_none()).map(|entry| entry.address).collect();
            prop_assert_eq!(draining, enforced.iter().filter(|(_, (_, draining))| *draining).map(|(address, _)| *address).collect());
        }
        now += Duration::from_secs(1000);
        learned.sweep(now, false, &unused);
        prop_assert_eq!(learned.entries(now).count(), 0);
    }
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn it_keeps_up_with_a_flood_of_answers() {
        const COUNT: u32 = 200_000;
        let start = Instant::now();
        let mut learned = Learned::new(Limits { per_name: 512, all: 65_536, ..LIMITS }, HashSet::new());
        let of = services(&[1]);
        let mut changes = 0;
        for number in 0..COUNT {
            let name = format!("n{}.example", number / 4).parse().unwrap();
            let address = std::net::Ipv4Addr::from_bits(0x1100_0000 + number).into();
            changes += learned.learn((&name, &of, How::Asked), &[(address, 60)], start, &unused).len();
        }
        let rate = f64::from(COUNT) / start.elapsed().as_secs_f64();
        println!("{rate:.0} addresses a second, three in four of them in place of another");
        assert_eq!(changes as u32, 2 * COUNT - 49_152);
        // Without optimisation, it takes ten times as long.
        let least = if cfg!(debug_assertions) { 10_000.0 } else { 50_000.0 };
        assert!(rate > least, "{rate:.0} addresses a second");
    }
}

#[test]
fn a_flood_of_names_takes_nothing_from_the_policys_own_names_nor_from_what_is_used() {
    let now = Instant::now();
    let mut learned = Learned::new(Limits { all: 64, ..LIMITS }, HashSet::from([name(0)]));
    let of = services(&[1]);
    learned.learn((&name(0), &of, How::Resolved), &[(address(200), 5)], now, &unused);
    learned.learn((&name(1), &of, How::Asked), &[(address(201), 5)], now, &unused);
    let idle = |at: IpAddr| if at == address(201) { Duration::ZERO } else { Duration::MAX };
    for number in 2..1000 {
        // One address for all names costs as much as one for each.
        learned.learn((&name(number), &of, How::Asked), &[(address(number as u8 % 100), 50)], now, &idle);
    }
    assert_eq!(learned.names_of(address(200)).count(), 1, "it is the policy's own");
    assert_eq!(learned.names_of(address(201)).count(), 1, "it is used");
    assert_eq!(learned.entries(now).count(), 48);
    // What drains, as it was used, goes on beside a flood.
    learned.sweep(now + 7 * SECOND, false, &idle);
    for number in 1000..2000 {
        learned.learn((&name(number), &of, How::Asked), &[(address(number as u8 % 100), 50)], now, &idle);
    }
    assert_eq!(learned.entries(now).find(|entry| entry.left.is_none()).map(|entry| entry.address), Some(address(201)));
}

#[test]
fn where_all_addresses_are_used_their_connections_stand() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = services(&[1]);
    let mut changes = Vec::new();
    for number in 1..=10 {
        changes = learned.learn((&name(number), &of, How::Asked), &[(address(number as u8), 50)], now, &used);
    }
    assert_eq!(changes, [Change::Draining(address(1), of.clone()), Change::Live(address(10), of)]);
}

#[test]
fn what_drained_before_the_last_start_drains_again() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    let of = services(&[1]);
    let end = now + 30 * SECOND;
    assert_eq!(learned.drain_again(&name(0), &of, address(1), end), [Change::Draining(address(1), of.clone())]);
    assert_eq!(learned.drain_again(&name(0), &of, "10.0.0.1".parse().unwrap(), end), []);
    assert_eq!(learned.sweep(end, false, &used), [Change::Gone(address(1))]);
    learned.learn((&name(0), &of, How::Asked), &[(address(2), 50)], now, &used);
    assert_eq!(learned.drain_again(&name(1), &of, address(2), end), [], "it is known");
}

#[test]
fn under_another_policy_names_keep_their_addresses_and_times_for_its_services() {
    let now = Instant::now();
    let mut learned = Learned::new(LIMITS, HashSet::new());
    for (number, ttl) in [(0, 10), (1, 20), (2, 30)] {
        let of = services(&[number as u32]);
        learned.learn((&name(number), &of, How::Asked), &[(address(number as u8), ttl)], now, &unused);
    }
    assert_eq!(learned.sweep(now + 12 * SECOND, false, &used), [Change::Draining(address(0), services(&[0]))]);
    // The first two names are of the fifth service there, the third one is of none.
    let of = |asked: &Name| if *asked == name(2) { Vec::new() } else { services(&[5]) };
    let (mut next, changes) = learned.under(LIMITS, HashSet::new(), of, now + 12 * SECOND);
    assert_eq!(changes, [Change::Live(address(1), services(&[5])), Change::Draining(address(0), services(&[5]))]);
    assert_eq!((next.until(&name(1), address(1)), next.until(&name(2), address(2))), (Some(now + 22 * SECOND), None));
    let counts = next.counts();
    assert_eq!((counts.names, counts.addresses, counts.draining, counts.evicted), (1, 1, 1, 0));
    assert_eq!(next.sweep(now + 22 * SECOND, false, &unused), [Change::Gone(address(1)), Change::Gone(address(0))]);
}
