//! The policy file: from its text to a policy.

use std::{collections::HashMap, ops::Range, path::Path};

use ipnet::{IpNet, Ipv6Net};
use toml::de::DeTable;

use super::{
    diagnostics::Diagnostics,
    files::{Disk, Files},
    includes::{self, File},
    keys,
    model::{Action, Dns, NameTimes, Policy, Rules, Schedule, Service, ServiceId, Timeouts},
    proxies::Parts,
    reader::Reader,
    rules::{INBOUND, LAN, ROUTER},
    source::{FileError, Source},
    words,
};
use crate::catalog::Catalogs;

const PASSES_OR_NOT: &[Action] = &[Action::Allow, Action::Drop, Action::Monitor];
/// In seconds; nothing is remembered for longer.
const YEAR: u32 = 365 * 24 * 60 * 60;

impl Policy {
    /// Reads and parses a file, with what it includes and the catalogues beside it.
    ///
    /// # Errors
    /// If any of them cannot be read or has mistakes.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Self::load_from(&Disk::default(), path)
    }

    /// The same, from wherever files are.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_from(files: &dyn Files, path: &Path) -> Result<Self, FileError> {
        let catalogs = Catalogs::beside(files, path)?;
        let shelf = includes::shelf();
        let root = files.read(path)?;
        Ok(PolicyReader::read(&includes::read(root, Some((files, path)), &shelf)?, &catalogs)?)
    }

    /// Parses a policy's text, whose rules may name services of catalogues; `name` is what mistakes are reported for.
    ///
    /// # Errors
    /// All mistakes that can be told apart, in the order of the file.
    pub fn parse(name: &str, text: &str, catalogs: &Catalogs) -> Result<Self, Diagnostics> {
        let shelf = includes::shelf();
        let files = includes::read(Source::new(name, text.to_owned()), None, &shelf)?;
        PolicyReader::read(&files, catalogs)
    }
}

/// What is known of a policy while its files are read: first all variables, then schedules, services and rules, each in all files.
pub(super) struct PolicyReader<'a> {
    pub reader: Reader<'a>,
    pub catalogs: &'a Catalogs,
    /// Where each name was given, by what it names.
    pub names: HashMap<(&'static str, String), String>,
    pub variables: HashMap<String, Vec<IpNet>>,
    /// Prefixes that variables have stood for so far.
    pub expanded: usize,
    pub schedules: Vec<Schedule>,
    pub nat64: Vec<Ipv6Net>,
    /// The policy's own services, then those of catalogues, as rules name them.
    pub defined: Vec<Service>,
    /// A catalogue's service may be several here.
    pub services: HashMap<String, Vec<ServiceId>>,
    /// What of them works through proxies.
    pub parts: Parts,
}

