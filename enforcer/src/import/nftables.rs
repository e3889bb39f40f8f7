//! A set of nftables, as `nft -j list set` prints it (libnftables-json(5)).

use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use super::{About, Found, Import, Mistake, host, written};
use crate::{
    catalog::Host,
    policy::{PortMatch, words},
};

const HELP: &str =
    "import what `nft -j list set inet TABLE SET` prints: a set of addresses, with or without protocols and ports";

/// A catalogue of the sets in a listing, a service each. `ports` are those of sets that have none.
///
/// # Errors
/// If it is no such listing, or a set has elements of another kind.
pub fn nftables(text: &str, ports: &[PortMatch], about: &About) -> Result<Import, Mistake> {
    let wrong = |place: &str, message: String| Mistake { place: place.into(), message, help: HELP.into() };
    let listing: Value =
        serde_json::from_str(text).map_err(|error| wrong(&about.source, format!("no JSON: {error}")))?;
    let objects =
        listing["nftables"].as_array().ok_or_else(|| wrong(&about.source, "no listing of nftables".into()))?;
    let mut found = Found::default();
    for set in objects.iter().map(|object| &object["set"]).filter(|set| set.is_object()) {
        let name = set["name"].as_str().unwrap_or_default();
        let kinds: Vec<&str> = match &set["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        for (number, element) in (1..).zip(set["elem"].as_array().into_iter().flatten()) {
            let place = || format!("set {name:?}, element {number}");
            let value = element.pointer("/elem/val").unwrap_or(element);
            let parts: Vec<&Value> =
                value["concat"].as_array().map_or_else(|| vec![value], |parts| parts.iter().collect());
            if parts.len() != kinds.len() {
                return Err(wrong(&place(), format!("{value} is not of type {kinds:?}")));
            }
            let (mut hosts, mut protocol, mut port) = (Vec::new(), None, None);
            for (kind, part) in kinds.iter().zip(parts) {
                let shown = format!("{part} is not understood as {kind:?}");
                match *kind {
                    "ipv4_addr" | "ipv6_addr" => hosts = self::hosts(part, &place)?,
                    "inet_proto" => protocol = Some(protocol_of(part).ok_or_else(|| wrong(&place(), shown))?),
                    "inet_service" => port = Some(port_of(part).ok_or_else(|| wrong(&place(), shown))?),
                    _ => return Err(wrong(&place(), format!("sets of {kind:?} are not understood"))),
                }
            }
            if hosts.is_empty() {
                return Err(wrong(&place(), "there is no address in it".into()));
            }
            let own = match (protocol, port) {
                (Some(protocol), Some(port)) => Some(format!("{protocol}/{port}")),
                (Some(protocol), None) => Some(protocol),
                (None, Some(port)) => Some(format!("tcp/{port}")),
                (None, None) => None,
            };
            let ports = match own {
                Some(word) => {
                    vec![words::port(&word).map_err(|(message, help)| Mistake { place: place(), message, help })?]
                }
                None if ports.is_empty() => {
                    let help = "name them: --ports tcp/443".into();
                    return Err(Mistake { place: place(), message: "the set has no ports".into(), help });
                }
                None => ports.to_vec(),
            };
            found.add(name, hosts, ports);
        }
    }
    written(found, about, Vec::new())
}

/// An address, a prefix or a range of addresses.
fn hosts(value: &Value, place: &dyn Fn() -> String) -> Result<Vec<Host>, Mistake> {
    let prefix = &value["prefix"];
    if let (Some(address), Some(length)) = (prefix["addr"].as_str(), prefix["len"].as_u64()) {
        return Ok(vec![host(&format!("{address}/{length}"), place)?]);
    }
    let ends: Option<Vec<IpAddr>> =
        value["range"].as_array().and_then(|ends| ends.iter().map(|end| end.as_str()?.parse().ok()).collect());
    let subnets = match ends.as_deref() {
        Some(&[IpAddr::V4(first), IpAddr::V4(last)]) if first <= last => {
            IpSubnets::from(Ipv4Subnets::new(first, last, 0))
        }
        Some(&[IpAddr::V6(first), IpAddr::V6(last)]) if first <= last => {
            IpSubnets::from(Ipv6Subnets::new(first, last, 0))
        }
        _ => return Ok(vec![host(value.as_str().unwrap_or_default(), place)?]),
    };
    Ok(subnets.map(|net: IpNet| Host::Prefix(net)).collect())
}

