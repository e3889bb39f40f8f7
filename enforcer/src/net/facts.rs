//! Interfaces, addresses and routes as plain data.

use std::net::IpAddr;

use ipnet::IpNet;

/// A network namespace's interfaces, addresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// By index, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// Main-table routes but the default ones, one entry per next hop.
    pub routes: Vec<Route>,
    /// What the kernel takes for itself by the local or the main table: addresses, local prefixes, broadcast and anycast addresses.
    pub own: Vec<IpNet>,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Kernel index.
    pub index: u32,
    /// Current name.
    pub name: String,
    /// Bridge, bond or team that it is a port of.
    pub master: Option<u32>,
    /// Whether it joins its ports into one link (bridge, bond, team).
    pub joins: bool,
    /// Whether its frames have no link-layer header.
    pub layer3: bool,
    /// Its link-layer address, where it has one of six bytes; else zeros.
    pub mac: [u8; 6],
    /// The interface whose frames it takes a part of (VLAN, macvlan, ipvlan).
    pub carrier: Option<u32>,
    /// Number of the XDP program that is on it.
    pub xdp: Option<u32>,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Interface index.
    pub interface: u32,
    /// The gateway's own address.
    pub own: IpAddr,
    /// What it reaches there: around its own address, or on a point-to-point link around the other end's.
    pub net: IpNet,
    /// Directed broadcast (IPv4).
    pub broadcast: Option<IpAddr>,
    /// Learned from a router advertisement.
    pub advertised: bool,
}

/// Where a prefix leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination, never a /0.
    pub to: IpNet,
    /// Output interface; none where it ends (blackhole, unreachable, prohibit, throw).
    pub interface: Option<u32>,
    /// Of several routes to one prefix, the kernel takes that of the smallest (`RTA_PRIORITY`).
    pub metric: u32,
}

impl Facts {
    /// An interface by name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// The ports of a bridge, bond or team.
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(move |port| port.master == Some(index))
    }

    /// An interface by index.
    #[must_use]
    pub fn indexed(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// The link that an interface belongs to: its bridge or bond, or itself.
    #[must_use]
    pub fn link_of(&self, interface: &Interface) -> u32 {
        interface
            .master
            .filter(|&master| self.indexed(master).is_some_and(|master| master.joins))
            .unwrap_or(interface.index)
    }
}
