//! Who is admitted until when, by clocks that are handed in.

use std::collections::BTreeMap;

use enforcer_ebpf::abi::ADMISSIONS;
use ipnet::IpNet;
use jiff::Timestamp;

use super::{Client, Clock};

/// So many at a time.
pub const MOST: usize = ADMISSIONS as usize;

/// There is no room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MOST} clients are admitted, which is as many as can be: expel some (`enforcer clients` lists them), or admit a prefix in the place of its addresses"
)]
pub struct Full;

/// When an admission ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// In nanoseconds of the kernel's monotonic clock.
    pub end: u64,
    /// By the wall's clock, if it is of an earlier boot. Then it ends by that, if that is earlier: the clock may be set
    /// right only after the start, as on a router that has none of its own.
    pub until: Option<Timestamp>,
}

impl Admission {
    /// When it ends by the wall's clock.
    #[must_use]
    pub fn ends_at(&self, clock: &Clock) -> Timestamp {
        clock.to_wall(self.end)
    }
}

/// All admissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    by_client: BTreeMap<Client, Admission>,
}

impl Admissions {
    /// Those of these that have not ended at a time of the kernel's clock.
    #[must_use]
    pub fn of(admitted: impl IntoIterator<Item = (Client, Admission)>, now: u64) -> Self {
        Self { by_client: admitted.into_iter().filter(|(_, admission)| admission.end > now).take(MOST).collect() }
    }

    /// Admits a client until a time of the kernel's clock, whatever was said of it before.
    ///
    /// # Errors
    /// If there are too many others.
    pub fn admit(&mut self, client: Client, end: u64) -> Result<(), Full> {
        if self.by_client.len() >= MOST && !self.by_client.contains_key(&client) {
            return Err(Full);
        }
        self.by_client.insert(client, Admission { end, until: None });
        Ok(())
    }

    /// Takes a client's admission back; whether it had one. One that it has as part of a prefix, or as a station, stays.
    pub fn expel(&mut self, client: Client) -> bool {
        self.by_client.remove(&client).is_some()
    }

    /// Removes and gives those that have ended at a time of the kernel's clock.
    pub fn end(&mut self, now: u64) -> Vec<Client> {
        self.by_client.extract_if(.., |_, admission| admission.end <= now).map(|(client, _)| client).collect()
    }

