//! `[[proxy]]`: by which proxies clients reach services.
//!
//! A rule that allows what works through a proxy becomes several: what else it names is allowed as it was, its clients may reach the proxies that take
//! some of it, the proxies themselves are allowed what they take, everybody else is refused what works through them, and what is allowed at large, by prefixes
//! or an asterisk above, comes last.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{Action, PortMatch, Rule, Service, ServiceId, Transport},
};
use crate::catalog::Pattern;

/// A proxy that clients use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// The same as a service.
    pub own: ServiceId,
    /// What clients reach through it.
    pub services: Vec<ServiceId>,
}

/// What a rule that nobody has written has to do with proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// It lets a rule's clients reach the proxies, when the rule applies.
    ToProxy,
    /// It lets the proxies reach what is reached through them.
    FromProxy,
    /// It keeps all others from that: a rule allows it, through a proxy.
    Through,
}

/// What of services works through a proxy, and what does not.
#[derive(Default)]
pub struct Parts {
    /// Catalogues' services are cut in two, while proxies are read.
    pub cut: bool,
    /// Those of which a proxy takes everything.
    pub through: Vec<ServiceId>,
    /// The rest of the services that proxies are for.
    pub direct: Vec<ServiceId>,
}

impl PolicyReader<'_> {
    /// Takes a policy's proxies; comes before its rules, as they are about the services' parts.
    pub fn proxies(&mut self, table: &DeTable<'_>) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        let defined = self.defined.len();
        for (number, (span, proxy)) in (1..).zip(self.reader.tables(table, "proxy")) {
            self.reader.known(proxy, keys::PROXY);
            self.comment(proxy);
            for (key, help) in [
                ("address", "write address = \"10.1.0.5\""),
                ("port", "write port = 3128"),
                ("services", "write services = [\"apple/*\"]: what clients reach through it"),
            ] {
                if !proxy.contains_key(key) {
                    self.reader.wrong(span.clone(), format!("the proxy has no {key}"), help);
                }
            }
            let (address, port) = (self.proxy_address(proxy), self.proxy_port(proxy));
            let services = self.through_proxy(proxy, defined);
            let (Some(address), Some(port)) = (address, port) else { continue };
            let address = SocketAddr::new(address, port);
            let own = Service {
                name: format!("proxy-{number}"),
                to: vec![address.ip().into()],
                names: Vec::new(),
                ports: vec![PortMatch::Ports { transport: Transport::Tcp, first: port, last: port }],
            };
            let own = self.define(own, span);
            proxies.push(Proxy { address, own, services });
        }
        // What rules alone name goes directly, as a whole.
        self.parts.cut = false;
        proxies
    }

    fn proxy_address(&mut self, proxy: &DeTable<'_>) -> Option<IpAddr> {
        let value = proxy.get("address")?;
        let word = self.reader.string(value)?;
        let address = word.parse().ok().filter(|address: &IpAddr| !is_nobody(address));
        if address.is_none() {
            let help = "write its IPv4 or IPv6 address: \"10.1.0.5\"; rules are about addresses";
            self.reader.wrong(value.span(), format!("{word:?} is no proxy's address"), help);
        }
        address
    }

    fn proxy_port(&mut self, proxy: &DeTable<'_>) -> Option<u16> {
        let value = proxy.get("port")?;
        let number = value.get_ref().as_integer().and_then(|n| u16::from_str_radix(n.as_str(), n.radix()).ok());
        let port = number.filter(|port| *port > 0);
        if port.is_none() {
            self.reader.wrong(value.span(), "not a port", "write a TCP port, without quotes: port = 3128");
        }
        port
    }

    /// The parts of its services that work through it; the first so many services are the policy's own.
    fn through_proxy(&mut self, proxy: &DeTable<'_>, own: usize) -> Vec<ServiceId> {
        let Some(value) = proxy.get("services") else { return Vec::new() };
        self.parts.cut = true;
        let mut through = Vec::new();
        for (span, word) in self.reader.strings(value, "services", "[\"apple/*\"]") {
            for id in self.service(span.clone(), &word) {
                let service = &self.defined[id.0 as usize];
                let by_tcp = service.ports.iter().all(is_tcp);
                // Services of one's own are there already, and are taken as they are.
                if (id.0 as usize) < own {
                    if !by_tcp {
                        let help = "give it TCP ports alone: ports = [\"tcp/443\"]; the rest is another service";
                        self.reader.wrong(span.clone(), format!("proxies take TCP, not all of {word:?}"), help);
                    }
                    push(&mut self.parts.through, id);
                }
                if self.parts.through.contains(&id) {
                    push(&mut through, id);
                } else {
                    push(&mut self.parts.direct, id);
                }
            }
        }
        through
    }

    /// The rules with proxies between clients and services.
    pub fn behind_proxies(&self, rules: Vec<Rule>, proxies: &[Proxy], default: Action) -> Vec<Rule> {
        if proxies.is_empty() {
            return rules;
        }
        let mut all = Vec::new();
        let (exempt, written): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(Rule::exempts);
        all.extend(exempt);
        for rule in written {
            if rule.action == Action::Allow {
                self.through(&mut all, &rule, proxies);
            } else {
                all.push(rule);
            }
        }
        if default == Action::Allow {
            let rest = Rule { name: Some("default".into()), ..Rule::new(Action::Allow) };
            self.through(&mut all, &rest, proxies);
            all.pop();
        }
        all
    }

    /// A rule that allows, as several.
    fn through(&self, all: &mut Vec<Rule>, rule: &Rule, proxies: &[Proxy]) {
        let Parts { through, direct, .. } = &self.parts;
        let (through, rest): (Vec<ServiceId>, Vec<ServiceId>) = match &rule.services {
            None => (through.clone(), direct.clone()),
            Some(services) => services.iter().partition(|id| through.contains(id)),
        };
        let called = |what: &str| {
            let label =
                rule.label().replace(|letter: char| !letter.is_ascii_alphanumeric() && !"-_./".contains(letter), "-");
            Some(format!("{label}.{what}"))
        };
        let part = |services| Rule { services: Some(services), ..rule.clone() };
        if through.is_empty() {
            all.push(rule.clone());
            return;
        }
        // What is direct by names of its own comes first, as another name may have the same address; what is so at large must not open what has a proxy.
        let (at_large, named): (Vec<ServiceId>, Vec<ServiceId>) =
            rest.into_iter().partition(|id| self.is_at_large(*id));
        if !named.is_empty() {
            let name = if rule.services.is_some() { rule.name.clone() } else { called("direct") };
            all.push(Rule { name, ..part(named) });
        }
        let used: Vec<&Proxy> =
            proxies.iter().filter(|proxy| proxy.services.iter().any(|id| through.contains(id))).collect();
        let reached = |id: &ServiceId| all.iter().any(|earlier| lets_reach(earlier, *id, rule));
        let own: Vec<ServiceId> = used.iter().map(|proxy| proxy.own).filter(|id| !reached(id)).collect();
        if !own.is_empty() {
            all.push(Rule { name: called("to-proxy"), proxied: Some(Proxied::ToProxy), ..part(own) });
        }
        // What they fetch is for the rule's clients, wherever they are themselves.
        let mut fetching: Vec<(Vec<ServiceId>, Vec<IpNet>)> = Vec::new();
        for proxy in used {
            let services = through.iter().copied().filter(|id| proxy.services.contains(id)).collect();
            match fetching.iter_mut().find(|(same, _)| *same == services) {
                Some((_, from)) => from.push(proxy.address.ip().into()),
                None => fetching.push((services, vec![proxy.address.ip().into()])),
            }
        }
        for (number, (services, from)) in (1..).zip(fetching) {
            let name = if number == 1 { called("proxy") } else { called(&format!("proxy-{number}")) };
            all.push(Rule { name, from: Some(from), proxied: Some(Proxied::FromProxy), ..part(services) });
        }
        let (name, proxied) = (called("through-proxy"), Some(Proxied::Through));
        all.push(Rule { name, action: Action::Reject, proxied, ..part(through) });
        if rule.services.is_none() {
            all.push(rule.clone());
        } else if !at_large.is_empty() {
            all.push(Rule { name: called("direct"), ..part(at_large) });
        }
    }

    /// Whether a service takes, beside its own, what works through proxies: by prefixes, or by an asterisk above.
    fn is_at_large(&self, id: ServiceId) -> bool {
        let service = &self.defined[id.0 as usize];
        let proxied = || self.parts.through.iter().flat_map(|id| &self.defined[id.0 as usize].names);
        let above = |name: &Pattern| {
            let below = format!(".{}", name.domain());
            name.is_wildcard() && proxied().any(|other| other.domain().ends_with(&below))
        };
        !service.to.is_empty() || service.names.iter().any(above)
    }
}

