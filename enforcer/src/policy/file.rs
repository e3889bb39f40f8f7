//! The policy file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use ipnet::IpNet;
use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    diagnostics::Diagnostics,
    model::{Action, Policy, PortMatch, Rule, Rules, Service, ServiceId},
    reader::{self, FileError, Reader},
    words,
};
use crate::catalog::{self, Catalogs, Pattern};

const ALL: &[Action] = &[Action::Allow, Action::Drop, Action::Reject];
const PASS_OR_DROP: &[Action] = &[Action::Allow, Action::Drop];

impl Policy {
    /// Reads and parses a file, with the catalogues beside it.
    ///
    /// # Errors
    /// If it or a catalogue cannot be read or has mistakes.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = reader::read(path)?;
        Ok(Self::parse(&path.display().to_string(), &text, &Catalogs::beside(path)?)?)
    }

    /// Parses a policy's text, whose rules may name services of catalogues; `name` is what mistakes are reported for.
    ///
    /// # Errors
    /// All mistakes that can be told apart, in the order of the file.
    pub fn parse(name: &str, text: &str, catalogs: &Catalogs) -> Result<Self, Diagnostics> {
        Reader::read(name, text, |reader, root| {
            let mut reader = PolicyReader {
                reader,
                catalogs,
                defined: Vec::new(),
                services: HashMap::new(),
                unresolved: BTreeMap::new(),
            };
            let policy = reader.policy(root);
            (reader.reader, policy)
        })
    }
}

struct PolicyReader<'a> {
    reader: Reader<'a>,
    catalogs: &'a Catalogs,
    /// The policy's own services, then those of catalogues, as rules name them.
    defined: Vec<Service>,
    /// A catalogue's service may be several here, or none, if all of its hosts are names.
    services: HashMap<String, Vec<ServiceId>>,
    unresolved: BTreeMap<String, Vec<Pattern>>,
}

