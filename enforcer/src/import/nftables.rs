//! Sets of nftables, as `nft -j list set` prints them (libnftables-json(5)).

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use super::{About, Found, Import, Mistake, written};
use crate::{
    catalog::Host,
    policy::{PortMatch, Transport, words},
};

const HELP: &str =
    "import what `nft -j list set FAMILY TABLE SET` prints: a set of addresses, with or without protocols and ports";
const ADDRESSES: [&str; 2] = ["ipv4_addr", "ipv6_addr"];
const PROTOCOL: &str = "inet_proto";
const PORT: &str = "inet_service";

/// What sets do not say of themselves.
#[derive(Clone, Debug, Default)]
pub struct Unsaid {
    /// Ports of sets that have addresses alone.
    pub ports: Vec<PortMatch>,
    /// Protocols of sets that have ports, and no protocols.
    pub protocols: Vec<Transport>,
}

/// A catalogue of the sets in a listing, a service each.
///
/// # Errors
/// If it is no such listing, a set does not say where to and by what, or two sets have one name.
pub fn nftables(text: &str, unsaid: &Unsaid, about: &About) -> Result<Import, Mistake> {
    let wrong = |message: String| Mistake { place: about.source.clone(), message, help: HELP.into() };
    let listing: Value = serde_json::from_str(text).map_err(|error| wrong(format!("no JSON: {error}")))?;
    let objects = listing["nftables"].as_array().ok_or_else(|| wrong("no listing of nftables".into()))?;
    let (mut found, mut warnings, mut seen) = (Found::default(), Vec::new(), BTreeMap::new());
    for object in objects {
        if object["map"].is_object() {
            warnings.push(format!("map {} is left out: only sets are imported", called(&object["map"])));
        }
        if !object["set"].is_object() {
            continue;
        }
        let set = Set::of(&object["set"])?;
        if let Some(other) = seen.insert(set.name, set.called.clone()) {
            let help = "import them one by one, `nft -j list set FAMILY TABLE SET`, each with a --name of its own";
            return Err(set.wrong(format!("set {other} has the same name"), help));
        }
        if set.elements.is_empty() {
            warnings.push(format!("set {} is left out: it has no elements", set.called));
        }
        for number in 1..=set.elements.len() {
            let (hosts, ports) = set.element(number, unsaid)?;
            found.add(set.name, hosts, ports);
        }
    }
    written(found, about, warnings)
}

/// Family, table and name of a set or map, as nft's commands have them.
fn called(object: &Value) -> String {
    let words = ["family", "table", "name"].map(|key| object[key].as_str().unwrap_or_default());
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A set that says where to.
struct Set<'a> {
    /// What messages call it.
    called: String,
    name: &'a str,
    /// What the parts of its elements are: one address, at most one protocol, at most one port.
    kinds: Vec<&'a str>,
    elements: &'a [Value],
}

impl<'a> Set<'a> {
    fn of(set: &'a Value) -> Result<Self, Mistake> {
        let kinds: Option<Vec<&str>> = match &set["type"] {
            Value::Array(kinds) => kinds.iter().map(Value::as_str).collect(),
            kind => kind.as_str().map(|kind| vec![kind]),
        };
        let elements = set["elem"].as_array().map_or(&[][..], Vec::as_slice);
        let name = set["name"].as_str().unwrap_or_default();
        let set = Set { called: called(set), name, kinds: kinds.unwrap_or_default(), elements };
        let count = |known: &[&str]| set.kinds.iter().filter(|kind| known.contains(kind)).count();
        let (addresses, protocols, ports) = (count(&ADDRESSES), count(&[PROTOCOL]), count(&[PORT]));
        let shape = set.kinds.join(" . ");
        if set.kinds.len() != addresses + protocols + ports || addresses == 0 {
            return Err(set.wrong(format!("it is of type {shape:?}, which does not say where to"), HELP));
        }
        for (number, what) in [(addresses, "addresses"), (protocols, "protocols"), (ports, "ports")] {
            if number > 1 {
                let message =
                    format!("its elements have {number} {what} ({shape}), and none is known to be the destination's");
                return Err(set.wrong(message, "make a set of the destinations alone, such as `type ipv4_addr . inet_proto . inet_service`, and import that"));
            }
        }
        Ok(set)
    }

    fn wrong(&self, message: String, help: &str) -> Mistake {
        Mistake { place: format!("set {}", self.called), message, help: help.into() }
    }

