//! Who is admitted until when, by the wall's clock, which is handed in.

use std::collections::BTreeMap;

use enforcer_ebpf::abi::ADMISSIONS;
use ipnet::IpNet;
use jiff::Timestamp;

use super::Client;

/// So many at a time.
pub const MOST: usize = ADMISSIONS as usize;

/// There is no room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MOST} clients are admitted, which is as many as can be: expel some (`enforcer clients` lists them), or admit a prefix in the place of its addresses"
)]
pub struct Full;

/// All admissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admissions {
    until: BTreeMap<Client, Timestamp>,
}

impl Admissions {
    /// Those of these that have not ended at a time.
    #[must_use]
    pub fn of(admitted: impl IntoIterator<Item = (Client, Timestamp)>, now: Timestamp) -> Self {
        Self { until: admitted.into_iter().filter(|(_, until)| *until > now).take(MOST).collect() }
    }

    /// Admits a client until a time, whatever was said of it before.
    ///
    /// # Errors
    /// If there are too many others.
    pub fn admit(&mut self, client: Client, until: Timestamp) -> Result<(), Full> {
        if self.until.len() >= MOST && !self.until.contains_key(&client) {
            return Err(Full);
        }
        self.until.insert(client, until);
        Ok(())
    }

    /// Takes a client's admission back; whether it had one. One that it has as part of a prefix, or as a station, stays.
    pub fn expel(&mut self, client: Client) -> bool {
        self.until.remove(&client).is_some()
    }

    /// Removes and gives those that have ended.
    pub fn end(&mut self, now: Timestamp) -> Vec<Client> {
        self.until.extract_if(.., |_, until| *until <= now).map(|(client, _)| client).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.until.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Client, Timestamp)> {
        self.until.iter().map(|(client, until)| (*client, *until))
    }

    /// The prefixes that an address or prefix is admitted as part of.
    pub fn around(&self, inner: IpNet) -> impl Iterator<Item = (IpNet, Timestamp)> {
        let outer = move |length| Some(IpNet::new(inner.addr(), length).ok()?.trunc());
        let outer = (0..inner.prefix_len()).rev().filter_map(outer);
        outer.filter_map(|net| Some((net, *self.until.get(&Client::Net(net))?)))
    }

    /// Until when a client is admitted; a prefix at least as long as those that it is part of, as the kernel asks the longest alone.
    #[must_use]
    pub fn lasts(&self, client: Client) -> Option<Timestamp> {
        let own = self.until.get(&client).copied()?;
        let prefix = match client {
            Client::Net(net) if net.prefix_len() < net.max_prefix_len() => net,
            _ => return Some(own),
        };
        self.around(prefix).map(|(_, until)| until).chain([own]).max()
    }

    /// A client and, if it is a prefix, those within it: of these, [`Self::lasts`] may say something else when it changes.
    #[must_use]
    pub fn touched(&self, client: Client) -> Vec<Client> {
        let within = |other: &&Client| match (client, other) {
            (Client::Net(outer), Client::Net(inner)) => {
                outer != *inner && inner.prefix_len() < inner.max_prefix_len() && outer.contains(inner)
            }
            _ => false,
        };
        [client].into_iter().chain(self.until.keys().filter(within).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn client(word: &str) -> Client {
        word.parse().expect("a client")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn an_admission_lasts_until_its_time_or_until_it_is_taken_back() {
        let mut admissions = Admissions::default();
        admissions.admit(client("10.1.0.5"), at(10)).expect("room");
        admissions.admit(client("02:00:00:00:00:01"), at(20)).expect("room");
        assert_eq!(admissions.end(at(9)), []);
        assert_eq!(admissions.end(at(10)), [client("10.1.0.5")]);
        assert!(!admissions.expel(client("10.1.0.5")));
        assert!(admissions.expel(client("02:00:00:00:00:01")));
        assert_eq!(admissions.count(), 0);
    }

    #[test]
    fn what_is_admitted_again_lasts_as_was_said_last() {
        let mut admissions = Admissions::default();
        for until in [30, 20] {
            admissions.admit(client("fd00::5"), at(until)).expect("room");
            assert_eq!(admissions.lasts(client("fd00::5")), Some(at(until)));
        }
    }

    #[test]
    fn a_prefix_within_another_lasts_as_long_as_that() {
        let mut admissions = Admissions::default();
        admissions.admit(client("10.1.0.0/16"), at(20)).expect("room");
        admissions.admit(client("10.1.2.0/24"), at(10)).expect("room");
        assert_eq!(admissions.lasts(client("10.1.2.0/24")), Some(at(20)));
        assert_eq!(admissions.touched(client("10.1.0.0/16")), [client("10.1.0.0/16"), client("10.1.2.0/24")]);
        admissions.expel(client("10.1.0.0/16"));
        assert_eq!(admissions.touched(client("10.1.0.0/16")), [client("10.1.0.0/16"), client("10.1.2.0/24")]);
        assert_eq!(admissions.lasts(client("10.1.2.0/24")), Some(at(10)));
        assert_eq!(admissions.lasts(client("10.1.0.0/16")), None);
        // Addresses are asked for by themselves.
        admissions.admit(client("10.1.2.3"), at(5)).expect("room");
        assert_eq!(admissions.touched(client("10.1.2.0/24")), [client("10.1.2.0/24")]);
        assert_eq!(admissions.lasts(client("10.1.2.3")), Some(at(5)));
        let around: Vec<_> = admissions.around("10.1.2.3/32".parse().expect("a prefix")).collect();
        assert_eq!(around, [("10.1.2.0/24".parse().expect("a prefix"), at(10))]);
    }

    #[test]
    fn when_all_places_are_taken_nobody_else_comes_in() {
        let mut admissions = Admissions::default();
        for number in 0..MOST as u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            admissions.admit(Client::Net(std::net::IpAddr::from(address).into()), at(10)).expect("room");
        }
        assert_eq!(admissions.admit(client("02:00:00:00:00:01"), at(10)), Err(Full));
        admissions.admit(client("10.0.0.1"), at(11)).expect("it is there already");
        admissions.expel(client("10.0.0.2"));
        admissions.admit(client("02:00:00:00:00:01"), at(10)).expect("there is room again");
    }
}
