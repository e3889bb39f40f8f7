//! Rules: those of clients, of the gateway, of connections from outside.

use std::{collections::HashSet, num::NonZeroU32};

use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{Action, Log, Rule, Rules, ScheduleId, ServiceId},
    reader::article,
    words,
};

/// One of a policy's lists of rules.
pub struct List {
    /// What messages call one of its rules.
    pub kind: &'static str,
    /// What a rule may have.
    keys: &'static [&'static str],
    /// What its section may have, if it has one.
    section: &'static [&'static str],
    /// What its rules may do.
    pub actions: &'static [Action],
}

/// Rules about clients.
pub const LAN: List = List { kind: "rule", keys: keys::RULE, section: &[], actions: DENIES };
/// Rules about the gateway's own packets.
pub const ROUTER: List = List { kind: "router rule", keys: keys::ROUTER_RULE, section: keys::ROUTER, actions: DENIES };
/// Rules about connections from outside.
pub const INBOUND: List = List {
    kind: "inbound rule",
    keys: keys::INBOUND_RULE,
    section: keys::INBOUND,
    actions: &[Action::Allow, Action::Drop],
};
const DENIES: &[Action] = &[Action::Allow, Action::Drop, Action::Reject];

impl PolicyReader<'_> {
    /// A list of rules that has a table of its own.
    pub fn section(&mut self, table: &DeTable<'_>, key: &str, list: &List, absent: Action) -> Rules {
        let Some(section) = self.reader.table(table, key) else { return Rules { default: absent, rules: Vec::new() } };
        self.reader.known(section, list.section);
        self.comment(section);
        let default = self.action(section, "default", list.actions, absent);
        Rules { default, rules: self.rules(section, list, None) }
    }

    /// The rules of a table; `file` is the included file that it is in.
    pub fn rules(&mut self, table: &DeTable<'_>, list: &List, file: Option<&str>) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (span, rule) in self.reader.tables(table, "rule") {
            self.reader.known(rule, list.keys);
            let name = rule.contains_key("name").then(|| self.reader.name(rule, &span, "a rule")).flatten();
            if let Some(name) = &name {
                let at = rule.get("name").map_or(span.clone(), Spanned::span);
                self.claim(list.kind, name, at);
            }
            if !rule.contains_key("action") {
                let help = "write action = \"allow\" or action = \"drop\"";
                self.reader.wrong(span.clone(), "the rule has no action", help);
            }
            rules.push(Rule {
                name,
                comment: self.comment(rule),
                file: file.map(str::to_owned),
                line: self.reader.line(span.start),
                action: self.action(rule, "action", list.actions, Action::Drop),
                services: self.named(rule),
                from: self.prefixes(rule, "from"),
                when: self.when(rule),
                monitor: self.monitor(rule),
                log: self.log(rule),
                proxied: None,
                gate: None,
            });
        }
        rules
    }

    /// The services that a table names.
    pub fn named(&mut self, rule: &DeTable<'_>) -> Option<Vec<ServiceId>> {
        let value = rule.get("services")?;
        let mut services: Vec<ServiceId> = Vec::new();
        let mut named = HashSet::new();
        for (span, word) in self.reader.strings(value, "services", "[\"apple/apns\"]") {
            if !named.insert(word.clone()) {
                self.reader.wrong(span, format!("{word:?} is named twice"), "once is enough");
                continue;
            }
            for id in self.service(span, &word) {
                if !services.contains(&id) {
                    services.push(id);
                }
            }
        }
        Some(services)
    }

    fn when(&mut self, rule: &DeTable<'_>) -> Option<ScheduleId> {
        let value = rule.get("when")?;
        let word = self.reader.string(value)?;
        let found = self.schedules.iter().position(|schedule| schedule.name == word);
        if found.is_none() {
            let help = match words::nearest(&word, self.schedules.iter().map(|schedule| schedule.name.as_str())) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "define it: [[schedule]] with name, zone and times".into(),
            };
            self.reader.wrong(value.span(), format!("there is no schedule {word:?}"), help);
        }
        found.map(|index| ScheduleId(index as u32))
    }

    fn monitor(&mut self, rule: &DeTable<'_>) -> bool {
        let monitor = self.reader.flag(rule, "monitor");
        let allows = rule.get("action").and_then(|value| value.get_ref().as_str()) == Some("allow");
        if let (true, true, Some(value)) = (monitor, allows, rule.get("monitor")) {
            let help = "leave it out; to hear of packets that are allowed, write log = true";
            self.reader.wrong(value.span(), "a rule that allows has nothing to monitor", help);
        }
        monitor
    }

    fn log(&mut self, rule: &DeTable<'_>) -> Log {
        let Some(value) = rule.get("log") else { return Log::Denied };
        let value_of = value.get_ref();
        let part = value_of.as_str().and_then(|word| word.strip_prefix("1/")).and_then(words::number::<NonZeroU32>);
        match (value_of.as_bool(), part) {
            (Some(true), _) => Log::OneIn(NonZeroU32::MIN),
            (Some(false), _) => Log::Never,
            (None, Some(part)) => Log::OneIn(part),
            (None, None) => {
                let message = match value_of.as_str() {
                    Some(word) => format!("{word:?} is no part of the packets"),
                    None => format!("{} where a part of the packets is expected", article(value)),
                };
                let help = "write log = true (every packet), log = \"1/100\" (one in a hundred) or log = false (none)";
                self.reader.wrong(value.span(), message, help);
                Log::Denied
            }
        }
    }
}
