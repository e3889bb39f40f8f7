//! Rules that allow more than one service is likely to need.

use super::{Advice, called};
use crate::policy::{Action, Policy, PortMatch, Rule, Rules, Service};

/// Prefixes shorter than these are more than any one organisation's.
const SHORTEST: [u8; 2] = [8, 16];

/// Warnings about rules that allow everything, or a service that is nearly everything.
pub fn rules(policy: &Policy, rules: &Rules) -> Vec<Advice> {
    let mut advice = Vec::new();
    // What is exempt is meant to be wide.
    let meant = |rule: &&Rule| rule.action == Action::Allow && !rule.exempts();
    for rule in rules.rules.iter().filter(meant) {
        let Some(services) = &rule.services else {
            let message = format!("{} allows every destination and port", called(rule));
            advice.push(Advice::new(
                Some(rule),
                message,
                "name the services that are meant: services = [\"apple/apns\"]",
            ));
            continue;
        };
        for service in services.iter().map(|id| &policy.services[id.0 as usize]) {
            if let Some(width) = width(service) {
                let message = format!("{} allows service {}, which is open to {width}", called(rule), service.name);
                let help = format!("give service {} the prefixes and ports that are meant", service.name);
                advice.push(Advice::new(Some(rule), message, help));
            }
        }
    }
    advice
}

/// What is wide about a service, if anything is.
fn width(service: &Service) -> Option<String> {
    let short = service.to.iter().find(|net| net.prefix_len() < SHORTEST[usize::from(net.addr().is_ipv6())]);
    let ports = service.ports.contains(&PortMatch::Any);
    match short {
        Some(net) if net.prefix_len() == 0 => {
            Some(if ports { "every destination and port" } else { "every destination" }.into())
        }
        Some(net) if ports => Some(format!("{net} on every port")),
        Some(net) => Some(net.to_string()),
        None if service.names.is_empty() => ports.then(|| "every port".into()),
        None => ports.then(|| "every port of its names' addresses".into()),
    }
}
