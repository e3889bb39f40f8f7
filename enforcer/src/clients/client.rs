//! What is admitted: an address, a prefix or a station.

use std::{
    fmt::{self, Display, Formatter},
    net::IpAddr,
    str::FromStr,
};

use ipnet::IpNet;

use crate::policy::words;

/// Whom an admission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// An address, or all of a prefix.
    Net(IpNet),
    /// Whoever has this link-layer address, by whatever addresses.
    Station([u8; 6]),
}

/// A word that names no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: {1}")]
pub struct NotAClient(String, String);

impl FromStr for Client {
    type Err = NotAClient;

    fn from_str(word: &str) -> Result<Self, NotAClient> {
        const EXAMPLES: &str =
            "write an address such as 10.1.0.5, a prefix such as 10.1.0.0/24, or a MAC such as 02:00:5e:10:00:01";
        if let Some(mac) = station(word) {
            if mac == [0; 6] || mac[0] & 1 != 0 {
                let message = format!("{word:?} is no station's address, but a group's or nobody's");
                return Err(NotAClient(message, EXAMPLES.into()));
            }
            return Ok(Self::Station(mac));
        }
        let net = words::prefix(word).map_err(|(message, help)| {
            let help = if message.contains("not an address prefix") { EXAMPLES.into() } else { help };
            NotAClient(message, help)
        })?;
        let address = net.addr();
        let is_nobody = address.is_unspecified() || address == IpAddr::from([255; 4]) || address.is_multicast();
        if is_nobody && (net.prefix_len() == net.max_prefix_len() || address.is_multicast()) {
            return Err(NotAClient(format!("{word:?} is no client's address"), EXAMPLES.into()));
        }
        Ok(Self::Net(net))
    }
}

/// Six pairs of hexadecimal digits with colons or hyphens between them, or three fours with dots.
fn station(word: &str) -> Option<[u8; 6]> {
    let between = word.chars().find(|letter| [':', '-', '.'].contains(letter))?;
    let digits = if between == '.' { 4 } else { 2 };
    let parts: Vec<&str> = word.split(between).collect();
    let is_part = |part: &&str| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    if parts.len() * digits != 12 || !parts.iter().all(is_part) {
        return None;
    }
    let mac = u64::from_str_radix(&parts.concat(), 16).ok()?;
    mac.to_be_bytes()[2..].try_into().ok()
}

impl Display for Client {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Station(mac) => f.write_str(&mac.map(|byte| format!("{byte:02x}")).join(":")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read_as_they_are_written() {
        for (word, same) in [
            ("10.1.0.5", "10.1.0.5"),
            ("10.1.0.5/32", "10.1.0.5"),
            ("10.1.0.0/24", "10.1.0.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("FD00:1::2", "fd00:1::2"),
            ("fd00:1::/64", "fd00:1::/64"),
            ("02:00:5E:10:00:01", "02:00:5e:10:00:01"),
            ("02-00-5e-10-00-01", "02:00:5e:10:00:01"),
            ("0200.5e10.0001", "02:00:5e:10:00:01"),
        ] {
            let client: Client = word.parse().expect(word);
            assert_eq!(client.to_string(), same);
            assert_eq!(same.parse(), Ok(client));
        }
    }

    #[test]
    fn what_is_no_client_is_refused_with_what_would_be_one() {
        for (word, message) in [
            ("", "is not an address prefix: write an address such as"),
            ("tablet.example.org", "is a name, not an address prefix"),
            ("10.1.0.5/24", "has bits set beyond its length: the prefix is \"10.1.0.0/24\""),
            ("0.0.0.0", "is no client's address"),
            ("255.255.255.255", "is no client's address"),
            ("224.0.0.0/4", "is no client's address"),
            ("ff02::1", "is no client's address"),
            ("::ffff:10.1.0.5", "IPv4-mapped"),
            ("01:00:5e:00:00:01", "is no station's address"),
            ("00:00:00:00:00:00", "is no station's address"),
            ("02:00:5e:10:00", "is not an address prefix"),
            ("02:00:5e:10:00:1", "is not an address prefix"),
            ("+2:00:5e:10:00:01", "is not an address prefix"),
            ("0200.5e10.001", "only services have names: write an address such as"),
            ("02:00:5e:10:00:01:02", "is not an address prefix"),
        ] {
            let error = word.parse::<Client>().expect_err(word).to_string();
            assert!(error.contains(message), "{word}: {error}");
        }
    }
}
