//! Services: the policy's own, and those of catalogues that its rules name.

use std::{collections::BTreeMap, ops::Range};

use ipnet::IpNet;
use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{PortMatch, Service, ServiceId},
    words,
};
use crate::catalog::{self, Pattern};

impl PolicyReader<'_> {
    /// Takes the services that a file defines.
    pub fn services(&mut self, table: &DeTable<'_>) {
        for (span, service) in self.reader.tables(table, "service") {
            self.reader.known(service, keys::SERVICE);
            self.comment(service);
            let Some(name) = self.reader.name(service, &span, "a service") else { continue };
            let at = service.get("name").map_or(span.clone(), Spanned::span);
            let to = self.prefixes(service, "to").unwrap_or_else(|| {
                let help = "write to = [\"17.0.0.0/8\"] or to = [\"any\"]";
                self.reader.wrong(span, format!("service {name:?} has no destinations"), help);
                Vec::new()
            });
            for net in to.iter().filter(|net| self.nat64.iter().any(|outer| IpNet::from(*outer).contains(*net))) {
                let span = service.get("to").map_or(0..0, Spanned::span);
                let help =
                    "write the IPv4 prefix: addresses in nat64 are judged by the IPv4 address that they end with";
                self.reader.wrong(span, format!("{net} is behind the NAT64"), help);
            }
            let ports = match service.get("ports") {
                Some(value) => self.reader.ports(value),
                None => vec![PortMatch::Any],
            };
            self.define(Service { name, to, ports }, at);
        }
    }

    /// Takes a service that rules may name; its name is at `span`.
    pub fn define(&mut self, service: Service, span: Range<usize>) -> ServiceId {
        self.claim("service", &service.name, span);
        let id = ServiceId(self.defined.len() as u32);
        self.services.insert(service.name.clone(), vec![id]);
        self.defined.push(service);
        id
    }

    /// The services that a word of a rule means; those that have names go to `unresolved`, too.
    pub fn service(&mut self, span: Range<usize>, word: &str, unresolved: &mut Vec<String>) -> Vec<ServiceId> {
        let mut note = |name: &str, noted: &BTreeMap<String, Vec<Pattern>>| {
            if noted.contains_key(name) && !unresolved.iter().any(|known| known == name) {
                unresolved.push(name.to_owned());
            }
        };
        if let Some(known) = self.services.get(word) {
            note(word, &self.unresolved);
            return known.clone();
        }
        let found = self.catalogs.find(word);
        if found.is_empty() {
            let known: Vec<String> = self.services.keys().cloned().chain(self.catalogs.words()).collect();
            let help = match words::nearest(word, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "define it: [[service]] with name, to and ports; or name one of `enforcer services`".into(),
            };
            self.reader.wrong(span, format!("there is no service {word:?}"), help);
        }
        let mut ids = Vec::new();
        for (catalog, service) in found {
            let name = format!("{}/{}", catalog.name, service.name);
            ids.extend(self.of_catalog(&name, service));
            note(&name, &self.unresolved);
        }
        ids
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
