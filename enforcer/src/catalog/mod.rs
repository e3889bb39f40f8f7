//! Catalogues: what a vendor's services need, by name, as its administrators' pages say it.

mod file;
pub mod pattern;

use std::{fmt, path::Path, sync::LazyLock};

use ipnet::IpNet;

pub use pattern::Pattern;

use crate::policy::{Diagnostics, FileError, Files, PortMatch, Source};

/// One vendor's services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// What comes before the slash: the file's name without its ending.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where it was written from.
    pub source: String,
    /// As of when, as the file says it.
    pub date: String,
    /// In the file's order; names are unique.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What comes behind the slash.
    pub name: String,
    /// For people.
    pub title: String,
    /// What it is for.
    pub purpose: String,
    /// Words by which several services are named at once.
    pub tags: Vec<String>,
    /// What it needs.
    pub entries: Vec<Entry>,
}

/// Hosts that are reached on the same ports for the same purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names and prefixes.
    pub hosts: Vec<Host>,
    /// Never empty.
    pub ports: Vec<PortMatch>,
    /// Operating systems that need it; empty means all.
    pub os: Vec<String>,
    /// Whether it works through an explicit proxy.
    pub proxy: bool,
    /// What it is for, if there is more to say than of the service.
    pub purpose: Option<String>,
}

/// Where a service is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// Addresses.
    Prefix(IpNet),
    /// A name, whose addresses are not known before it is resolved.
    Name(Pattern),
}

impl Host {
    /// The prefix, if it is one.
    #[must_use]
    pub const fn prefix(&self) -> Option<IpNet> {
        match self {
            Self::Prefix(net) => Some(*net),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(net) => net.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Service {
    /// Its names.
    pub fn names(&self) -> impl Iterator<Item = &Pattern> {
        self.hosts().filter_map(|host| match host {
            Host::Name(name) => Some(name),
            Host::Prefix(_) => None,
        })
    }

    /// Its names and prefixes.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.entries.iter().flat_map(|entry| &entry.hosts)
    }
}

impl Catalog {
    /// Parses a catalogue's text; `file` is what mistakes are reported for.
    ///
    /// # Errors
    /// All mistakes that can be told apart, in the order of the file.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, Diagnostics> {
        file::parse(name, file, text)
    }
}

/// Those that this program is built with.
static BUILT_IN: LazyLock<Vec<Catalog>> = LazyLock::new(|| {
    let texts = [
        ("apple", include_str!("../../../policies/catalog/apple.toml")),
        ("resolvers", include_str!("../../../policies/catalog/resolvers.toml")),
    ];
    let parsed = texts.map(|(name, text)| Catalog::parse(name, &format!("policies/catalog/{name}.toml"), text));
    parsed.into_iter().map(|parsed| parsed.unwrap_or_else(|mistakes| panic!("{mistakes}"))).collect()
});

/// The catalogues that a policy may name services of.
#[derive(Clone, Debug)]
pub struct Catalogs(Vec<Catalog>);

impl Default for Catalogs {
    /// Apple's and the public resolvers, as this program was built with them.
    fn default() -> Self {
        Self(BUILT_IN.clone())
    }
}

impl Catalogs {
    /// The program's own, and what lies in the folder `catalog` beside a policy, wherever its files are; a file `apple.toml` there counts instead of the program's.
    ///
    /// # Errors
    /// If a file there cannot be read, has mistakes, or lies outside the folders that the policy
    /// may include files from.
    pub fn beside(files: &dyn Files, policy: &Path) -> Result<Self, FileError> {
        let folder = policy.parent().unwrap_or(Path::new("")).join("catalog");
        let mut catalogs = Self::default();
        let paths = files.list(&folder);
        for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
            if !files.allows(policy, path) {
                return Err(FileError::Outside(path.display().to_string()));
            }
            let Source { name: file, text, .. } = files.read(path)?;
            let catalog = Catalog::parse(name, &file, &text)?;
            catalogs.0.retain(|other| other.name != catalog.name);
            catalogs.0.push(catalog);
        }
        Ok(catalogs)
    }

    /// Services by what a policy or a person calls them, with their catalogues: `apple/apns`, `apple/*` or `tag:mdm`. Empty if there are none.
    #[must_use]
    pub fn find(&self, wanted: &str) -> Vec<(&Catalog, &Service)> {
        let all = self.0.iter().flat_map(|catalog| catalog.services.iter().map(move |service| (catalog, service)));
        all.filter(|(catalog, service)| match (wanted.strip_prefix("tag:"), wanted.split_once('/')) {
            (Some(tag), _) => service.tags.iter().any(|other| other == tag),
            (None, Some((vendor, name))) => catalog.name == vendor && (name == "*" || service.name == name),
            (None, None) => wanted == "*",
        })
        .collect()
    }

    /// What [`Self::find`] would find something for.
    pub fn words(&self) -> impl Iterator<Item = String> {
        self.find("*").into_iter().flat_map(|(catalog, service)| {
            let tags = service.tags.iter().map(|tag| format!("tag:{tag}"));
            [format!("{}/{}", catalog.name, service.name), format!("{}/*", catalog.name)].into_iter().chain(tags)
        })
    }
}

#[cfg(test)]
mod tests;