/// A protocol's name, as policies have it.
fn protocol_of(value: &Value) -> Option<String> {
    match (value.as_str(), value.as_u64()) {
        (Some(name @ ("tcp" | "udp" | "sctp" | "udplite" | "icmp")), _) => Some(name.into()),
        (Some("ipv6-icmp" | "icmpv6"), _) => Some("icmpv6".into()),
        (Some("gre"), _) => Some("proto/47".into()),
        (Some("esp"), _) => Some("proto/50".into()),
        (Some("ah"), _) => Some("proto/51".into()),
        (None, Some(number)) => Some(format!("proto/{number}")),
        _ => None,
    }
}

fn port_of(value: &Value) -> Option<String> {
    match (value.as_u64(), value["range"].as_array().map(Vec::as_slice)) {
        (Some(port), _) => Some(port.to_string()),
        (None, Some([first, last])) => Some(format!("{}-{}", first.as_u64()?, last.as_u64()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::about;

    fn listing(kind: &str, elements: &str) -> String {
        format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"set": {{"name": "web", "type": {kind}, "elem": [{elements}]}}}}]}}"#
        )
    }

    #[test]
    fn addresses_prefixes_and_ranges_are_hosts() {
        let elements = r#""192.0.2.1", {"prefix": {"addr": "17.0.0.0", "len": 8}}, {"range": ["10.0.0.0", "10.0.0.2"]}, {"elem": {"val": "192.0.2.9", "timeout": 60}}"#;
        let import =
            nftables(&listing("\"ipv4_addr\"", elements), &[words::port("tcp/443").expect("a port")], &about());
        let text = import.expect("imported").text;
        let hosts = "hosts = [\n    \"10.0.0.0/31\",\n    \"10.0.0.2/32\",\n    \"17.0.0.0/8\",\n    \"192.0.2.1/32\",\n    \"192.0.2.9/32\",\n]\nports = [\"tcp/443\"]\n";
        assert!(text.ends_with(hosts), "{text}");
    }

    #[test]
    fn concatenations_have_their_own_ports() {
        let elements = r#"{"concat": ["2001:db8::1", "tcp", 443]}, {"concat": [{"prefix": {"addr": "2001:db8:1::", "len": 48}}, "udp", {"range": [3478, 3497]}]}"#;
        let text = nftables(&listing(r#"["ipv6_addr", "inet_proto", "inet_service"]"#, elements), &[], &about())
            .expect("imported")
            .text;
        assert!(text.contains("hosts = [\"2001:db8::1/128\"]\nports = [\"tcp/443\"]\n"), "{text}");
        assert!(text.contains("hosts = [\"2001:db8:1::/48\"]\nports = [\"udp/3478-3497\"]\n"), "{text}");
    }

    #[test]
    fn what_is_no_such_set_is_told() {
        for (text, message) in [
            ("table inet t {".to_owned(), "no JSON"),
            ("{}".to_owned(), "no listing"),
            (listing("\"ipv4_addr\"", "\"192.0.2.1\""), "no ports"),
            (listing("\"ether_addr\"", "\"02:00:00:00:00:01\""), "\"ether_addr\""),
            (listing("[\"ipv4_addr\", \"inet_service\"]", "\"192.0.2.1\""), "not of type"),
            (listing("\"ipv4_addr\"", "7"), "not an address"),
            (listing("\"ipv4_addr\"", ""), "no hosts"),
        ] {
            let mistake = nftables(&text, &[], &about()).expect_err(message);
            assert!(mistake.to_string().contains(message), "{mistake}");
        }
    }
}
