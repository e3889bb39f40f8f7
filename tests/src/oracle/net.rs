//! Prefixes, and the LAN that the tables of a test run know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::Random;

/// A prefix as the oracle sees it.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// First address.
    pub address: IpAddr,
    /// Length.
    pub length: u8,
}

/// Clients' addresses are in these.
pub const LAN4: Net = Net { address: IpAddr::V4(Ipv4Addr::new(10, 1, 0, 0)), length: 24 };
/// The same of IPv6.
pub const LAN6: Net = Net { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0)), length: 64 };
/// The gateway's own.
pub const OWN4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
/// The same of IPv6.
pub const OWN6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1));
/// To everybody on the LAN.
pub const BROADCAST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 255));

/// Whether an address is the gateway's.
pub fn is_own(address: IpAddr) -> bool {
    address == OWN4 || address == OWN6
}

/// Whether an address is in the LAN's prefixes.
pub fn in_lan(address: IpAddr) -> bool {
    LAN4.holds(address) || LAN6.holds(address)
}

/// A client's address.
pub fn client(rng: &mut Random, v6: bool) -> IpAddr {
    loop {
        let near = if v6 { LAN6 } else { LAN4 }.near(rng);
        if in_lan(near) && !is_own(near) && near != BROADCAST {
            return near;
        }
    }
}

impl Net {
    /// Whether an address lies in it: bit by bit.
    pub fn holds(&self, address: IpAddr) -> bool {
        let equal = |a: &[u8], b: &[u8]| {
            (0..usize::from(self.length)).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => equal(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => equal(&a.octets(), &b.octets()),
            _ => false,
        }
    }

    /// Its last address.
    fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(self.length.into()).unwrap_or(0)).into()
            }
            IpAddr::V6(address) => {
                Ipv6Addr::from(u128::from(address) | u128::MAX.checked_shr(self.length.into()).unwrap_or(0)).into()
            }
        }
    }

    /// An address at one of its edges, inside or just outside, or somewhere within.
    pub fn near(&self, rng: &mut Random) -> IpAddr {
        let step = |address: IpAddr, by: u32| -> IpAddr {
            match address {
                IpAddr::V4(a) => Ipv4Addr::from(u32::from(a).wrapping_add(by)).into(),
                IpAddr::V6(a) => Ipv6Addr::from(u128::from(a).wrapping_add_signed(by.cast_signed().into())).into(),
            }
        };
        match rng.random_range(0..6) {
            0 => self.address,
            1 => self.last(),
            2 => step(self.address, u32::MAX),
            3 => step(self.last(), 1),
            _ => match (self.address, self.last()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    Ipv4Addr::from(rng.random_range(u32::from(first)..=u32::from(last))).into()
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    Ipv6Addr::from(rng.random_range(u128::from(first)..=u128::from(last))).into()
                }
                _ => unreachable!("both are of one family"),
            },
        }
    }

    /// A prefix of the LAN or of the internet. There are few distinct bits, so that prefixes nest and touch.
    pub fn random(rng: &mut Random, lan: bool) -> Self {
        let v6 = rng.random_bool(0.4);
        let (address, lengths): (u128, &[u8]) = match (v6, lan) {
            (false, true) => (0x0a01_0000 | u128::from(rng.random::<u8>()), &[0, 8, 23, 24, 25, 27, 30, 31, 32]),
            (true, true) => {
                (0xfd00_0001_u128 << 96 | u128::from(rng.random::<u8>()), &[0, 16, 32, 63, 64, 65, 96, 120, 127, 128])
            }
            (false, false) => {
                (u128::from(u32::from(internet4(rng))), &[0, 7, 8, 9, 15, 16, 17, 20, 23, 24, 25, 28, 31, 32, 32])
            }
            (true, false) => (
                internet6(rng).into(),
                &[0, 3, 16, 17, 24, 28, 32, 40, 44, 48, 56, 60, 63, 64, 65, 80, 112, 127, 128, 128],
            ),
        };
        let address: IpAddr = if v6 { Ipv6Addr::from(address).into() } else { Ipv4Addr::from(address as u32).into() };
        Self::around(address, *lengths.choose(rng).expect("some"))
    }

    /// The prefix of a length that an address is in.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let address = match address {
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                Ipv6Addr::from(u128::from(address) & mask).into()
            }
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & mask).into()
            }
        };
        Self { address, length }
    }
}

/// An address that random prefixes of the internet lie near.
pub fn internet4(rng: &mut Random) -> Ipv4Addr {
    let base = *[0x1100_0000, 0x11f9_8000, 0xcb00_7100_u32].choose(rng).expect("three");
    Ipv4Addr::from(base ^ rng.random::<u32>() & 0x0101_83ff)
}

/// The same of IPv6.
pub fn internet6(rng: &mut Random) -> Ipv6Addr {
    let noise = rng.random::<u128>() & 0x0001_0003_0100_00ff_0000_0000_0000_03ff;
    Ipv6Addr::from(0x2620_0149_0a44_0000_u128 << 64 ^ noise)
}
