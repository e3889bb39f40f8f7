//! Hosts and ports of other programs as a catalogue, whose services policies can name.

mod csv;
mod nftables;

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    catalog::{Catalog, Entry, Host, Service},
    policy::{PortMatch, words},
};

pub use self::csv::csv;
pub use nftables::{Unsaid, nftables};

/// What a catalogue says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What comes before the slash where policies name its services.
    pub name: String,
    /// Where it is from.
    pub source: String,
    /// As of when.
    pub date: String,
}

/// A catalogue, and what of the source is not in it, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The catalogue's file.
    pub text: String,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// Why something is no catalogue: the place, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}\n  help: {help}")]
pub struct Mistake {
    /// A line, or an element.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// Hosts of services by their ports.
#[derive(Default)]
struct Found(BTreeMap<String, BTreeMap<Vec<PortMatch>, Vec<Host>>>);

impl Found {
    fn add(&mut self, service: &str, hosts: impl IntoIterator<Item = Host>, mut ports: Vec<PortMatch>) {
        ports.sort_unstable();
        ports.dedup();
        self.0.entry(service.to_owned()).or_default().entry(ports).or_default().extend(hosts);
    }

    fn catalog(self, about: &About) -> Catalog {
        let services = self.0.into_iter().map(|(name, entries)| {
            let entry = |(ports, mut hosts): (_, Vec<Host>)| {
                hosts.sort_unstable();
                hosts.dedup();
                Entry { hosts, ports, os: Vec::new(), proxy: false, purpose: None }
            };
            let entries = entries.into_iter().map(entry).collect();
            let (title, purpose) = (name.clone(), format!("Imported from {}", about.source));
            Service { name, title, purpose, tags: Vec::new(), entries }
        });
        let About { name, source, date } = about.clone();
        Catalog { title: name.clone(), name, source, date, services: services.collect() }
    }
}

/// A host as files write it.
fn host(word: &str, place: &dyn Fn() -> String) -> Result<Host, Mistake> {
    let name = word.parse().map(Host::Name);
    name.or_else(|_| words::prefix(word).map(Host::Prefix)).map_err(|(message, help)| Mistake {
        place: place(),
        message,
        help,
    })
}

/// A catalogue's file.
fn text(catalog: &Catalog) -> String {
    let quoted = |text: &str| toml_edit::Value::from(text).to_string();
    let list = |words: Vec<String>| match words.as_slice() {
        [word] => format!("[{}]", quoted(word)),
        words => format!("[\n{}]", words.iter().map(|word| format!("    {},\n", quoted(word))).collect::<String>()),
    };
    let Catalog { title, source, date, services, .. } = catalog;
    let mut text = format!("title = {}\nsource = {}\ndate = {}\n", quoted(title), quoted(source), quoted(date));
    for Service { name, title, purpose, entries, .. } in services {
        let [name, title, purpose] = [name, title, purpose].map(|text| quoted(text));
        write!(text, "\n[[service]]\nname = {name}\ntitle = {title}\npurpose = {purpose}\n").expect("to memory");
        for Entry { hosts, ports, .. } in entries {
            let hosts = list(hosts.iter().map(ToString::to_string).collect());
            let ports = list(ports.iter().map(ToString::to_string).collect());
            write!(text, "[[service.entry]]\nhosts = {hosts}\nports = {ports}\n").expect("to memory");
        }
    }
    text
}

/// What was found as a file that the catalogue's parser takes.
fn written(found: Found, about: &About, warnings: Vec<String>) -> Result<Import, Mistake> {
    if found.0.is_empty() {
        let (message, help) = ("there are no hosts in it".into(), "name another file".into());
        return Err(Mistake { place: about.source.clone(), message, help });
    }
    let text = text(&found.catalog(about));
    match Catalog::parse(&about.name, "the catalogue", &text) {
        Ok(_) => Ok(Import { text, warnings }),
        Err(mistakes) => {
            let help = "names of services are 1 to 64 letters, digits and - _ . /".into();
            Err(Mistake { place: about.source.clone(), message: mistakes.to_string(), help })
        }
    }
}

#[cfg(test)]
fn about() -> About {
    About { name: "mine".into(), source: "a \"file\"".into(), date: "2026-11-28".into() }
}
