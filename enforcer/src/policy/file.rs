//! The policy file: TOML, walked with the place of every value, so that each mistake is told where it is and all are told at once.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::Path,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    diagnostics::Diagnostics,
    model::{Action, Policy, PortMatch, Rule, Rules, Service, ServiceId},
    words,
};

/// A million prefixes are 25 MB.
const MAX_BYTES: u64 = 256 << 20;
const ALL: &[Action] = &[Action::Allow, Action::Drop, Action::Reject];
const PASS_OR_DROP: &[Action] = &[Action::Allow, Action::Drop];

/// Why a policy file gave no policy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// It is larger than any policy.
    #[error("{0} has {1} bytes; a policy has at most {MAX_BYTES}")]
    TooLarge(String, u64),
    /// It is no text.
    #[error("{0} is not UTF-8 text (at byte {1})")]
    NotText(String, usize),
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Diagnostics),
}

impl Policy {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// If it cannot be read or has mistakes.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Ok(Self::parse(&path.display().to_string(), &read(path)?)?)
    }

    /// Parses a policy's text; `name` is what mistakes are reported for.
    ///
    /// # Errors
    /// All mistakes that can be told apart, in the order of the file.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let mut reader = Reader { text, mistakes: Diagnostics::new(name), services: HashMap::new(), line_ends };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.wrong(error.span().unwrap_or(0..0), error.message().trim(), "a policy is TOML: see https://toml.io");
        }
        // What a broken line left out would be told as missing.
        if !reader.mistakes.mistakes.is_empty() {
            return Err(reader.mistakes.or(()).err().unwrap_or_default());
        }
        let policy = reader.policy(&root);
        reader.mistakes.or(policy)
    }
}

/// A policy file's text, bounded while reading: a pipe has no length to ask for.
///
/// # Errors
/// If it cannot be read, is too large or no text.
pub fn read(path: &Path) -> Result<String, FileError> {
    use std::io::Read as _;
    let name = path.display().to_string();
    let refused = |error| FileError::Read(name.clone(), error);
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge(name, bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotText(name, error.utf8_error().valid_up_to()))
}

type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'a> {
    text: &'a str,
    mistakes: Diagnostics,
    services: HashMap<String, ServiceId>,
    line_ends: Vec<usize>,
}

