//! Which addresses are the internet's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an answer may open an address: one of the internet, not of the gateway's own networks. Otherwise whoever has a name could point it into the
/// LAN (DNS rebinding). Networks for documentation count as public, as labs use them.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public4(address),
        IpAddr::V6(address) => is_public6(address),
    }
}

fn is_public4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let carrier_nat = first == 100 && second & 0xc0 == 64; // 100.64.0.0/10, RFC 6598
    let special = first == 0 || first >= 224; // "this network", multicast, reserved, broadcast
    // 192.0.0.0/24 (RFC 6890), and 198.18.0.0/15 for benchmarks (RFC 2544).
    let assigned = (first, second, third) == (192, 0, 0) || (first == 198 && second & 0xfe == 18);
    let own = address.is_private() || address.is_loopback() || address.is_link_local();
    !(special || carrier_nat || assigned || own)
}

fn is_public6(address: Ipv6Addr) -> bool {
    let inside = |high: u16, low: u16| is_public4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056): packets go to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => inside(high, low),
        // 2001::/23 is for protocols, Teredo among them (RFC 2928).
        [0x2001, second, ..] if second < 0x200 => false,
        // All that is assigned to networks of the internet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn own_networks_are_not_public() {
        let own = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 172.31.255.255 192.168.1.1 \
                   224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 \
                   :: ::1 fe80::1 febf::1 fc00::1 fdff::1 ff02::1 ::ffff:17.1.2.3 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1 \
                   64:ff9b:1::10.0.0.1 64:ff9b:1::17.1.2.3 2002:a00:1:: 2002:c0a8:101::1 2001::1 2001:1ff::1 fec0::1 ::17.1.2.3 \
                   4000::1 192.0.0.1 198.18.0.1 198.19.255.255";
        for address in own.split_whitespace() {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = "1.0.0.1 9.255.255.255 17.1.2.3 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.2.1 198.51.100.2 \
                      203.0.113.9 223.255.255.255 2620:149::5 2001:db8::1 64:ff9b::17.1.2.3 2002:1101:203::1 2001:200::1 3fff::1 \
                      192.0.1.1 198.17.255.255 198.20.0.1";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