    /// Takes the word of a wall's clock that was set, for those of earlier boots. One that is behind
    /// prolongs none.
    pub fn follow(&mut self, clock: &Clock) {
        for admission in self.by_client.values_mut() {
            if let Some(until) = admission.until {
                admission.end = admission.end.min(clock.to_monotonic(until));
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_client.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Client, Admission)> {
        self.by_client.iter().map(|(client, admission)| (*client, *admission))
    }

    /// The prefixes that an address or prefix is admitted as part of, and when that ends by the kernel's clock.
    pub fn around(&self, inner: IpNet) -> impl Iterator<Item = (IpNet, u64)> {
        let outer = move |length| Some(IpNet::new(inner.addr(), length).ok()?.trunc());
        let outer = (0..inner.prefix_len()).rev().filter_map(outer);
        outer.filter_map(|net| Some((net, self.by_client.get(&Client::Net(net))?.end)))
    }

    /// Until when by the kernel's clock a client is admitted; a prefix at least as long as those that it is part of, as
    /// the kernel asks the longest alone.
    #[must_use]
    pub fn lasts(&self, client: Client) -> Option<u64> {
        let own = self.by_client.get(&client)?.end;
        let prefix = match client {
            Client::Net(net) if net.prefix_len() < net.max_prefix_len() => net,
            _ => return Some(own),
        };
        self.around(prefix).map(|(_, end)| end).chain([own]).max()
    }

    /// A client and, if it is a prefix, those within it: of these, [`Self::lasts`] may say something else when it changes.
    #[must_use]
    pub fn touched(&self, client: Client) -> Vec<Client> {
        let outer = match client {
            Client::Net(net) if net.prefix_len() < net.max_prefix_len() => net,
            _ => return vec![client],
        };
        // They are in order of their first address, and then of their length.
        let last = Client::Net(outer.broadcast().into());
        let is_prefix = |net: &IpNet| *net != outer && net.prefix_len() < net.max_prefix_len();
        let within = self.by_client.range(client..=last).map(|(inner, _)| *inner);
        let within = within.filter(|inner| matches!(inner, Client::Net(net) if is_prefix(net)));
        [client].into_iter().chain(within).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(word: &str) -> Client {
        word.parse().expect("a client")
    }

    #[test]
    fn an_admission_lasts_until_its_time_or_until_it_is_taken_back() {
        let mut admissions = Admissions::default();
        admissions.admit(client("10.1.0.5"), 10).expect("room");
        admissions.admit(client("02:00:00:00:00:01"), 20).expect("room");
        assert_eq!(admissions.end(9), []);
        assert_eq!(admissions.end(10), [client("10.1.0.5")]);
        assert!(!admissions.expel(client("10.1.0.5")));
        assert!(admissions.expel(client("02:00:00:00:00:01")));
        assert_eq!(admissions.count(), 0);
    }

    #[test]
    fn what_is_admitted_again_lasts_as_was_said_last() {
        let mut admissions = Admissions::default();
        for until in [30, 20] {
            admissions.admit(client("fd00::5"), until).expect("room");
            assert_eq!(admissions.lasts(client("fd00::5")), Some(until));
        }
    }

    #[test]
    fn a_prefix_within_another_lasts_as_long_as_that() {
        let mut admissions = Admissions::default();
        admissions.admit(client("10.1.0.0/16"), 20).expect("room");
        admissions.admit(client("10.1.2.0/24"), 10).expect("room");
        assert_eq!(admissions.lasts(client("10.1.2.0/24")), Some(20));
        assert_eq!(admissions.touched(client("10.1.0.0/16")), [client("10.1.0.0/16"), client("10.1.2.0/24")]);
        admissions.expel(client("10.1.0.0/16"));
        assert_eq!(admissions.touched(client("10.1.0.0/16")), [client("10.1.0.0/16"), client("10.1.2.0/24")]);
        assert_eq!(admissions.lasts(client("10.1.2.0/24")), Some(10));
        assert_eq!(admissions.lasts(client("10.1.0.0/16")), None);
        // Addresses are asked for by themselves.
        admissions.admit(client("10.1.2.3"), 5).expect("room");
        assert_eq!(admissions.touched(client("10.1.2.0/24")), [client("10.1.2.0/24")]);
        assert_eq!(admissions.lasts(client("10.1.2.3")), Some(5));
        let around: Vec<_> = admissions.around("10.1.2.3/32".parse().expect("a prefix")).collect();
        assert_eq!(around, [("10.1.2.0/24".parse().expect("a prefix"), 10)]);
    }

    #[test]
    fn when_all_places_are_taken_nobody_else_comes_in() {
        let mut admissions = Admissions::default();
        for number in 0..MOST as u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            admissions.admit(Client::Net(std::net::IpAddr::from(address).into()), 10).expect("room");
        }
        assert_eq!(admissions.admit(client("02:00:00:00:00:01"), 10), Err(Full));
        admissions.admit(client("10.0.0.1"), 11).expect("it is there already");
        admissions.expel(client("10.0.0.2"));
        admissions.admit(client("02:00:00:00:00:01"), 10).expect("there is room again");
    }

    #[test]
    fn a_prefix_touches_those_within_it_alone() {
        let mut admissions = Admissions::default();
        for word in [
            "10.0.0.0/15",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "10.1.0.0",
            "10.1.255.0/24",
            "10.1.255.255",
            "10.2.0.0/16",
            "fd00::/32",
            "fd00:1::/32",
            "fd00:1::/64",
            "fd00:1:ffff::/48",
            "fd00:2::/64",
            "02:00:00:00:00:01",
        ] {
            admissions.admit(client(word), 10).expect("room");
        }
        for (outer, inner) in [
            ("10.1.0.0/16", &["10.1.0.0/24", "10.1.255.0/24"][..]),
            ("fd00:1::/32", &["fd00:1::/64", "fd00:1:ffff::/48"]),
            ("10.1.0.0", &[]),
            ("fd00:2::/64", &[]),
            ("02:00:00:00:00:01", &[]),
            ("::/0", &["fd00::/32", "fd00:1::/32", "fd00:1::/64", "fd00:1:ffff::/48", "fd00:2::/64"]),
        ] {
            let touched = [outer].iter().chain(inner).map(|word| client(word)).collect::<Vec<_>>();
            assert_eq!(admissions.touched(client(outer)), touched, "{outer}");
        }
    }

    #[test]
    fn the_walls_clock_ends_admissions_of_earlier_boots_and_prolongs_none() {
        const SECOND: u64 = 1_000_000_000;
        let at = |second| Timestamp::from_second(second).expect("a time");
        let (restored, own) = (client("10.1.0.5"), client("10.1.0.6"));
        let mut admissions = Admissions::of([(restored, Admission { end: 500 * SECOND, until: Some(at(1_400)) })], 0);
        admissions.admit(own, 500 * SECOND).expect("room");
        let mut ends = |wall| {
            admissions.follow(&Clock { wall: at(wall), monotonic: 100 * SECOND });
            [restored, own].map(|client| admissions.lasts(client).expect("it is there") / SECOND)
        };
        assert_eq!(ends(0), [500, 500]);
        assert_eq!(ends(1_300), [200, 500]);
        assert_eq!(ends(1_200), [200, 500]);
        assert_eq!(ends(1_400), [0, 500]);
    }
}