impl PolicyReader<'_> {
    fn policy(&mut self, table: &DeTable<'_>) -> Policy {
        const KEYS: &[&str] = &[
            "default",
            "sources",
            "fragments",
            "malformed",
            "non-ip",
            "unlisted",
            "service",
            "rule",
            "router",
            "inbound",
        ];
        self.reader.known(table, KEYS);
        self.defined = self.services(table);
        if !table.contains_key("default") {
            let help = "write default = \"drop\" in the first line: what happens to packets that no rule matches";
            self.reader.wrong(0..0, "the policy has no default", help);
        }
        let default = self.action(table, "default", ALL, Action::Drop);
        let rules = self.rules(table, "rule", ALL, true);
        let router = self.section(table, "router", ALL, Action::Allow, false);
        let inbound = self.section(table, "inbound", PASS_OR_DROP, Action::Drop, true);
        if inbound.default == Action::Allow
            && let Some(value) = table.get("inbound")
        {
            let help = "replies to connections from outside pass only where a rule names them: leave the default out";
            self.reader.wrong(value.span(), "the inbound default cannot be \"allow\"", help);
        }
        Policy {
            services: std::mem::take(&mut self.defined),
            unresolved: std::mem::take(&mut self.unresolved),
            lan: Rules { default, rules },
            router,
            inbound,
            strict_sources: self.strict(table),
            fragments: self.action(table, "fragments", PASS_OR_DROP, Action::Drop),
            malformed: self.action(table, "malformed", PASS_OR_DROP, Action::Drop),
            non_ip: self.action(table, "non-ip", PASS_OR_DROP, Action::Drop),
            unlisted: self.action(table, "unlisted", PASS_OR_DROP, Action::Drop),
            ..Policy::default()
        }
    }

    fn strict(&mut self, table: &DeTable<'_>) -> bool {
        let Some(value) = table.get("sources") else { return true };
        match value.get_ref().as_str() {
            Some("strict") => true,
            Some("any") => false,
            _ => {
                let help = "write \"strict\" (sources must belong behind their interface) or \"any\"";
                self.reader.wrong(value.span(), "not a word for sources", help);
                true
            }
        }
    }

    fn action(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], absent: Action) -> Action {
        let Some(value) = table.get(key) else { return absent };
        let Some(word) = self.reader.string(value) else { return absent };
        match words::action(&word, possible) {
            Ok(action) => action,
            Err((message, help)) => {
                self.reader.wrong(value.span(), message, help);
                absent
            }
        }
    }

    fn section(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], absent: Action, from: bool) -> Rules {
        let Some(value) = table.get(key) else { return Rules { default: absent, rules: Vec::new() } };
        let Some(section) = value.get_ref().as_table() else {
            self.reader.wrong(value.span(), format!("{key:?} is a table"), format!("write [{key}] and its keys below"));
            return Rules { default: absent, rules: Vec::new() };
        };
        self.reader.known(section, &["default", "rule"]);
        let default = self.action(section, "default", possible, absent);
        Rules { default, rules: self.rules(section, "rule", possible, from) }
    }

    fn services(&mut self, table: &DeTable<'_>) -> Vec<Service> {
        let mut services = Vec::new();
        for (span, service) in self.reader.tables(table, "service") {
            self.reader.known(service, &["name", "to", "ports"]);
            let Some(name) = self.reader.name(service, &span, "a service") else { continue };
            let number = ServiceId(services.len() as u32);
            if self.services.insert(name.clone(), vec![number]).is_some() {
                let at = service.get("name").map_or(span.clone(), Spanned::span);
                self.reader.wrong(
                    at,
                    format!("there is already a service {name:?}"),
                    "give each service a name of its own",
                );
            }
            let to = self.reader.prefixes(service, "to").unwrap_or_else(|| {
                self.reader.wrong(
                    span.clone(),
                    format!("service {name:?} has no destinations"),
                    "write to = [\"17.0.0.0/8\"] or to = [\"any\"]",
                );
                Vec::new()
            });
            let ports = match service.get("ports") {
                Some(value) => self.reader.ports(value),
                None => vec![PortMatch::Any],
            };
            services.push(Service { name, to, ports });
        }
        services
    }

    fn rules(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], from: bool) -> Vec<Rule> {
        let keys: &[&str] =
            if from { &["name", "action", "services", "from"] } else { &["name", "action", "services"] };
        let mut names: HashMap<String, ()> = HashMap::new();
        let mut rules = Vec::new();
        for (span, rule) in self.reader.tables(table, key) {
            self.reader.known(rule, keys);
            let name = if rule.contains_key("name") { self.reader.name(rule, &span, "a rule") } else { None };
            if let Some(name) = &name
                && names.insert(name.clone(), ()).is_some()
            {
                let at = rule.get("name").map_or(span.clone(), Spanned::span);
                self.reader.wrong(
                    at,
                    format!("there is already a rule {name:?}"),
                    "give each rule a name of its own, or none",
                );
            }
            if !rule.contains_key("action") {
                self.reader.wrong(
                    span.clone(),
                    "the rule has no action",
                    "write action = \"allow\" or action = \"drop\"",
                );
            }
            let action = self.action(rule, "action", possible, Action::Drop);
            let mut unresolved = Vec::new();
            rules.push(Rule {
                line: self.reader.line(span.start),
                name,
                services: self.named(rule, &mut unresolved),
                unresolved,
                from: if from { self.reader.prefixes(rule, "from") } else { None },
                ..Rule::new(action)
            });
        }
        rules
    }

    fn named(&mut self, rule: &DeTable<'_>, unresolved: &mut Vec<String>) -> Option<Vec<ServiceId>> {
        let value = rule.get("services")?;
        let mut services: Vec<ServiceId> = Vec::new();
        let mut named = HashSet::new();
        for (span, word) in self.reader.strings(value, "services", "[\"apple/apns\"]") {
            if !named.insert(word.clone()) {
                self.reader.wrong(span, format!("{word:?} is named twice"), "once is enough");
                continue;
            }
            if let Some(own) = self.services.get(&word) {
                services.extend(own.iter().filter(|&id| !services.contains(id)).copied().collect::<Vec<_>>());
                continue;
            }
            let found = self.catalogs.find(&word);
            if found.is_empty() {
                let known: Vec<String> = self.services.keys().cloned().chain(self.catalogs.words()).collect();
                let help = match words::nearest(&word, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "define it: [[service]] with name, to and ports; or name one of `enforcer services`".into(),
                };
                self.reader.wrong(span, format!("there is no service {word:?}"), help);
            }
            for (catalog, service) in found {
                let name = format!("{}/{}", catalog.name, service.name);
                let ids = self.of_catalog(&name, service);
                if self.unresolved.contains_key(&name) && !unresolved.contains(&name) {
                    unresolved.push(name);
                }
                services.extend(ids.into_iter().filter(|id| !services.contains(id)).collect::<Vec<_>>());
            }
        }
        Some(services)
    }

    /// A catalogue's service as the policy's own: as few as its prefixes and ports allow.
    fn of_catalog(&mut self, name: &str, service: &catalog::Service) -> Vec<ServiceId> {
        if let Some(known) = self.services.get(name) {
            return known.clone();
        }
        let mut parts: Vec<(Vec<IpNet>, Vec<PortMatch>)> = Vec::new();
        for entry in &service.entries {
            let mut to: Vec<IpNet> = entry.hosts.iter().filter_map(catalog::Host::prefix).collect();
            to.sort_unstable();
            match parts.iter_mut().find(|(other, ports)| *other == to || *ports == entry.ports) {
                _ if to.is_empty() => {}
                Some((other, ports)) if *other == to => ports.extend(&entry.ports),
                Some((other, _)) => other.extend(to),
                None => parts.push((to, entry.ports.clone())),
            }
        }
        let names: Vec<Pattern> = service.names().cloned().collect();
        if !names.is_empty() {
            self.unresolved.insert(name.to_owned(), names);
        }
        let mut ids = Vec::new();
        for (index, (mut to, mut ports)) in parts.into_iter().enumerate() {
            to.sort_unstable();
            to.dedup();
            ports.sort_unstable();
            ports.dedup();
            ids.push(ServiceId(self.defined.len() as u32));
            let name = if index == 0 { name.to_owned() } else { format!("{name}.{}", index + 1) };
            self.defined.push(Service { name, to, ports });
        }
        self.services.insert(name.to_owned(), ids.clone());
        ids
    }
}
