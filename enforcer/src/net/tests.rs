//! What the tables say of sources and destinations, from made-up networks.

use std::net::Ipv4Addr;

use enforcer_ebpf::{
    abi::{NET_BLOCKS, NET_WORDS, Net, Verdict, is_in_run, place, run_of},
    address::{Address as _, host_bit},
    classify,
    verdict::{Origin, is_plain_source},
};
use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use super::{
    Facts, NetImage,
    facts::{Address, Interface, Route},
    image::{NetError, Roles, Words, problems},
};

const WORDS: Words = Words { strict_sources: true, replies: false, timeouts: [0; 8], pseudo: [Verdict(0); 16] };

/// A gateway with `lan0` (2) and `wan0` (3), and what else a test adds.
fn facts() -> Facts {
    let interface = |index, name: &str| Interface { index, name: name.into(), ..Interface::default() };
    let mut facts = Facts { interfaces: vec![interface(2, "lan0"), interface(3, "wan0")], ..Facts::default() };
    add_address(&mut facts, 2, "10.1.0.1/24");
    add_address(&mut facts, 2, "fd00:1::1/64");
    add_address(&mut facts, 3, "198.51.100.1/24");
    facts
}

/// An address, with the route that the kernel makes of it.
fn add_address(facts: &mut Facts, interface: u32, net: &str) {
    let net: IpNet = net.parse().expect("a prefix");
    let broadcast = net.addr().is_ipv4().then(|| net.broadcast());
    let (own, net) = (net.addr(), net.trunc());
    facts.addresses.push(Address { interface, own, net, broadcast, advertised: false });
    facts.routes.push(Route { to: net, interface: Some(interface), metric: 0 });
}

fn add_route(facts: &mut Facts, to: &str, interface: u32) {
    add_route_of(facts, to, Some(interface), 0);
}

fn add_route_of(facts: &mut Facts, to: &str, interface: Option<u32>, metric: u32) {
    facts.routes.push(Route { to: to.parse().expect("a prefix"), interface, metric });
}

fn roles(lans: &[u32]) -> Roles {
    Roles { lans: lans.to_vec(), wans: vec![3] }
}

fn image(facts: &Facts) -> NetImage {
    NetImage::new(facts, &roles(&[2]), WORDS).expect("one LAN")
}