impl Reader<'_> {
    fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.add(self.text, span, message, help);
    }

    /// The line of a byte offset, from 1.
    fn line(&self, at: usize) -> u32 {
        self.line_ends.partition_point(|&end| end < at) as u32 + 1
    }

    fn policy(&mut self, root: &Spanned<DeTable<'_>>) -> Policy {
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
        let table = root.get_ref();
        self.known(table, KEYS);
        let services = self.services(table);
        if !table.contains_key("default") {
            let help = "write default = \"drop\" in the first line: what happens to packets that no rule matches";
            self.wrong(0..0, "the policy has no default", help);
        }
        let default = self.action(table, "default", ALL, Action::Drop);
        let rules = self.rules(table, "rule", ALL, true);
        let router = self.section(table, "router", ALL, Action::Allow, false);
        let inbound = self.section(table, "inbound", PASS_OR_DROP, Action::Drop, true);
        if inbound.default == Action::Allow
            && let Some(value) = table.get("inbound")
        {
            let help = "replies to connections from outside pass only where a rule names them: leave the default out";
            self.wrong(value.span(), "the inbound default cannot be \"allow\"", help);
        }
        Policy {
            services,
            lan: Rules { default, rules },
            router,
            inbound,
            strict_sources: self.strict(table),
            fragments: self.action(table, "fragments", PASS_OR_DROP, Action::Drop),
            malformed: self.action(table, "malformed", PASS_OR_DROP, Action::Drop),
            non_ip: self.action(table, "non-ip", PASS_OR_DROP, Action::Drop),
            unlisted: self.action(table, "unlisted", PASS_OR_DROP, Action::Drop),
        }
    }

    fn known(&mut self, table: &DeTable<'_>, keys: &[&str]) {
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let help = match words::nearest(key.get_ref(), keys.iter().copied()) {
                Some(near) => format!("did you mean {near:?}? Valid here: {}", keys.join(", ")),
                None => format!("valid here: {}", keys.join(", ")),
            };
            self.wrong(key.span(), format!("unknown key {:?}", key.get_ref()), help);
        }
    }

    fn strict(&mut self, table: &DeTable<'_>) -> bool {
        let Some(value) = table.get("sources") else { return true };
        match value.get_ref().as_str() {
            Some("strict") => true,
            Some("any") => false,
            _ => {
                let help = "write \"strict\" (sources must belong behind their interface) or \"any\"";
                self.wrong(value.span(), "not a word for sources", help);
                true
            }
        }
    }

    fn action(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], absent: Action) -> Action {
        let Some(value) = table.get(key) else { return absent };
        let Some(word) = self.string(value) else { return absent };
        match words::action(&word, possible) {
            Ok(action) => action,
            Err((message, help)) => {
                self.wrong(value.span(), message, help);
                absent
            }
        }
    }

    fn section(&mut self, table: &DeTable<'_>, key: &str, possible: &[Action], absent: Action, from: bool) -> Rules {
        let Some(value) = table.get(key) else { return Rules { default: absent, rules: Vec::new() } };
        let Some(section) = value.get_ref().as_table() else {
            self.wrong(value.span(), format!("{key:?} is a table"), format!("write [{key}] and its keys below"));
            return Rules { default: absent, rules: Vec::new() };
        };
        self.known(section, &["default", "rule"]);
        let default = self.action(section, "default", possible, absent);
        Rules { default, rules: self.rules(section, "rule", possible, from) }
    }

    fn services(&mut self, table: &DeTable<'_>) -> Vec<Service> {
        let mut services = Vec::new();
        for (span, service) in self.tables(table, "service") {
            self.known(service, &["name", "to", "ports"]);
            let Some(name) = self.name(service, &span, "a service") else { continue };
            let number = ServiceId(services.len() as u32);
            if self.services.insert(name.clone(), number).is_some() {
                let at = service.get("name").map_or(span.clone(), Spanned::span);
                self.wrong(at, format!("there is already a service {name:?}"), "give each service a name of its own");
            }
            let to = self.prefixes(service, "to").unwrap_or_else(|| {
                self.wrong(
                    span.clone(),
                    format!("service {name:?} has no destinations"),
                    "write to = [\"17.0.0.0/8\"] or to = [\"any\"]",
                );
                Vec::new()
            });
            let ports = match service.get("ports") {
                Some(value) => self.ports(value),
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
        for (span, rule) in self.tables(table, key) {
            self.known(rule, keys);
            let name = if rule.contains_key("name") { self.name(rule, &span, "a rule") } else { None };
            if let Some(name) = &name
                && names.insert(name.clone(), ()).is_some()
            {
                let at = rule.get("name").map_or(span.clone(), Spanned::span);
                self.wrong(
                    at,
                    format!("there is already a rule {name:?}"),
                    "give each rule a name of its own, or none",
                );
            }
            if !rule.contains_key("action") {
                self.wrong(span.clone(), "the rule has no action", "write action = \"allow\" or action = \"drop\"");
            }
            rules.push(Rule {
                line: self.line(span.start),
                name,
                action: self.action(rule, "action", possible, Action::Drop),
                services: self.named(rule),
                from: if from { self.prefixes(rule, "from") } else { None },
            });
        }
        rules
    }

    fn named(&mut self, rule: &DeTable<'_>) -> Option<Vec<ServiceId>> {
        let value = rule.get("services")?;
        let mut services: Vec<ServiceId> = Vec::new();
        let mut named = HashSet::new();
        for (span, name) in self.strings(value, "services", "[\"apns\"]") {
            match self.services.get(&name) {
                Some(service) if !named.insert(*service) => {
                    self.wrong(span, format!("{name:?} is named twice"), "once is enough");
                }
                Some(service) => services.push(*service),
                None => {
                    let help = match words::nearest(&name, self.services.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean {near:?}?"),
                        None => "define it: [[service]] with name, to and ports".into(),
                    };
                    self.wrong(span, format!("there is no service {name:?}"), help);
                }
            }
        }
        Some(services)
    }

    /// The prefixes of a key, sorted, without repetition. `any` is both families whole.
    fn prefixes(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<IpNet>> {
        let value = table.get(key)?;
        let mut prefixes = Vec::new();
        for (span, word) in self.strings(value, key, "[\"17.0.0.0/8\"]") {
            if word == "any" {
                prefixes.extend([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
                continue;
            }
            match words::prefix(&word) {
                Ok(prefix) => prefixes.push(prefix),
                Err((message, help)) => self.wrong(span, message, help),
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        Some(prefixes)
    }

    fn ports(&mut self, value: &Value<'_>) -> Vec<PortMatch> {
        let mut ports = Vec::new();
        for (span, word) in self.strings(value, "ports", "[\"tcp/443\"]") {
            match words::port(&word) {
                Ok(port) => ports.push(port),
                Err((message, help)) => self.wrong(span, message, help),
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn name(&mut self, table: &DeTable<'_>, span: &Range<usize>, what: &str) -> Option<String> {
        let Some(value) = table.get("name") else {
            self.wrong(span.clone(), format!("{what} has no name"), "write name = \"apns\"");
            return None;
        };
        let name = self.string(value)?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            self.wrong(
                value.span(),
                format!("{name:?} is not a name"),
                "names are 1 to 64 letters, digits and - _ . /",
            );
            return None;
        }
        Some(name)
    }

    fn string(&mut self, value: &Value<'_>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value.span(), format!("{} where text is expected", article(value)), "write it in quotes");
        }
        text
    }

    /// The texts of an array that must have some.
    fn strings(&mut self, value: &Value<'_>, key: &str, example: &str) -> Vec<(Range<usize>, String)> {
        let help = format!("write {key} = {example}");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), format!("{key:?} is a list, not {}", article(value)), help);
            return Vec::new();
        };
        if array.is_empty() {
            self.wrong(value.span(), format!("{key:?} is empty"), format!("{help}, or leave the key out"));
        }
        array.iter().filter_map(|item| Some((item.span(), self.string(item)?))).collect()
    }

    /// The tables of an array of tables, with their places.
    fn tables<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> Vec<(Range<usize>, &'t DeTable<'i>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let help = format!("write [[{key}]] and its keys below");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), format!("{key:?} is a list of tables, not {}", article(value)), help);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for item in array {
            match item.get_ref().as_table() {
                Some(inner) => tables.push((item.span(), inner)),
                None => self.wrong(item.span(), format!("{} where a table is expected", article(item)), help.clone()),
            }
        }
        tables
    }
}

fn article(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}
