//! Policies as they are written: what is printed here parses to the same policy.

use std::fmt::{self, Display, Formatter};

use super::{
    Portal,
    model::{Log, Policy, Rule, Rules, Schedule, Service, ServiceId},
    schedules::{DAY, DAYS},
    words,
};

fn list<T: Display>(f: &mut Formatter<'_>, key: &str, items: &[T]) -> fmt::Result {
    let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    writeln!(f, "{key} = [{}]", quoted.join(", "))
}

impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[service]]\nname = \"{}\"", self.name)?;
        let names = self.names.iter().map(ToString::to_string);
        list(f, "to", &self.to.iter().map(ToString::to_string).chain(names).collect::<Vec<_>>())?;
        list(f, "ports", &self.ports)
    }
}

impl Schedule {
    /// Its times, as a file has them: `mon 08:00-13:00`.
    #[must_use]
    pub fn spans(&self) -> Vec<String> {
        let mut times = Vec::new();
        for (day, name) in (0..).zip(DAYS) {
            let (midnight, next) = (day * DAY, (day + 1) * DAY);
            for span in &self.times {
                let (start, end) = (span.start.max(midnight), span.end.min(next));
                if start < end {
                    let [start, end] = [start, end].map(|minute| minute - midnight);
                    times.push(format!("{name} {:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60));
                }
            }
        }
        times
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[schedule]]\nname = \"{}\"\nzone = \"{}\"", self.name, self.zone)?;
        list(f, "times", &self.spans())
    }
}

impl Policy {
    fn rule(&self, f: &mut Formatter<'_>, header: &str, rule: &Rule) -> fmt::Result {
        writeln!(f, "\n[[{header}]]")?;
        if let Some(name) = &rule.name {
            writeln!(f, "name = \"{name}\"")?;
        }
        if let Some(comment) = &rule.comment {
            writeln!(f, "comment = {}", toml_edit::Value::from(comment.as_str()))?;
        }
        writeln!(f, "action = \"{}\"", words::name(rule.action))?;
        if let Some(services) = &rule.services {
            self.named_services(f, services)?;
        }
        if let Some(from) = &rule.from {
            list(f, "from", from)?;
        }
        if let Some(when) = rule.when {
            writeln!(f, "when = \"{}\"", self.schedules[when.0 as usize].name)?;
        }
        if rule.monitor {
            writeln!(f, "monitor = true")?;
        }
        match rule.log {
            Log::Denied => Ok(()),
            Log::Never => writeln!(f, "log = false"),
            Log::OneIn(part) => writeln!(f, "log = \"1/{part}\""),
        }
    }

    fn named_services(&self, f: &mut Formatter<'_>, services: &[ServiceId]) -> fmt::Result {
        let names: Vec<&str> = services.iter().map(|id| self.services[id.0 as usize].name.as_str()).collect();
        list(f, "services", &names)
    }

    fn portal(&self, f: &mut Formatter<'_>, portal: &Portal) -> fmt::Result {
        writeln!(f, "\n[portal]")?;
        if let Some(from) = &portal.from {
            list(f, "from", from)?;
        }
        self.named_services(f, &portal.services)?;
        writeln!(f, "action = \"{}\"", words::name(portal.action))
    }

    fn rules(&self, f: &mut Formatter<'_>, header: &str, rules: &Rules) -> fmt::Result {
        // Those of the portal are its own table's.
        let mut written = rules.rules.iter().filter(|rule| rule.gate.is_none());
        written.try_for_each(|rule| self.rule(f, header, rule))
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "default = \"{}\"", words::name(self.lan.default))?;
        writeln!(f, "monitor = {}", self.monitor)?;
        writeln!(f, "sources = \"{}\"", if self.strict_sources { "strict" } else { "any" })?;
        let words = [
            ("fragments", self.fragments),
            ("malformed", self.malformed),
            ("non-ip", self.non_ip),
            ("unlisted", self.unlisted),
            ("icmp-errors", self.icmp_errors),
        ];
        for (key, action) in words {
            writeln!(f, "{key} = \"{}\"", words::name(action))?;
        }
        if !self.nat64.is_empty() {
            list(f, "nat64", &self.nat64)?;
        }
        for schedule in &self.schedules {
            write!(f, "\n{schedule}")?;
        }
        for service in &self.services {
            write!(f, "\n{service}")?;
        }
        if let Some(portal) = &self.portal {
            self.portal(f, portal)?;
        }
        self.rules(f, "rule", &self.lan)?;
        writeln!(f, "\n[router]\ndefault = \"{}\"", words::name(self.router.default))?;
        self.rules(f, "router.rule", &self.router)?;
        writeln!(f, "\n[inbound]\ndefault = \"{}\"", words::name(self.inbound.default))?;
        writeln!(f, "\n[inbound.timeouts]")?;
        let mut timeouts = self.timeouts;
        for (key, seconds) in timeouts.named() {
            writeln!(f, "{key} = {seconds}")?;
        }
        writeln!(f, "\n[names]")?;
        let mut names = self.names;
        for (key, seconds) in names.named() {
            writeln!(f, "{key} = {seconds}")?;
        }
        writeln!(f, "\n[dns]")?;
        let mut dns = self.dns;
        for (key, decision) in dns.named() {
            writeln!(f, "{key} = \"{}\"", words::answer(*decision))?;
        }
        self.rules(f, "inbound.rule", &self.inbound)
    }
}