    /// What an element says, by its number from 1.
    fn element(&self, number: usize, unsaid: &Unsaid) -> Result<(Vec<Host>, Vec<PortMatch>), Mistake> {
        let wrong = |(message, help): words::Wrong| Mistake {
            place: format!("set {}, element {number}", self.called),
            message,
            help,
        };
        let element = &self.elements[number - 1];
        let value = element.pointer("/elem/val").unwrap_or(element);
        let parts: Vec<&Value> = value["concat"].as_array().map_or_else(|| vec![value], |parts| parts.iter().collect());
        if parts.len() != self.kinds.len() {
            return Err(wrong((format!("{value} is not of type {:?}", self.kinds.join(" . ")), HELP.into())));
        }
        let (mut hosts, mut protocol, mut port) = (Vec::new(), None, None);
        for (kind, part) in self.kinds.iter().zip(parts) {
            let strange = || wrong((format!("{part} is not understood as {kind:?}"), HELP.into()));
            match *kind {
                PROTOCOL => protocol = Some(protocol_of(part).ok_or_else(strange)?),
                PORT => port = Some(port_of(part).ok_or_else(strange)?),
                kind => hosts = self::hosts(part, kind == ADDRESSES[1]).ok_or_else(strange)?,
            }
        }
        let words = match (protocol, port) {
            (None, None) if unsaid.ports.is_empty() => {
                return Err(wrong(("the set has no ports".into(), "name them: --ports tcp/443".into())));
            }
            (None, None) => return Ok((hosts, unsaid.ports.clone())),
            (None, Some(_)) if unsaid.protocols.is_empty() => {
                let help = "name it: --protocol tcp, and --protocol udp besides if it is of both";
                return Err(wrong(("the set has ports, and does not say of which protocol".into(), help.into())));
            }
            (None, Some(port)) => unsaid.protocols.iter().map(|protocol| format!("{protocol}/{port}")).collect(),
            (Some(protocol), None) => vec![protocol],
            (Some(protocol), Some(port)) if ["tcp", "udp", "sctp", "udplite"].contains(&protocol.as_str()) => {
                vec![format!("{protocol}/{port}")]
            }
            (Some(protocol), Some(port)) => {
                let help = "no packet matches it: take it out of the set";
                return Err(wrong((format!("{protocol} has no port {port}"), help.into())));
            }
        };
        let ports = words.iter().map(|word| words::port(word)).collect::<Result<_, _>>().map_err(wrong)?;
        Ok((hosts, ports))
    }
}

/// An address, a prefix or a range of addresses, of the family that the set is of.
fn hosts(value: &Value, v6: bool) -> Option<Vec<Host>> {
    let address = |value: &Value| value.as_str()?.parse().ok().filter(|address: &IpAddr| address.is_ipv6() == v6);
    let prefix = &value["prefix"];
    let nets: Vec<IpNet> = if prefix.is_object() {
        vec![IpNet::new(address(&prefix["addr"])?, u8::try_from(prefix["len"].as_u64()?).ok()?).ok()?.trunc()]
    } else if let Some([first, last]) = value["range"].as_array().map(Vec::as_slice) {
        match (address(first)?, address(last)?) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                IpSubnets::from(Ipv4Subnets::new(first, last, 0)).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                IpSubnets::from(Ipv6Subnets::new(first, last, 0)).collect()
            }
            _ => return None,
        }
    } else {
        vec![address(value)?.into()]
    };
    Some(nets.into_iter().map(Host::Prefix).collect())
}

