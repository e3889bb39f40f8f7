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
    let [first, second, ..] = address.octets();
    let carrier_nat = first == 100 && second & 0xc0 == 64; // 100.64.0.0/10, RFC 6598
    let special = first == 0 || first >= 224; // "this network", multicast, reserved, broadcast
    !(special || carrier_nat || address.is_private() || address.is_loopback() || address.is_link_local())
}

fn is_public6(address: Ipv6Addr) -> bool {
    // 64:ff9b::/96 (RFC 6052): the IPv4 address inside is where packets go.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        return is_public4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    }
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.is_unique_local()
        || address.is_multicast()
        || address.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn own_networks_are_not_public() {
        let own = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 172.31.255.255 192.168.1.1 \
                   224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 \
                   :: ::1 fe80::1 febf::1 fc00::1 fdff::1 ff02::1 ::ffff:17.1.2.3 64:ff9b::10.0.0.1 64:ff9b::127.0.0.1";
        for address in own.split_whitespace() {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = "1.0.0.1 9.255.255.255 17.1.2.3 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 192.0.2.1 198.51.100.2 \
                      203.0.113.9 223.255.255.255 2620:149::5 2001:db8::1 64:ff9b::17.1.2.3 64:ff9b:1::10.0.0.1";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