/// Place of an address, with the `PLACES6` map's word where the trie asks for it.
fn place_of(image: &NetImage, net: &Net, address: &str) -> u32 {
    let word = |index: u32| Some(net.words[index as usize & (NET_WORDS - 1)]);
    match address.parse().expect("an address") {
        std::net::IpAddr::V4(address) => {
            let address = u32::from(address);
            classify::walk4(net.place4[(address >> 16) as usize], address, &word).expect("complete")
        }
        std::net::IpAddr::V6(address) => {
            let bits = u128::from(address);
            let words = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
            let found = classify::walk6(net.place6[(words[0] >> 16) as usize], &words, &word).expect("complete");
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
    assert_eq!(found, [lan, own, place::LOCAL, own, 0, 0, lan]);
    // Sources are asked of in another way than destinations.
    let image = image(&facts());
    let net = image.at(0, NET_BLOCKS).expect("room");
    let bit = |address: u128| {
        let bit = host_bit(&[96, 64, 32, 0].map(|shift| (address >> shift) as u32));
        net.hosts6[bit / 32] >> (bit % 32) & 1
    };
    assert_eq!((bit(0xfd00_0001 << 96 | 1), bit(0xfd00_0001 << 96 | 2)), (1, 0));
    assert_ne!(place_of(&image, &net, "fd00:1::1") & place::OWN, 0);
}

/// Whether a source is one of a zone's that are known without a search.
fn is_plain(net: &Net, zone: u8, address: &str) -> bool {
    is_plain_source(net, Origin::Lan(zone), address.parse::<Ipv4Addr>().expect("an address").into())
}

#[test]
fn most_clients_of_a_lan_are_known_without_a_search() {
    let mut facts = facts();
    let net = image(&facts).at(0, NET_BLOCKS).expect("room");
    let plain =
        ["10.1.0.2", "10.1.0.254", "10.1.0.1", "10.1.0.255", "10.1.1.1"].map(|source| is_plain(&net, 1, source));
    assert_eq!(plain, [true, true, false, false, false]);
    assert!(!is_plain(&net, 0, "10.1.0.2") && !is_plain(&net, 2, "10.1.0.2"));
    // The longest counts, wherever it is, and whichever half the blocks are in.
    for route in ["10.0.0.0/28", "10.7.0.0/16", "10.9.0.0/28"] {
        add_route(&mut facts, route, 2);
    }
    for first in [0, NET_BLOCKS / 2] {
        let net = image(&facts).at(first, NET_BLOCKS / 2).expect("room");
        assert!(is_plain(&net, 1, "10.7.0.0") && is_plain(&net, 1, "10.7.255.255"));
        assert!(!["10.0.0.1", "10.1.0.2", "10.9.0.1"].iter().any(|source| is_plain(&net, 1, source)));
    }
    // Its own addresses are no sources, though a LAN's route lies among them.
    facts.own.push("10.7.0.0/18".parse().expect("a prefix"));
    add_route(&mut facts, "10.7.1.0/24", 2);
    let net = image(&facts).at(0, NET_BLOCKS).expect("room");
    assert!(is_plain(&net, 1, "10.7.64.0") && !is_plain(&net, 1, "10.7.1.1"));
}

#[test]
fn a_run_has_its_ends_and_not_their_neighbours() {
    let has = |(first, count), address| is_in_run(run_of(first, count), address);
    let ends = (0xffff_ff00, 0x100);
    assert_eq!([0xffff_feff, 0xffff_ff00, u32::MAX, 0].map(|end| has(ends, end)), [false, true, true, false]);
    assert_eq!([0, u32::MAX - 1, u32::MAX].map(|end| has((0, u32::MAX), end)), [true, true, false]);
    assert!(!has((7, 0), 7));
}

#[test]
fn only_what_shares_its_first_byte_with_something_local_is_searched_for() {
    let mut facts = facts();
    add_address(&mut facts, 2, "100.64.0.1/6");
    let net = image(&facts).at(0, NET_BLOCKS).expect("room");
    let near = |first: u32| (first << 24 | 0x01_0203).is_near(&net);
    let found: Vec<u32> = (0..256).filter(|&first| near(first)).collect();
    let wanted = [10].into_iter().chain(100..=103).chain([198]).chain(224..=239).chain([255]);
    assert_eq!(found, wanted.collect::<Vec<u32>>());
}

#[test]
fn ipv6_addresses_near_a_local_prefix_are_searched_for() {
    let mut facts = facts();
    // Longer than the trie is deep, and shorter than the two bytes that are compared.
    add_address(&mut facts, 2, "2001:db8::1/127");
    add_address(&mut facts, 2, "4000::1/14");
    let net = image(&facts).at(0, NET_BLOCKS).expect("room");
    let near = |first: u32| [first << 16 | 0x0102, 0, 0, 1].is_near(&net);
    let found: Vec<u32> = (0..1 << 16).filter(|&first| near(first)).collect();
    let wanted =
        [0x2001].into_iter().chain(0x4000..=0x4003).chain([0xfd00]).chain(0xfe80..=0xfebf).chain(0xff00..=0xffff);
    assert_eq!(found, wanted.collect::<Vec<u32>>());
}

proptest! {
    #[test]
    fn what_is_known_without_a_search_is_what_the_trie_says(
        nets in prop::collection::vec((any::<u32>(), 0..=32_u8, 2..=4_u32), 0..12),
        addresses in prop::collection::vec((any::<u32>(), 8..=30_u8, 2..=4_u32), 0..3),
        own in prop::collection::vec((any::<u32>(), 20..=32_u8), 0..3),
        more in prop::collection::vec(any::<u32>(), 20),
    ) {
        // Close together, so that they overlap.
        let net = |address: u32, length| {
            Ipv4Net::new(Ipv4Addr::from(address & 0x0f03_03ff), length).expect("a length")
        };
        let mut facts = facts();
        facts.interfaces.push(Interface { index: 4, name: "lan1".into(), ..Interface::default() });
        for &(address, length, interface) in &addresses {
            add_address(&mut facts, interface, &net(address, length).to_string());
        }
        for &(address, length, interface) in &nets {
            add_route(&mut facts, &net(address, length).trunc().to_string(), interface);
        }
        facts.own.extend(own.iter().map(|&(address, length)| IpNet::from(net(address, length).trunc())));
        let image = NetImage::new(&facts, &roles(&[2, 4]), WORDS).expect("two LANs");
        let net = image.at(0, NET_BLOCKS).expect("room");
        let said = facts.routes.iter().map(|route| &route.to).chain(&facts.own);
        let ends = said.filter_map(|net| match net {
            IpNet::V4(net) => Some([u32::from(net.network()), u32::from(net.broadcast())]),
            IpNet::V6(_) => None,
        });
        let around = |end: u32| [end.wrapping_sub(1), end, end.wrapping_add(1)];
        let runs = net.sources4.iter().flat_map(|&run| [run as u32, (run as u32).wrapping_add((run >> 32) as u32)]);
        let asked = ends.flatten().chain(runs).flat_map(around).chain(more.iter().map(|more| more & 0x0f03_03ff));
        for address in asked {
            let place = place_of(&image, &net, &Ipv4Addr::from(address).to_string());
            for zone in 0..4 {
                let belongs = zone != 0 && place & (place::OWN | place::ZONE) == u32::from(zone);
                let plain = is_plain_source(&net, Origin::Lan(zone), address);
                prop_assert!(belongs || !plain, "{} in {}", Ipv4Addr::from(address), zone);
                // A run ends where the zone does, and there is one if there is a source.
                let run = net.sources4[usize::from(zone)];
                let (before, behind) = ((run as u32).wrapping_sub(1), (run as u32).wrapping_add((run >> 32) as u32));
                let ends_early = run == 0 || [before, behind].contains(&address);
                prop_assert!(!(belongs && ends_early), "{} in {}", Ipv4Addr::from(address), zone);
            }
            prop_assert!(address.is_near(&net) || place & (place::LOCAL | place::OWN) == 0);
        }
    }
}

#[test]
fn of_several_routes_to_a_prefix_the_best_decides() {
    let mut facts = facts();
    add_route_of(&mut facts, "10.1.0.0/24", Some(3), 1000);
    add_route_of(&mut facts, "10.7.0.0/16", Some(3), 20);
    add_route_of(&mut facts, "10.7.0.0/16", Some(2), 10);
    add_route_of(&mut facts, "10.8.0.0/16", Some(3), 10);
    add_route_of(&mut facts, "10.8.0.0/16", Some(2), 20);
    let found: Vec<u32> = places(&facts, &["10.1.0.2", "10.7.0.1", "10.8.0.1"]).iter().map(|p| p & FLAGS).collect();
    assert_eq!(found, [1 | place::LOCAL, 1, 0]);
    assert!(image(&facts).warnings.is_empty());
    // Though it has an address in it, the gateway itself would send there by the WAN.
    facts.routes.retain(|route| route.interface != Some(2));
    assert_eq!(places(&facts, &["10.1.0.2"])[0] & FLAGS, 0);
}

#[test]
fn of_several_routes_to_an_ipv6_prefix_the_best_decides_however_long_it_is() {
    let mut facts = facts();
    for (to, lan, wan) in [("2001:db8:1::/56", 10, 20), ("2001:db8:2::/96", 10, 20), ("2001:db8:3::5/128", 20, 10)] {
        add_route_of(&mut facts, to, Some(2), lan);
        add_route_of(&mut facts, to, Some(3), wan);
    }
    add_route_of(&mut facts, "2001:db8:3::/96", Some(2), 1024);
    add_route_of(&mut facts, "2001:db8:2::/64", Some(3), 1024);
    let asked = ["2001:db8:1:7::1", "2001:db8:2::9", "2001:db8:2:0:1::9", "2001:db8:3::5", "2001:db8:3::6"];
    let found: Vec<u32> = places(&facts, &asked).iter().map(|place| place & FLAGS).collect();
    assert_eq!(found, [1, 1, 0, 0, 1]);
    assert!(image(&facts).warnings.is_empty());
}

#[test]
fn link_local_and_multicast_addresses_are_local_on_every_link_and_behind_none() {
    let mut facts = facts();
    for interface in [2, 3] {
        add_address(&mut facts, interface, "fe80::1/64");
        add_route_of(&mut facts, "fe80::/64", Some(interface), 256);
    }
    add_route(&mut facts, "239.0.0.0/8", 2);
    assert_eq!(places(&facts, &["239.1.2.3"])[0] & FLAGS, place::LOCAL);
    // Of IPv4, where the gateway has one on a LAN.
    add_address(&mut facts, 2, "169.254.1.1/16");
    let found: Vec<u32> = places(&facts, &["fe80::2", "169.254.7.7"]).iter().map(|place| place & FLAGS).collect();
    assert_eq!(found, [place::LOCAL | place::LINK_LOCAL; 2]);
    assert!(image(&facts).warnings.is_empty());
}

#[test]
fn a_prefix_that_several_links_have_an_equal_right_to_counts_as_the_strictest_and_is_told_of() {
    let mut facts = facts();
    facts.interfaces.push(Interface { index: 4, name: "lan1".into(), ..Interface::default() });
    add_address(&mut facts, 4, "10.1.0.9/24");
    for interface in [2, 3] {
        add_route(&mut facts, "10.7.0.0/16", interface);
    }
    // In whichever order they are named.
    let image = NetImage::new(&facts, &roles(&[4, 2]), WORDS).expect("two LANs");
    let net = image.at(0, NET_BLOCKS).expect("room");
    let found = ["10.1.0.2", "10.7.0.1"].map(|address| place_of(&image, &net, address) & FLAGS);
    assert_eq!(found, [1 | place::LOCAL, 0]);
    let warnings = &image.warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("10.1.0.0/24") && warnings[0].contains("behind lan0"), "{}", warnings[0]);
    assert!(warnings[1].contains("10.7.0.0/16") && warnings[1].contains("behind no LAN"), "{}", warnings[1]);
    // A few by name.
    for (number, interface) in (0..100).flat_map(|number| [(number, 2), (number, 3)]) {
        add_route(&mut facts, &format!("10.8.{number}.0/24"), interface);
    }
    let image = NetImage::new(&facts, &roles(&[4, 2]), WORDS).expect("two LANs");
    assert_eq!(image.warnings.len(), 4);
    assert!(image.warnings[3].contains(" 99 more"), "{}", image.warnings[3]);
}

#[test]
fn nobody_is_behind_a_route_that_leads_nowhere() {
    let mut facts = facts();
    add_route_of(&mut facts, "10.1.0.64/26", None, 0);
    // As routing daemons keep for what they announce.
    add_route_of(&mut facts, "10.1.0.0/24", None, 254);
    add_route_of(&mut facts, "10.0.0.0/8", None, 254);
    let found: Vec<u32> = places(&facts, &["10.1.0.2", "10.1.0.65"]).iter().map(|p| p & FLAGS).collect();
    assert_eq!(found, [1 | place::LOCAL, 0]);
}

#[test]
fn no_lan_has_clients_in_addresses_that_are_nobodys() {
    let mut facts = facts();
    for route in ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"] {
        add_route(&mut facts, route, 2);
    }
    let nobodys = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"];
    let nobodys6 = ["::", "::1", "::ffff:10.1.0.2", "fe80::1", "ff02::1"];
    for place in places(&facts, &[&nobodys[..], &nobodys6].concat()) {
        assert_eq!(place & place::ZONE, 0);
    }
    assert_eq!(places(&facts, &["126.0.0.1", "64:ff9b::1"]), [1, 1]);
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
    add_address(&mut facts, 2, "2001:db8:5::1/64");
    facts.addresses.last_mut().expect("just added").advertised = true;
    let found = places(&facts, &["2001:db8:5::77"]);
    assert_eq!(found[0] & FLAGS, 1);
}

