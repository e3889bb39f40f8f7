//! A proxy auto-configuration file: which of the policy's proxies a browser asks for a URL, if any.

use std::{collections::BTreeSet, fmt::Write as _};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{Export, Refusal, head, ports, sets};
use crate::policy::{Action, Policy, Proxied, Rule, Service, ServiceId};

/// The type that browsers expect it to be of.
pub const MEDIA_TYPE: &str = "application/x-ns-proxy-autoconfig";
/// What finds a rule's answer in the data that comes before it; the language of 1999, which all evaluators know.
const FUNCTIONS: &str = include_str!("pac.js");

/// The file: the first of the clients' rules that speaks of a URL decides. What is denied is asked for directly, as everything of which no rule speaks.
///
/// # Errors
/// If the policy names no proxy.
pub fn pac(policy: &Policy) -> Result<Export, Refusal> {
    if policy.proxies.is_empty() {
        return Err(Refusal::NoProxy);
    }
    let (policy, portal) = &super::admitted(policy.clone());
    let (mut rules, mut used, mut warnings) = (Vec::new(), BTreeSet::new(), Vec::from_iter(portal.clone()));
    for rule in &policy.lan.rules {
        let Some(answer) = Answer::of(policy, rule) else { continue };
        if rule.from.is_some() {
            let label = rule.label();
            warnings.push(format!(
                "rule {label:?} is about some clients, the file is for all: it takes the rule as about all"
            ));
        }
        match &rule.services {
            None if answer == Answer::Direct => rules.push(json!([null, "DIRECT"])),
            None => {}
            Some(services) => {
                for &id in services.iter().filter(|id| ports::tcp(&service(policy, **id).ports).is_some()) {
                    used.insert(id);
                    let answer = if answer == Answer::Proxy { proxies(policy, id) } else { "DIRECT".into() };
                    rules.push(json!([service(policy, id).name, answer]));
                }
            }
        }
    }
    for service in used.iter().map(|id| service(policy, *id)) {
        if service.to.iter().any(|net| net.addr().is_ipv6() && net.prefix_len() > 0) {
            warnings
                .push(format!("hosts that are IPv6 addresses are not known as those of service {:?}", service.name));
        }
    }
    let services: Map<String, Value> =
        used.into_iter().map(|id| (service(policy, id).name.clone(), data(service(policy, id)))).collect();
    let mut text = head("//", &["By which way to which host, written by `enforcer export pac`."], &warnings);
    writeln!(text, "var SERVICES = {{").expect("to memory");
    for (name, data) in services {
        writeln!(text, "    {}: {data},", Value::from(name)).expect("to memory");
    }
    // A comma behind the last one is an error to the oldest evaluators.
    text.truncate(text.trim_end_matches([',', '\n']).len());
    let rules: Vec<String> = rules.iter().map(|rule| format!("    {rule}")).collect();
    write!(text, "\n}};\nvar RULES = [\n{}\n];\n\n{FUNCTIONS}", rules.join(",\n")).expect("to memory");
    Ok(Export { text, warnings })
}

/// By which way a rule sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Direct,
    Proxy,
}

impl Answer {
    /// Nothing, if it says nothing of clients that could have the file.
    fn of(policy: &Policy, rule: &Rule) -> Option<Self> {
        match rule.proxied {
            Some(Proxied::Through) => Some(Self::Proxy),
            Some(Proxied::ToProxy | Proxied::FromProxy) => None,
            None if matches!(policy.effect(rule), Action::Drop | Action::Reject) && rule.from.is_some() => None,
            None => Some(Self::Direct),
        }
    }
}

fn service(policy: &Policy, id: ServiceId) -> &Service {
    &policy.services[id.0 as usize]
}

/// All that take a service, in the policy's order: the next one where one does not answer.
fn proxies(policy: &Policy, id: ServiceId) -> String {
    let proxies = policy.proxies.iter().filter(|proxy| proxy.services.contains(&id));
    proxies.map(|proxy| format!("PROXY {}", proxy.address)).collect::<Vec<_>>().join("; ")
}

fn data(service: &Service) -> Value {
    let names = |wildcard: bool| -> Map<String, Value> {
        let names = service.names.iter().filter(|name| name.is_wildcard() == wildcard);
        names.map(|name| (name.domain().to_owned(), Value::from(1))).collect()
    };
    let nets = sets::of_family(&service.to, false);
    let nets: Vec<Value> = nets
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(json!([net.network().to_string(), net.netmask().to_string()])),
            IpNet::V6(_) => None,
        })
        .collect();
    // By whatever family: a name may have addresses of both.
    let any = service.to.iter().any(|net| net.prefix_len() == 0);
    json!({ "ports": ports::tcp(&service.ports), "any": any, "names": names(false), "below": names(true), "nets": nets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    fn parsed(text: &str) -> Policy {
        Policy::parse("p", text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    const POLICY: &str = "default = \"drop\"\n[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"apple/apns\", \"web\"]\n\
                          [[proxy]]\naddress = \"fd00::5\"\nport = 8080\nservices = [\"web\"]\n\
                          [[service]]\nname = \"web\"\nto = [\"203.0.113.0/24\", \"www.example.org\"]\nports = [\"tcp/443\"]\n\
                          [[rule]]\naction = \"allow\"\nservices = [\"apple/apns\", \"web\"]\n";

    #[test]
    fn rules_come_in_their_order_with_the_way_that_they_name() {
        let text = pac(&parsed(POLICY)).expect("exported").text;
        let (_, rules) = text.split_once("var RULES = [\n").expect("rules");
        let (rules, _) = rules.split_once("\n];").expect("their end");
        let wanted = [
            r#"    ["apple/apns","DIRECT"]"#,
            r#"    ["apple/apns.2","PROXY 10.1.0.5:3128"]"#,
            r#"    ["web","PROXY 10.1.0.5:3128; PROXY [fd00::5]:8080"]"#,
            r#"    ["apple/apns.3","DIRECT"]"#,
        ];
        assert_eq!(rules.split(",\n").collect::<Vec<_>>(), wanted);
        let web = r#""web": {"any":false,"below":{},"names":{"www.example.org":1},"nets":[["203.0.113.0","255.255.255.0"]],"ports":[[443,443]]}"#;
        assert!(text.contains(web), "{text}");
    }

    #[test]
    fn a_policy_without_proxies_has_none_to_name() {
        assert_eq!(pac(&parsed("default = \"drop\"\n")), Err(Refusal::NoProxy));
    }
}
