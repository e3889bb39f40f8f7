//! A captive portal of a random policy, and who it has admitted.

use std::{fmt::Write as _, net::IpAddr};

use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    Random,
    net::{LAN4, LAN6, Net, client},
};

/// Link-layer addresses of clients; the first is that of every frame that is not given another.
pub const STATIONS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [6, 0x11, 0x22, 0x33, 0x44, 0x55]];

/// Whom an admission is for.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Addresses.
    Net(Net),
    /// A link-layer address.
    Station([u8; 6]),
}

/// Clients that are to be admitted, and those that are.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Its clients; all, if there is nothing.
    pub from: Option<Vec<Net>>,
    /// Numbers of services that they reach.
    pub services: Vec<usize>,
    reject: bool,
    /// Who is admitted, and whether that still lasts.
    pub admitted: Vec<(Who, bool)>,
}

impl Portal {
    /// One with up to two of so many services.
    pub fn random(rng: &mut Random, services: usize) -> Self {
        let from = rng.random_bool(0.7).then(|| (0..rng.random_range(1..=3)).map(|_| Net::random(rng, true)).collect());
        let mut named: Vec<usize> = (0..rng.random_range(1..=2)).map(|_| rng.random_range(0..services)).collect();
        named.sort_unstable();
        named.dedup();
        let who = |rng: &mut Random| match rng.random_range(0..4) {
            0 => Who::Station(*STATIONS.choose(rng).expect("three")),
            1 => Who::Net(Net::random(rng, true)),
            kind => {
                let (v6, whole) = (rng.random_bool(0.4), kind == 2);
                let address = client(rng, v6);
                let lan = if v6 { LAN6 } else { LAN4 }.length;
                let most = if v6 { 128 } else { 32 };
                Who::Net(Net::around(address, if whole { most } else { rng.random_range(lan + 1..=most) }))
            }
        };
        let mut admitted: Vec<(Who, bool)> = Vec::new();
        for _ in 0..rng.random_range(0..8) {
            let (who, lasts) = (who(rng), rng.random_bool(0.7));
            // What is said of one last counts.
            admitted.retain(|(other, _)| other.text() != who.text());
            admitted.push((who, lasts));
        }
        Self { from, services: named, reject: rng.random(), admitted }
    }

    /// As the product reads it.
    pub fn text(&self, nets: impl Fn(&[Net]) -> String) -> String {
        let names: Vec<String> = self.services.iter().map(|service| format!("\"s{service}\"")).collect();
        let mut text = format!("[portal]\nservices = [{}]\n", names.join(", "));
        if let Some(from) = &self.from {
            let _ = writeln!(text, "from = [{}]", nets(from));
        }
        // Rejecting is what it does if nothing is said.
        if !self.reject {
            text += "action = \"drop\"\n";
        }
        text
    }

    /// Whether a packet's sender is one of its clients.
    pub fn concerns(&self, from: IpAddr) -> bool {
        self.from.as_ref().is_none_or(|nets| nets.iter().any(|net| net.holds(from)))
    }

    /// Whether it is admitted, by one way or another.
    pub fn admits(&self, from: IpAddr, station: [u8; 6]) -> bool {
        self.admitted.iter().any(|(who, lasts)| {
            *lasts
                && match who {
                    Who::Net(net) => net.holds(from),
                    Who::Station(own) => *own == station,
                }
        })
    }
}

impl Who {
    /// As `enforcer admit` reads it.
    pub fn text(&self) -> String {
        match self {
            Self::Net(net) => format!("{}/{}", net.address, net.length),
            Self::Station(mac) => mac.map(|byte| format!("{byte:02x}")).join(":"),
        }
    }
}