#[test]
fn a_part_of_the_lans_prefix_that_is_routed_elsewhere_is_not_local() {
    let mut facts = facts();
    add_address(&mut facts, 2, "10.0.0.1/8");
    add_route(&mut facts, "10.50.0.0/16", 3);
    add_route(&mut facts, "10.60.0.0/16", 2);
    let found: Vec<u32> = places(&facts, &["10.50.1.1", "10.60.1.1", "10.70.1.1"]).iter().map(|p| p & FLAGS).collect();
    assert_eq!(found, [0, 1 | place::LOCAL, 1 | place::LOCAL]);
}

#[test]
fn on_an_unnumbered_lan_the_other_ends_prefix_is_local() {
    let mut facts = facts();
    let own = "203.0.113.10".parse().expect("an address");
    let net = "10.8.0.0/24".parse().expect("a prefix");
    facts.addresses.push(Address { interface: 2, own, net, broadcast: None, advertised: false });
    let found: Vec<u32> =
        places(&facts, &["10.8.0.7", "203.0.113.10", "203.0.113.11"]).iter().map(|p| p & FLAGS).collect();
    assert_eq!(found, [1 | place::LOCAL, place::OWN, 0]);
}

#[test]
fn what_the_kernel_takes_for_itself_is_own() {
    let mut facts = facts();
    for own in ["10.1.0.128/28", "fd00:1::/128", "127.0.0.0/8"] {
        facts.own.push(own.parse().expect("a prefix"));
    }
    let found: Vec<u32> = places(&facts, &["10.1.0.130", "fd00:1::", "127.0.0.1"]).iter().map(|p| p & FLAGS).collect();
    assert_eq!((found[0], found[1] & place::OWN, found[2]), (place::OWN, place::OWN, 0));
}

