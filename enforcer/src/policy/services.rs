//! Services: the policy's own, and those of catalogues that its rules name.

use std::{collections::BTreeSet, ops::Range};

use ipnet::IpNet;
use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{PortMatch, Service, ServiceId},
    proxies::is_tcp,
    words,
};
use crate::catalog::{self, Host, Pattern};

impl PolicyReader<'_> {
    /// Takes the services that a file defines.
    pub fn services(&mut self, table: &DeTable<'_>) {
        for (span, service) in self.reader.tables(table, "service") {
            self.reader.known(service, keys::SERVICE);
            self.comment(service);
            let Some(name) = self.reader.name(service, &span, "a service") else { continue };
            let at = service.get("name").map_or(span.clone(), Spanned::span);
            let (to, names) = self.destinations(service).unwrap_or_else(|| {
                let help = "write to = [\"17.0.0.0/8\"], to = [\"*.push.apple.com\"] or to = [\"any\"]";
                self.reader.wrong(span, format!("service {name:?} has no destinations"), help);
                Default::default()
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
            self.define(Service { name, to, names, ports }, at);
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

    /// The services that a word of a rule means.
    pub fn service(&mut self, span: Range<usize>, word: &str) -> Vec<ServiceId> {
        if let Some(known) = self.services.get(word) {
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
            ids.extend(self.of_catalog(&format!("{}/{}", catalog.name, service.name), service));
        }
        ids
    }

    /// A catalogue's service as the policy's own: as few as its hosts and ports allow.
    fn of_catalog(&mut self, name: &str, service: &catalog::Service) -> Vec<ServiceId> {
        if let Some(known) = self.services.get(name) {
            return known.clone();
        }
        let mut parts: Vec<(BTreeSet<Host>, BTreeSet<PortMatch>, bool)> = Vec::new();
        for entry in &service.entries {
            let hosts: BTreeSet<Host> = entry.hosts.iter().cloned().collect();
            let through = |port: &&PortMatch| self.parts.cut && entry.proxy && is_tcp(port);
            let (proxied, direct): (Vec<&PortMatch>, Vec<&PortMatch>) = entry.ports.iter().partition(through);
            for (ports, through) in
                [(direct, false), (proxied, true)].into_iter().filter(|(ports, _)| !ports.is_empty())
            {
                let (hosts, ports): (_, BTreeSet<PortMatch>) = (hosts.clone(), ports.into_iter().copied().collect());
                let mut alike = parts.iter_mut().filter(|part| part.2 == through);
                match alike.find(|part| part.0 == hosts || part.1 == ports) {
                    Some(part) if part.0 == hosts => part.1.extend(ports),
                    Some(part) => part.0.extend(hosts),
                    None => parts.push((hosts, ports, through)),
                }
            }
        }
        let mut ids = Vec::new();
        for (index, (hosts, ports, through)) in parts.into_iter().enumerate() {
            let id = ServiceId(self.defined.len() as u32);
            ids.push(id);
            if through {
                self.parts.through.push(id);
            }
            let name = if index == 0 { name.to_owned() } else { format!("{name}.{}", index + 1) };
            let (to, names) = apart(hosts);
            self.defined.push(Service { name, to, names, ports: ports.into_iter().collect() });
        }
        self.services.insert(name.to_owned(), ids.clone());
        ids
    }
}

/// Prefixes and names, each in order.
fn apart(hosts: BTreeSet<Host>) -> (Vec<IpNet>, Vec<Pattern>) {
    let (mut to, mut names) = (Vec::new(), Vec::new());
    for host in hosts {
        match host {
            Host::Prefix(net) => to.push(net),
            Host::Name(name) => names.push(name),
        }
    }
    (to, names)
}
