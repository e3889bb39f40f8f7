//! The words of a policy: prefixes, ports, actions. Each parser gives the value, or what is wrong and what would be right.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::model::{Action, Decision, PortMatch, Transport};

/// What is wrong with a word, and what would be right.
pub type Wrong = (String, String);

/// A prefix, or an address alone for one host.
pub fn prefix(word: &str) -> Result<IpNet, Wrong> {
    const EXAMPLES: &str = "write a prefix such as \"17.0.0.0/8\" or \"2620:149::/32\", or one address";
    let net: IpNet = if let Ok(net) = word.parse() {
        net
    } else if let Ok(address) = word.parse::<IpAddr>() {
        address.into()
    } else {
        let message = if is_name(word) {
            format!("{word:?} is a name, not an address prefix; only services have names")
        } else {
            format!("{word:?} is not an address prefix")
        };
        return Err((message, EXAMPLES.into()));
    };
    if let IpNet::V6(net) = net
        && net.network().to_ipv4_mapped().is_some()
        && net.prefix_len() >= 96
    {
        let help = "write the IPv4 prefix itself: mapped addresses never leave a host";
        return Err((format!("{word:?} is an IPv4-mapped prefix"), help.into()));
    }
    if net.trunc() != net {
        return Err((
            format!("{word:?} has bits set beyond its length"),
            format!("the prefix is {:?}", net.trunc().to_string()),
        ));
    }
    Ok(net)
}

/// Whether a word is meant as a name, rightly written or not.
pub fn is_name(word: &str) -> bool {
    word.contains('.') && !word.contains(':') && word.chars().any(|letter| letter.is_alphabetic() || letter == '*')
}

/// A NAT64 prefix. Only after 96 bits do all 32 of the IPv4 address follow in one piece and to the end (RFC 6052, 2.2).
pub fn nat64(word: &str) -> Result<Ipv6Net, Wrong> {
    let help = "write an IPv6 prefix of 96 bits, which an IPv4 address follows: \"64:ff9b::/96\"";
    match prefix(word)? {
        IpNet::V6(net) if net.prefix_len() == 96 => Ok(net),
        IpNet::V6(net) => Err((format!("{word:?} has {} bits, not 96", net.prefix_len()), help.into())),
        IpNet::V4(_) => Err((format!("{word:?} is an IPv4 prefix"), help.into())),
    }
}

/// Which packets of a protocol: `tcp/443`, `udp/3478-3497`, `tcp`, `icmp/8`, `icmp/3/4`, `icmpv6/128`, `proto/47`, `any`.
pub fn port(word: &str) -> Result<PortMatch, Wrong> {
    let (protocol, rest) = word.split_once('/').map_or((word, None), |(protocol, rest)| (protocol, Some(rest)));
    let transport = |transport| match rest {
        None => Ok(PortMatch::Ports { transport, first: 0, last: u16::MAX }),
        Some(range) => ports(word, transport, range),
    };
    match protocol {
        "any" if rest.is_none() => Ok(PortMatch::Any),
        "tcp" => transport(Transport::Tcp),
        "udp" => transport(Transport::Udp),
        "sctp" => transport(Transport::Sctp),
        "udplite" => transport(Transport::UdpLite),
        "icmp" => icmp(word, rest).map(|(kind, code)| PortMatch::Icmp { kind, code }),
        "icmpv6" => icmp(word, rest).map(|(kind, code)| PortMatch::Icmpv6 { kind, code }),
        "proto" => protocol_number(word, rest),
        _ => Err((
            format!("{word:?} is not a port"),
            "write for example \"tcp/443\", \"udp/3478-3497\", \"sctp\", \"udplite\", \"icmp/8\", \"icmpv6/128\", \"proto/47\" or \"any\"".into(),
        )),
    }
}

fn ports(word: &str, transport: Transport, range: &str) -> Result<PortMatch, Wrong> {
    let help = format!("ports are 0 to 65535: \"{transport}/443\", or a range \"{transport}/3478-3497\"");
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Some(first), Some(last)) = (number::<u16>(first), number::<u16>(last)) else {
        return Err((format!("{word:?} has no valid port"), help));
    };
    if first > last {
        return Err((format!("{word:?} is an empty range"), format!("write \"{transport}/{last}-{first}\"")));
    }
    Ok(PortMatch::Ports { transport, first, last })
}

fn icmp(word: &str, rest: Option<&str>) -> Result<(Option<u8>, Option<u8>), Wrong> {
    let Some(rest) = rest else { return Ok((None, None)) };
    let (kind, code) = rest.split_once('/').map_or((rest, None), |(kind, code)| (kind, Some(code)));
    let wrong = || {
        (
            format!("{word:?} has no valid type or code"),
            "types and codes are 0 to 255: \"icmp/8\" or \"icmp/3/4\"".into(),
        )
    };
    let kind = number::<u8>(kind).ok_or_else(wrong)?;
    let code = code.map(|code| number::<u8>(code).ok_or_else(wrong)).transpose()?;
    Ok((Some(kind), code))
}

fn protocol_number(word: &str, rest: Option<&str>) -> Result<PortMatch, Wrong> {
    const HEADERS: &str = "name the protocol behind it: IPv6 extension headers are looked through";
    let Some(number) = rest.and_then(number::<u8>) else {
        return Err((
            format!("{word:?} has no valid protocol number"),
            "protocol numbers are 0 to 255: \"proto/47\" is GRE".into(),
        ));
    };
    let better = match number {
        1 => "write \"icmp\"",
        6 => "write \"tcp\"",
        17 => "write \"udp\"",
        58 => "write \"icmpv6\"",
        132 => "write \"sctp\"",
        136 => "write \"udplite\"",
        0 | 43 | 44 | 60 => HEADERS,
        _ => return Ok(PortMatch::Protocol(number)),
    };
    Err((format!("{word:?} has a word of its own or no packets"), better.into()))
}

/// Digits alone: no sign, no spaces.
pub fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// An action among those that are possible here.
pub fn action(word: &str, possible: &[Action]) -> Result<Action, Wrong> {
    possible.iter().copied().find(|&action| name(action) == word).ok_or_else(|| {
        let names: Vec<String> = possible.iter().map(|&action| format!("{:?}", name(action))).collect();
        let mut help = format!("write {}", names.join(" or "));
        if word == name(Action::Monitor) {
            help += "; with monitor = true, in the rule or for the whole policy, what it denies is counted and passes";
        }
        (format!("{word:?} is not an action here"), help)
    })
}

/// An action as it is written.
#[must_use]
pub const fn name(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reject => "reject",
        Action::Monitor => "monitor",
    }
}

/// What a question is answered with.
pub fn decision(word: &str) -> Result<Decision, Wrong> {
    const ALL: [Decision; 4] = [Decision::Forward, Decision::NxDomain, Decision::Zero, Decision::Refuse];
    ALL.into_iter().find(|&decision| answer(decision) == word).ok_or_else(|| {
        let help = match nearest(word, ALL.into_iter().map(answer)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write \"nxdomain\" (no such name), \"zero\" (0.0.0.0 and ::), \"refused\" or \"forward\"".into(),
        };
        (format!("{word:?} is not an answer"), help)
    })
}

/// What a question is answered with, as it is written.
#[must_use]
pub const fn answer(decision: Decision) -> &'static str {
    match decision {
        Decision::Forward => "forward",
        Decision::NxDomain => "nxdomain",
        Decision::Zero => "zero",
        Decision::Refuse => "refused",
    }
}

/// The known word that a mistyped one most likely means, if one is near.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}