/// Whether an address is none that clients reach a proxy by.
fn is_nobody(address: &IpAddr) -> bool {
    let is_other = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    is_other || address.is_unspecified() || address.is_multicast() || address.is_loopback()
}

/// Whether a rule before another lets all that one's clients reach a proxy, at all of its times.
fn lets_reach(earlier: &Rule, proxy: ServiceId, rule: &Rule) -> bool {
    let within = |net: &IpNet| earlier.from.as_ref().is_none_or(|from| from.iter().any(|wide| wide.contains(net)));
    earlier.proxied == Some(Proxied::ToProxy)
        && earlier.services.as_ref().is_some_and(|services| services.contains(&proxy))
        && (earlier.when.is_none() || earlier.when == rule.when)
        && rule.from.as_ref().map_or(earlier.from.is_none(), |from| from.iter().all(within))
}

fn push(ids: &mut Vec<ServiceId>, id: ServiceId) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}

/// Whether it is some of TCP: all else goes by no proxy.
pub fn is_tcp(port: &PortMatch) -> bool {
    matches!(port, PortMatch::Ports { transport: Transport::Tcp, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::Catalogs,
        policy::{Policy, words},
    };

    const PROXY: &str = "[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"apple/apns\", \"web\"]\n\
                         [[service]]\nname = \"web\"\nto = [\"203.0.113.0/24\"]\nports = [\"tcp/443\"]\n";

    /// Rules in short: name, action, from, services with ports.
    fn rules(policy: &str) -> Vec<String> {
        let policy = Policy::parse("p", policy, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let shown = |rule: &Rule| {
            let services = rule.services.as_ref().map(|ids| {
                ids.iter().map(|id| policy.services[id.0 as usize].name.clone()).collect::<Vec<_>>().join(" ")
            });
            let from =
                rule.from.as_ref().map(|nets| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            format!(
                "{} {} {} {}",
                rule.label(),
                words::name(rule.action),
                from.unwrap_or("*".into()),
                services.unwrap_or("*".into())
            )
        };
        policy.lan.rules.iter().map(shown).collect()
    }

    #[test]
    fn what_works_through_a_proxy_goes_by_no_other_way() {
        let policy = format!(
            "default = \"drop\"\n{PROXY}[[rule]]\nname = \"apple\"\naction = \"allow\"\nservices = [\"apple/apns\", \"web\"]\nfrom = [\"10.1.0.0/24\"]\n"
        );
        assert_eq!(
            rules(&policy),
            [
                "apple allow 10.1.0.0/24 apple/apns",
                "apple.to-proxy allow 10.1.0.0/24 proxy-1",
                "apple.proxy allow 10.1.0.5/32 apple/apns.2 web",
                "apple.through-proxy reject 10.1.0.0/24 apple/apns.2 web",
                "apple.direct allow 10.1.0.0/24 apple/apns.3",
            ]
        );
    }

    #[test]
    fn a_rule_for_everything_and_a_default_that_allows_leave_no_way_around() {
        let policy = format!("default = \"allow\"\n{PROXY}[[rule]]\naction = \"allow\"\nfrom = [\"10.2.0.0/16\"]\n");
        assert_eq!(
            rules(&policy),
            [
                "line-10.direct allow 10.2.0.0/16 apple/apns",
                "line-10.to-proxy allow 10.2.0.0/16 proxy-1",
                "line-10.proxy allow 10.1.0.5/32 apple/apns.2 web",
                "line-10.through-proxy reject 10.2.0.0/16 apple/apns.2 web",
                "line-10 allow 10.2.0.0/16 *",
                "default.direct allow * apple/apns",
                "default.to-proxy allow * proxy-1",
                "default.proxy allow 10.1.0.5/32 apple/apns.2 web",
                "default.through-proxy reject * apple/apns.2 web",
            ]
        );
    }

    #[test]
    fn a_proxy_is_reached_by_those_and_when_a_rule_sends_through_it() {
        let services = "[[service]]\nname = \"video\"\nto = [\"192.0.2.0/24\"]\nports = [\"tcp/443\"]\n\
                        [[proxy]]\naddress = \"10.1.0.6\"\nport = 8080\nservices = [\"video\"]\n\
                        [[schedule]]\nname = \"lessons\"\nzone = \"Europe/Berlin\"\ntimes = [\"mon 08:00-13:00\"]\n";
        let rule = |name: &str, rest: &str| format!("[[rule]]\nname = \"{name}\"\naction = \"allow\"\n{rest}\n");
        let policy = [
            format!(
                "default = \"drop\"\n{PROXY}{services}[[rule]]\nname = \"guests\"\naction = \"drop\"\nfrom = [\"10.3.0.0/16\"]\n"
            ),
            rule("lessons", "services = [\"web\"]\nfrom = [\"10.2.0.0/16\"]\nwhen = \"lessons\""),
            rule("office", "services = [\"web\", \"video\"]\nfrom = [\"10.1.0.0/16\"]"),
            // Who may reach it by an earlier rule needs no other word.
            rule("printers", "services = [\"web\"]\nfrom = [\"10.1.7.0/24\"]"),
            rule("rest", "services = [\"apple/apns\"]\nfrom = [\"10.2.9.0/24\"]"),
        ];
        let policy = Policy::parse("p", &policy.concat(), &Catalogs::default()).unwrap_or_else(|m| panic!("{m}"));
        let to_proxy: Vec<_> = policy.lan.rules.iter().filter(|rule| rule.proxied == Some(Proxied::ToProxy)).collect();
        let shown = |rule: &&Rule| {
            let proxies = rule.services.as_ref().map_or(0, Vec::len);
            format!("{} {:?} {:?} {proxies}", rule.label(), rule.from, rule.when.is_some())
        };
        assert_eq!(
            to_proxy.iter().map(shown).collect::<Vec<_>>(),
            [
                "lessons.to-proxy Some([10.2.0.0/16]) true 1",
                "office.to-proxy Some([10.1.0.0/16]) false 2",
                // At other times than the lessons' it needs a word of its own.
                "rest.to-proxy Some([10.2.9.0/24]) false 1",
            ]
        );
        assert_eq!(policy.lan.rules[0].label(), "guests");
        // And fetches what is for it alone.
        let from_proxy = policy.lan.rules.iter().filter(|rule| rule.proxied == Some(Proxied::FromProxy));
        let shown = |rule: &Rule| {
            let services = rule.services.iter().flatten().map(|id| policy.services[id.0 as usize].name.as_str());
            format!("{} {:?} {}", rule.label(), rule.from, services.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            from_proxy.map(shown).collect::<Vec<_>>(),
            [
                "lessons.proxy Some([10.1.0.5/32]) web",
                "office.proxy Some([10.1.0.5/32]) web",
                "office.proxy-2 Some([10.1.0.6/32]) video",
                "printers.proxy Some([10.1.0.5/32]) web",
                "rest.proxy Some([10.1.0.5/32]) apple/apns.2",
            ]
        );
    }

    #[test]
    fn an_address_that_no_proxy_has_is_refused() {
        for address in [
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "255.255.255.255",
            "::ffff:10.1.0.5",
        ] {
            let text = format!("default = \"drop\"\n{}", PROXY.replace("10.1.0.5", address));
            let mistakes = Policy::parse("p", &text, &Catalogs::default()).expect_err(address).to_string();
            assert!(mistakes.contains("is no proxy's address"), "{address}: {mistakes}");
        }
    }

    #[test]
    fn a_service_that_no_proxy_takes_goes_directly_as_a_whole() {
        let proxy = PROXY.replace("\"apple/apns\", ", "");
        let rule = "[[rule]]\nname = \"push\"\naction = \"allow\"\nservices = [\"apple/apns\"]\n";
        let without = PROXY.split_once("[[service]]").expect("a service").1;
        let without = format!("default = \"drop\"\n[[service]]{without}{rule}");
        assert_eq!(rules(&format!("default = \"drop\"\n{proxy}{rule}")), rules(&without));
        let denied = rule.replace("allow", "drop");
        let through = rules(&format!("default = \"allow\"\n{proxy}{denied}"));
        assert!(through.iter().all(|rule| !rule.contains("apple/apns") || rule.starts_with("push ")), "{through:?}");
    }

    #[test]
    fn a_service_of_ones_own_is_so_whatever_its_name() {
        let policy = format!(
            "default = \"drop\"\n{}[[rule]]\naction = \"allow\"\nservices = [\"corp/web\"]\n",
            PROXY.replace("\"web\"", "\"corp/web\"")
        );
        let rules = rules(&policy);
        assert!(rules.iter().any(|rule| rule.ends_with("reject * corp/web")), "{rules:?}");
    }

    #[test]
    fn mistakes_about_proxies_are_told() {
        let cases = [
            ("port = 3128\nservices = [\"apple/apns\"]", "no address"),
            ("address = \"proxy.example.org\"\nport = 3128\nservices = [\"apple/apns\"]", "no proxy's address"),
            ("address = \"10.1.0.5\"\nport = 0\nservices = [\"apple/apns\"]", "not a port"),
            ("address = \"10.1.0.5\"\nport = 3128", "no services"),
            (
                "address = \"10.1.0.5\"\nport = 3128\nservices = [\"time\"]\n[[service]]\nname = \"time\"\nto = [\"any\"]\nports = [\"udp/123\"]",
                "proxies take TCP",
            ),
        ];
        for (text, message) in cases {
            let text = format!("default = \"drop\"\n[[proxy]]\n{text}\n");
            let mistakes = Policy::parse("p", &text, &Catalogs::default()).expect_err(message);
            assert!(mistakes.to_string().contains(message), "{mistakes}");
        }
    }
}
