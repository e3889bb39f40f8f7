//! Arithmetic of prefixes.

use ipnet::IpNet;

/// A prefix without others, in prefixes.
#[must_use]
pub fn without(net: IpNet, holes: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let cut = |parts: Vec<IpNet>, hole| parts.into_iter().flat_map(|part| without_one(part, hole)).collect();
    holes.into_iter().fold(vec![net], cut)
}

/// A prefix without another: the siblings on the way from the one to the other.
fn without_one(net: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&net) {
        return Vec::new();
    }
    if !net.contains(&hole) {
        return vec![net];
    }
    let halves = |length: u8| IpNet::new(hole.addr(), length - 1).ok()?.trunc().subnets(length).ok();
    let lengths = net.prefix_len() + 1..=hole.prefix_len();
    lengths.filter_map(halves).flatten().filter(|half| !half.contains(&hole)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn net(bits: u128, length: u8) -> IpNet {
        IpNet::new(Ipv6Addr::from_bits(bits).into(), length).expect("at most 128 bits").trunc()
    }

    #[test]
    fn families_have_nothing_to_do_with_each_other() {
        let whole: [IpNet; 2] = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a prefix"));
        let hole = IpNet::from(IpAddr::from(Ipv4Addr::new(10, 1, 0, 5)));
        assert_eq!(without(whole[1], [hole]), [whole[1]]);
        let left = without(whole[0], [hole]);
        assert_eq!((left.len(), left[0].to_string().as_str()), (32, "128.0.0.0/1"));
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_prefix_is_all_of_it_but_the_holes(
            bits in any::<u128>(), length in 0..=128_u8, holes in prop::collection::vec((0..=128_u32, 0..=128_u8), 0..3),
            flip in 0..=128_u32, fill in any::<u128>(),
        ) {
            // Near each other: of random ones, none would be in another.
            let other = |flip: u32| bits ^ 1_u128.checked_shl(flip).unwrap_or(0);
            let holes: Vec<_> = holes.into_iter().map(|(flip, length)| net(other(flip), length)).collect();
            let low = 1_u128.checked_shl(flip).unwrap_or(0).wrapping_sub(1);
            let address = IpAddr::from(Ipv6Addr::from_bits(other(flip) & !low | fill & low));
            let net = net(bits, length);
            let left = without(net, holes.iter().copied());
            let holds = left.iter().filter(|part| part.contains(&address)).count();
            let wanted = net.contains(&address) && !holes.iter().any(|hole| hole.contains(&address));
            prop_assert_eq!(holds, usize::from(wanted));
        }
    }
}
