//! What the tables say of sources and destinations, from made-up networks.

use enforcer_ebpf::{
    abi::{NET_BLOCKS, NET_WORDS, Net, Verdict, place},
    classify,
};
use ipnet::IpNet;

use super::{
    Facts, NetImage,
    facts::{Address, Interface, Route},
    image::Words,
};

const WORDS: Words = Words { strict_sources: true, replies: false, pseudo: [Verdict(0); 16] };

/// A gateway with `lan0` (2) and `wan0` (3), and what else a test adds.
fn facts() -> Facts {
    let interface =
        |index, name: &str| Interface { index, name: name.into(), master: None, joins: false, layer3: false };
    let mut facts = Facts { interfaces: vec![interface(2, "lan0"), interface(3, "wan0")], ..Facts::default() };
    add_address(&mut facts, 2, "10.1.0.1/24", true);
    add_address(&mut facts, 2, "fd00:1::1/64", true);
    add_address(&mut facts, 3, "198.51.100.1/24", true);
    facts
}

/// An address, with the route that the kernel makes of it.
fn add_address(facts: &mut Facts, interface: u32, net: &str, permanent: bool) {
    let net: IpNet = net.parse().expect("a prefix");
    let broadcast = net.addr().is_ipv4().then(|| net.broadcast());
    facts.addresses.push(Address { interface, net, broadcast, permanent });
    facts.routes.push(Route { to: net.trunc(), interface });
}

fn add_route(facts: &mut Facts, to: &str, interface: u32) {
    facts.routes.push(Route { to: to.parse().expect("a prefix"), interface });
}

fn image(facts: &Facts) -> NetImage {
    NetImage::new(facts, &["lan0".into()], &["wan0".into()], WORDS).expect("one LAN")
}

/// Place of an address, with the `PLACES6` map's word where the trie asks for it.
fn place_of(image: &NetImage, net: &Net, address: &str) -> u32 {
    let word = |index: u32| Some(net.words[index as usize & (NET_WORDS - 1)]);
    match address.parse().expect("an address") {
        std::net::IpAddr::V4(address) => {
            let address = u32::from(address);
            classify::walk4(net.place4[(address >> 16) as usize], address, word).expect("complete")
        }
        std::net::IpAddr::V6(address) => {
            let bits = u128::from(address);
            let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
            let found = classify::walk6(net.place6[(words[0] >> 16) as usize], &words, word).expect("complete");
            let longest = image
                .long6()
                .filter(|(prefix, length, _)| (prefix ^ bits) >> (128 - length) == 0)
                .max_by_key(|(_, length, _)| *length);
            if found & place::BELOW != 0 { longest.map_or(found, |(.., place)| place) } else { found }
        }
    }
}

fn places(facts: &Facts, addresses: &[&str]) -> Vec<u32> {
    let image = image(facts);
    let net = image.at(0, NET_BLOCKS).expect("room");
    addresses.iter().map(|address| place_of(&image, &net, address)).collect()
}

const FLAGS: u32 = place::ZONE | place::LOCAL | place::OWN | place::LINK_LOCAL;

#[test]
fn clients_own_addresses_and_the_rest_of_the_world_are_told_apart() {
    let addresses = ["10.1.0.2", "10.1.0.1", "10.1.0.255", "198.51.100.1", "198.51.100.2", "17.1.2.3", "fd00:1::2"];
    let found: Vec<u32> = places(&facts(), &addresses).iter().map(|place| place & FLAGS).collect();
    let (lan, own) = (1 | place::LOCAL, place::OWN);
    assert_eq!(found, [lan, own | place::LOCAL, place::LOCAL, own, 0, 0, lan]);
}

#[test]
fn a_routed_lan_is_a_source_of_its_zone_but_not_local() {
    let mut facts = facts();
    add_route(&mut facts, "10.7.0.0/16", 2);
    add_route(&mut facts, "10.7.9.0/24", 3);
    assert_eq!(places(&facts, &["10.7.1.1", "10.7.9.1", "10.8.0.1"]), [1, 0, 0]);
}

#[test]
fn what_a_router_advertisement_brought_is_not_local() {
    let mut facts = facts();
    add_address(&mut facts, 2, "2001:db8:5::1/64", false);
    let found = places(&facts, &["2001:db8:5::77"]);
    assert_eq!(found[0] & FLAGS, 1);
}

#[test]
fn the_ports_of_a_bridge_share_its_zone() {
    let mut facts = facts();
    facts.interfaces[0].joins = true;
    for (index, name) in [(5, "port1"), (6, "port2")] {
        facts.interfaces.push(Interface { index, name: name.into(), master: Some(2), joins: false, layer3: false });
    }
    let lans = ["port1".to_owned(), "port2".to_owned()];
    let net = NetImage::new(&facts, &lans, &[], WORDS).expect("one LAN").at(0, NET_BLOCKS).expect("room");
    assert_eq!([5, 6, 2, 3].map(|index: usize| net.interfaces[index].zone), [1, 1, 1, 0]);
}

#[test]
fn the_routes_of_a_whole_internet_by_way_of_the_wan_take_no_memory() {
    let mut facts = facts();
    for n in 0..100_000_u32 {
        let net = std::net::Ipv4Addr::from(0x1000_0000 + (n << 8));
        add_route(&mut facts, &format!("{net}/24"), 3);
    }
    assert!(image(&facts).at(0, 16).is_ok());
    assert_eq!(places(&facts, &["16.0.1.1", "10.1.0.2"]), [0, 1 | place::LOCAL]);
}