#[test]
fn ipv4_link_local_is_a_source_but_no_way_out() {
    assert_eq!(places(&facts(), &["169.254.169.254", "fe80::1"])[0] & place::LOCAL, 0);
    assert_ne!(places(&facts(), &["fe80::1"])[0] & place::LOCAL, 0);
}

fn bridged() -> Facts {
    let mut facts = facts();
    facts.interfaces[0].joins = true;
    for (index, name) in [(5, "port1"), (6, "port2")] {
        facts.interfaces.push(Interface { index, name: name.into(), master: Some(2), ..Interface::default() });
    }
    facts
}

#[test]
fn the_ports_of_a_bridge_share_its_zone_and_together_judge_for_it() {
    let facts = bridged();
    assert_eq!(problems(&facts, &roles(&[5, 6])), []);
    let net = NetImage::new(&facts, &roles(&[5, 6]), WORDS).expect("one LAN").at(0, NET_BLOCKS).expect("room");
    assert_eq!([5, 6, 2, 3].map(|index: usize| net.interfaces[index].role.zone), [1, 1, 1, 0]);
    assert_eq!([5, 6, 2, 3].map(|index: usize| net.interfaces[index].role.judged), [1, 1, 1, 0]);
}

#[test]
fn a_bridge_with_an_open_port_is_a_problem_and_not_trusted() {
    let facts = bridged();
    assert_eq!(problems(&facts, &roles(&[5])), [NetError::OpenPorts("lan0".into(), "port2".into())]);
    let net = NetImage::new(&facts, &roles(&[5]), WORDS).expect("one LAN").at(0, NET_BLOCKS).expect("room");
    assert_eq!((net.interfaces[5].role.judged, net.interfaces[2].role.judged), (1, 0));
    assert_eq!(problems(&facts, &roles(&[2])), []);
}

#[test]
fn a_lan_that_carries_other_interfaces_is_a_problem() {
    let mut facts = facts();
    facts.interfaces.push(Interface { index: 9, name: "lan0.10".into(), carrier: Some(2), ..Interface::default() });
    assert_eq!(problems(&facts, &roles(&[2])), [NetError::Carrier("lan0".into(), "lan0.10".into())]);
    assert_eq!(problems(&facts, &roles(&[9])), []);
}

#[test]
fn the_routes_of_a_whole_internet_by_way_of_the_wan_take_no_memory() {
    let mut facts = facts();
    for n in 0..100_000_u32 {
        let net = Ipv4Addr::from(0x1000_0000 + (n << 8));
        add_route(&mut facts, &format!("{net}/24"), 3);
    }
    assert!(image(&facts).at(0, 16).is_ok());
    assert_eq!(places(&facts, &["16.0.1.1", "10.1.0.2"]), [0, 1 | place::LOCAL]);
}
