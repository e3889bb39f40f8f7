//! `[portal]`: clients that reach the portal, and nothing else, until they are admitted.
//!
//! It becomes two rules, behind what is exempt and before all others: one that allows the portal's services, and one that denies everything else to those who are
//! not admitted. Proxies are no clients of it: whoever reaches them is.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{Action, Rule, ServiceId},
    prefixes::without,
    proxies::Proxy,
    rules::LAN,
};

/// Names of the two rules.
const OPENS: &str = "portal";
const CLOSES: &str = "not-admitted";

/// The portal of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// Clients that are to be admitted, among which proxies may be, which need not; `None` is all.
    pub from: Option<Vec<IpNet>>,
    /// What they reach until they are, and then still.
    pub services: Vec<ServiceId>,
    /// What becomes of everything else: drop or reject.
    pub action: Action,
}

/// What a rule that nobody has written has to do with the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It lets clients reach the portal.
    Opens,
    /// It denies everything else, to those alone who are not admitted.
    Closes,
}

impl Rule {
    /// Whether it speaks of clients alone that are not admitted.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.gate == Some(Gate::Closes)
    }
}

impl PolicyReader<'_> {
    /// Takes a policy's portal, and gives its rules their place among the clients': before all that are not exempt from it.
    pub fn portal(&mut self, table: &DeTable<'_>, proxies: &[Proxy], rules: &mut Vec<Rule>) -> Option<Portal> {
        const ACTIONS: &[Action] = &[Action::Reject, Action::Drop];
        let span = table.get("portal")?.span();
        let portal = self.reader.table(table, "portal")?;
        self.reader.known(portal, keys::PORTAL);
        self.comment(portal);
        if !portal.contains_key("services") {
            let help =
                "write services = [\"apple/device-setup\", \"portal\"]: what clients reach before they are admitted";
            self.reader.wrong(span.clone(), "the portal has no services", help);
        }
        [OPENS, CLOSES].iter().for_each(|name| self.claim(LAN.kind, name, span.clone()));
        let portal = Portal {
            from: self.prefixes(portal, "from"),
            services: self.named(portal).unwrap_or_default(),
            action: self.action(portal, "action", ACTIONS, Action::Reject),
        };
        let line = self.reader.line(span.start);
        let rule = |name: &str, action, gate| Rule {
            name: Some(name.into()),
            line,
            from: portal.from.clone(),
            gate: Some(gate),
            ..Rule::new(action)
        };
        let opens = Rule { services: Some(portal.services.clone()), ..rule(OPENS, Action::Allow, Gate::Opens) };
        let mut closes = rule(CLOSES, portal.action, Gate::Closes);
        if !proxies.is_empty() {
            let all = || vec![Ipv4Net::default().into(), Ipv6Net::default().into()];
            let proxies = proxies.iter().map(|proxy| IpNet::from(proxy.address.ip()));
            let but_proxies = closes.from.unwrap_or_else(all).into_iter().flat_map(|net| without(net, proxies.clone()));
            closes.from = Some(but_proxies.collect());
        }
        let exempt = rules.iter().take_while(|rule| rule.exempts()).count();
        rules.splice(exempt..exempt, [opens, closes]);
        Some(portal)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::{
        catalog::Catalogs,
        policy::{Policy, words},
    };

    const POLICY: &str = r#"
default = "drop"
[portal]
services = ["login"]
from = ["10.1.0.0/16"]
[exempt]
from = ["10.1.0.9"]
[[service]]
name = "login"
to = ["203.0.113.9"]
ports = ["tcp/443"]
[[service]]
name = "web"
to = ["198.51.100.0/24"]
ports = ["tcp/443"]
[[rule]]
name = "web"
action = "allow"
services = ["web"]
"#;

    const PROXY: &str = "[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"web\"]\n";

    fn labels(text: &str) -> Vec<String> {
        let policy = Policy::parse("p", text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let shown = policy.lan.rules.iter().map(|rule| {
            let from = rule.from.as_ref().map_or("*".into(), |from| from[0].to_string());
            format!("{} {} {from}", rule.label(), words::name(rule.action))
        });
        shown.collect()
    }

    #[test]
    fn the_portal_comes_behind_what_is_exempt_and_before_all_else() {
        assert_eq!(
            labels(POLICY),
            [
                "exempt-from allow 10.1.0.9/32",
                "portal allow 10.1.0.0/16",
                "not-admitted reject 10.1.0.0/16",
                "web allow *"
            ]
        );
    }

    #[test]
    fn proxies_are_reached_by_those_alone_who_are_admitted() {
        assert_eq!(
            labels(&format!("{POLICY}{PROXY}"))[..4],
            [
                "exempt-from allow 10.1.0.9/32",
                "portal allow 10.1.0.0/16",
                "not-admitted reject 10.1.128.0/17",
                "web.to-proxy allow *"
            ]
        );
    }

    #[test]
    fn proxies_need_no_admission() {
        for (from, others) in [("", true), ("from = [\"10.1.0.0/16\"]", true), ("from = [\"10.1.0.5\"]", false)] {
            let text = format!("{POLICY}{PROXY}").replace("from = [\"10.1.0.0/16\"]", from);
            let policy =
                Policy::parse("p", &text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            let closes = policy.lan.rules.iter().find(|rule| rule.closes()).expect("a portal");
            let concerns = |address: &str| {
                let address: IpAddr = address.parse().expect("an address");
                closes.from.as_ref().expect("but proxies").iter().any(|net| net.contains(&address))
            };
            assert_eq!(["10.1.0.4", "10.1.0.5", "10.1.0.6"].map(concerns), [others, false, others], "{from}");
        }
    }
}