/// A protocol's name or number, as policies have it.
fn protocol_of(value: &Value) -> Option<String> {
    match (value.as_str(), value.as_u64()) {
        (Some(name @ ("tcp" | "udp" | "sctp" | "udplite" | "icmp")), _) => Some(name.into()),
        (Some("ipv6-icmp" | "icmpv6"), _) | (_, Some(58)) => Some("icmpv6".into()),
        (Some("gre"), _) => Some("proto/47".into()),
        (Some("esp"), _) => Some("proto/50".into()),
        (Some("ah"), _) => Some("proto/51".into()),
        // As `nft -n` prints them.
        (_, Some(1)) => Some("icmp".into()),
        (_, Some(6)) => Some("tcp".into()),
        (_, Some(17)) => Some("udp".into()),
        (_, Some(132)) => Some("sctp".into()),
        (_, Some(136)) => Some("udplite".into()),
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

    fn set(table: &str, kind: &str, elements: &str) -> String {
        format!(
            r#"{{"set": {{"family": "inet", "table": "{table}", "name": "web", "type": {kind}, "elem": [{elements}]}}}}"#
        )
    }

    fn listing(kind: &str, elements: &str) -> String {
        format!(r#"{{"nftables": [{{"metainfo": {{}}}}, {}]}}"#, set("filter", kind, elements))
    }

    fn by(ports: &[&str], protocols: &[Transport]) -> Unsaid {
        let ports = ports.iter().map(|word| words::port(word).expect("a port")).collect();
        Unsaid { ports, protocols: protocols.to_vec() }
    }

    #[test]
    fn addresses_prefixes_and_ranges_are_hosts() {
        let elements = r#""192.0.2.1", {"prefix": {"addr": "17.0.0.0", "len": 8}}, {"range": ["10.0.0.0", "10.0.0.2"]}, {"elem": {"val": "192.0.2.9", "timeout": 60}}"#;
        let import = nftables(&listing("\"ipv4_addr\"", elements), &by(&["tcp/443"], &[]), &about());
        let text = import.expect("imported").text;
        let hosts = "hosts = [\n    \"10.0.0.0/31\",\n    \"10.0.0.2/32\",\n    \"17.0.0.0/8\",\n    \"192.0.2.1/32\",\n    \"192.0.2.9/32\",\n]\nports = [\"tcp/443\"]\n";
        assert!(text.ends_with(hosts), "{text}");
    }

    #[test]
    fn concatenations_have_their_own_ports() {
        let elements = r#"{"concat": ["2001:db8::1", "tcp", 443]}, {"concat": [{"prefix": {"addr": "2001:db8:1::", "len": 48}}, "udp", {"range": [3478, 3497]}]}"#;
        let text = nftables(
            &listing(r#"["ipv6_addr", "inet_proto", "inet_service"]"#, elements),
            &Unsaid::default(),
            &about(),
        )
        .expect("imported")
        .text;
        assert!(text.contains("hosts = [\"2001:db8::1/128\"]\nports = [\"tcp/443\"]\n"), "{text}");
        assert!(text.contains("hosts = [\"2001:db8:1::/48\"]\nports = [\"udp/3478-3497\"]\n"), "{text}");
    }

    #[test]
    fn ports_without_a_protocol_are_of_those_that_are_named() {
        let text = listing(r#"["ipv4_addr", "inet_service"]"#, r#"{"concat": ["192.0.2.1", 53]}"#);
        let import = nftables(&text, &by(&[], &[Transport::Tcp, Transport::Udp]), &about()).expect("imported");
        assert!(import.text.contains("    \"tcp/53\",\n    \"udp/53\",\n"), "{}", import.text);
        let text = listing(r#"["ipv4_addr", "inet_proto"]"#, r#"{"concat": ["192.0.2.1", 17]}"#);
        let import = nftables(&text, &Unsaid::default(), &about()).expect("imported");
        assert!(import.text.contains("[\"udp\"]"), "{}", import.text);
    }

    #[test]
    fn what_is_not_in_the_catalogue_is_told() {
        let map = r#"{"map": {"family": "ip", "table": "nat", "name": "m", "type": "ipv4_addr", "map": "verdict"}}"#;
        let empty = r#"{"set": {"family": "inet", "table": "filter", "name": "none", "type": "ipv4_addr"}}"#;
        let web = set("filter", "\"ipv4_addr\"", "\"192.0.2.1\"");
        let text = format!(r#"{{"nftables": [{map}, {empty}, {web}]}}"#);
        let warnings = nftables(&text, &by(&["tcp"], &[]), &about()).expect("imported").warnings;
        assert!(
            warnings[0].starts_with("map ip nat m ") && warnings[1].starts_with("set inet filter none "),
            "{warnings:?}"
        );
    }

    #[test]
    fn what_is_no_such_set_is_told() {
        let pair = r#"["ipv4_addr", "ipv4_addr", "inet_service"]"#;
        let [one, two] = ["filter", "nat"].map(|table| set(table, "\"ipv4_addr\"", "\"192.0.2.1\""));
        for (text, message) in [
            ("table inet t {".to_owned(), "no JSON"),
            ("{}".to_owned(), "no listing"),
            (listing("\"ipv4_addr\"", "\"192.0.2.1\""), "set inet filter web, element 1: the set has no ports"),
            (listing("\"ether_addr\"", "\"02:00:00:00:00:01\""), "\"ether_addr\""),
            (listing("\"inet_service\"", "443"), "does not say where to"),
            (listing("{\"typeof\": 1}", ""), "does not say where to"),
            (
                listing(pair, r#"{"concat": ["10.1.0.2", "192.0.2.1", 443]}"#),
                "set inet filter web: its elements have 2 addresses",
            ),
            (listing(r#"["ipv4_addr", "inet_service", "inet_service"]"#, ""), "2 ports"),
            (listing("[\"ipv4_addr\", \"inet_service\"]", "\"192.0.2.1\""), "not of type"),
            (listing("[\"ipv4_addr\", \"inet_service\"]", r#"{"concat": ["192.0.2.1", 443]}"#), "--protocol tcp"),
            (
                listing(r#"["ipv4_addr", "inet_proto", "inet_service"]"#, r#"{"concat": ["192.0.2.1", "icmp", 8]}"#),
                "icmp has no port 8",
            ),
            (listing("\"ipv4_addr\"", "7"), "7 is not understood"),
            (listing("\"ipv4_addr\"", "\"www.example.org\""), "not understood"),
            (listing("\"ipv4_addr\"", "\"2001:db8::1\""), "not understood"),
            (listing("\"ipv4_addr\"", r#"{"prefix": {"addr": "10.0.0.0", "len": 256}}"#), "not understood"),
            (listing("\"ipv4_addr\"", r#"{"range": ["10.0.0.2", "10.0.0.1"]}"#), "not understood"),
            (listing("\"ipv4_addr\"", ""), "no hosts"),
            (format!(r#"{{"nftables": [{one}, {two}]}}"#), "set inet nat web: set inet filter web has the same name"),
        ] {
            let given = if message.contains("same name") { by(&["tcp/1"], &[]) } else { Unsaid::default() };
            let mistake = nftables(&text, &given, &about()).expect_err(message);
            assert!(mistake.to_string().contains(message), "{mistake}");
        }
    }
}