impl<'a> PolicyReader<'a> {
    fn read(files: &[File<'a>], catalogs: &'a Catalogs) -> Result<Policy, Diagnostics> {
        let Some(own) = files.last() else { return Ok(Policy::default()) };
        let mut reader = Self {
            reader: Reader::new(own.source),
            catalogs,
            names: HashMap::new(),
            variables: HashMap::new(),
            expanded: 0,
            schedules: Vec::new(),
            nat64: Vec::new(),
            defined: Vec::new(),
            services: HashMap::new(),
            parts: Parts::default(),
        };
        let policy = reader.policy(files, own);
        reader.reader.faultless()?;
        Ok(policy)
    }

    fn policy(&mut self, files: &[File<'a>], own: &File<'a>) -> Policy {
        for file in files {
            self.reader.turn_to(file.source);
            self.known(file);
        }
        self.nat64 = self.nat64(&own.table);
        self.variables(files);
        for file in files {
            self.reader.turn_to(file.source);
            self.schedules(&file.table);
        }
        let mut rules = self.exempt(files);
        for file in files {
            self.reader.turn_to(file.source);
            self.services(&file.table);
        }
        self.reader.turn_to(own.source);
        let proxies = self.proxies(&own.table);
        for file in files {
            self.reader.turn_to(file.source);
            rules.extend(self.rules(&file.table, &LAN, file.included.as_deref()));
        }

        // The last file is the policy itself.
        let table = &own.table;
        if !table.contains_key("default") {
            let help = "write default = \"drop\" in the first line: what happens to packets that no rule matches";
            self.reader.wrong(0..0, "the policy has no default", help);
        }
        let absent = Policy::default();
        let mut word = |key, absent| self.action(table, key, PASSES_OR_NOT, absent);
        let fragments = word("fragments", absent.fragments);
        let malformed = word("malformed", absent.malformed);
        let non_ip = word("non-ip", absent.non_ip);
        let unlisted = word("unlisted", absent.unlisted);
        let icmp_errors = word("icmp-errors", absent.icmp_errors);
        let default = self.action(table, "default", LAN.actions, absent.lan.default);
        let mut rules = self.behind_proxies(rules, &proxies, default);
        let portal = self.portal(table, &proxies, &mut rules);
        let lan = Rules { default, rules };
        let router = self.section(table, "router", &ROUTER, absent.router.default);
        let inbound = self.section(table, "inbound", &INBOUND, absent.inbound.default);
        Policy {
            schedules: std::mem::take(&mut self.schedules),
            services: std::mem::take(&mut self.defined),
            lan,
            router,
            inbound,
            strict_sources: self.strict(table),
            fragments,
            malformed,
            non_ip,
            unlisted,
            icmp_errors,
            monitor: self.reader.flag(table, "monitor"),
            nat64: std::mem::take(&mut self.nat64),
            timeouts: self.timeouts(table),
            names: self.names(table),
            dns: self.dns(table),
            proxies,
            portal,
        }
    }

    fn known(&mut self, file: &File<'_>) {
        self.reader.known(&file.table, keys::POLICY);
        self.comment(&file.table);
        if file.included.is_none() {
            return;
        }
        for key in file.table.keys() {
            let word: &str = key.get_ref();
            if keys::POLICY.contains(&word) && !keys::INCLUDED.contains(&word) {
                let help = format!("write it in the policy itself; here may be {}", keys::INCLUDED.join(", "));
                self.reader.wrong(key.span(), format!("{word:?} is a word of the whole policy"), help);
            }
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

    fn nat64(&mut self, table: &DeTable<'_>) -> Vec<Ipv6Net> {
        let Some(value) = table.get("nat64") else { return Vec::new() };
        let mut prefixes = Vec::new();
        for (span, word) in self.reader.strings(value, "nat64", "[\"64:ff9b::/96\"]") {
            match words::nat64(&word) {
                Ok(prefix) => prefixes.push(prefix),
                Err((message, help)) => self.reader.wrong(span, message, help),
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }

    fn timeouts(&mut self, table: &DeTable<'_>) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let inbound = table.get("inbound").and_then(|value| value.get_ref().as_table());
        if let Some(table) = inbound.and_then(|inbound| self.reader.table(inbound, "timeouts")) {
            self.seconds(table, &mut timeouts.named(), "a time-out");
        }
        timeouts
    }

    fn names(&mut self, table: &DeTable<'_>) -> NameTimes {
        let mut names = NameTimes::default();
        if let Some(table) = self.reader.table(table, "names") {
            self.seconds(table, &mut names.named(), "a time");
            let NameTimes { floor, ceiling, .. } = names;
            if let (true, Some(value)) = (floor > ceiling, table.get("ceiling").or_else(|| table.get("floor"))) {
                let help = "write a ceiling that is at least the floor";
                self.reader.wrong(value.span(), format!("the floor, {floor}, is above the ceiling, {ceiling}"), help);
            }
        }
        names
    }

    fn dns(&mut self, table: &DeTable<'_>) -> Dns {
        let mut dns = Dns::default();
        let Some(table) = self.reader.table(table, "dns") else { return dns };
        self.reader.known(table, keys::DNS);
        self.comment(table);
        for (key, field) in dns.named() {
            let Some(value) = table.get(key) else { continue };
            let Some(word) = self.reader.string(value) else { continue };
            match words::decision(&word) {
                Ok(decision) => *field = decision,
                Err((message, help)) => self.reader.wrong(value.span(), message, help),
            }
        }
        dns
    }

    /// Takes the numbers of a table that has nothing else.
    fn seconds(&mut self, table: &DeTable<'_>, fields: &mut [(&'static str, &mut u32)], what: &str) {
        let keys: Vec<&str> = fields.iter().map(|(key, _)| *key).collect();
        self.reader.known(table, &keys);
        for (key, field) in fields {
            let Some(value) = table.get(*key) else { continue };
            let number = value.get_ref().as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
            match number.filter(|seconds| (1..=YEAR).contains(seconds)) {
                Some(seconds) => **field = seconds,
                None => {
                    let help = format!("write whole seconds, from 1 to {YEAR}: {key} = 120");
                    self.reader.wrong(value.span(), format!("not {what}"), help);
                }
            }
        }
    }

    /// The action of a key among those that are possible.
    pub fn action(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], absent: Action) -> Action {
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

    /// What a table says for people.
    pub fn comment(&mut self, table: &DeTable<'_>) -> Option<String> {
        table.get("comment").and_then(|value| self.reader.string(value))
    }

    /// Notes the name of a `kind` of thing, and a mistake if another has it.
    pub fn claim(&mut self, kind: &'static str, name: &str, span: Range<usize>) {
        let place = format!("{}, line {}", self.reader.source().name, self.reader.line(span.start));
        if let Some(other) = self.names.insert((kind, name.to_owned()), place) {
            let help = format!("it is in {other}: give each a name of its own");
            self.reader.wrong(span, format!("there is already a {kind} {name:?}"), help);
        }
    }
}
