//! Policies as they are written: what is printed here parses to the same policy.

use std::fmt::{self, Display, Formatter};

use super::{
    model::{Policy, Rule, Rules, Service},
    words,
};

fn list<T: Display>(f: &mut Formatter<'_>, key: &str, items: &[T]) -> fmt::Result {
    let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    writeln!(f, "{key} = [{}]", quoted.join(", "))
}

impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[service]]\nname = \"{}\"", self.name)?;
        list(f, "to", &self.to)?;
        list(f, "ports", &self.ports)
    }
}

impl Policy {
    fn rule(&self, f: &mut Formatter<'_>, header: &str, rule: &Rule) -> fmt::Result {
        writeln!(f, "\n[[{header}]]")?;
        if let Some(name) = &rule.name {
            writeln!(f, "name = \"{name}\"")?;
        }
        writeln!(f, "action = \"{}\"", words::name(rule.action))?;
        if let Some(services) = &rule.services {
            let names: Vec<&str> = services.iter().map(|id| self.services[id.0 as usize].name.as_str()).collect();
            list(f, "services", &names)?;
        }
        rule.from.as_ref().map_or(Ok(()), |from| list(f, "from", from))
    }

    /// Rules but those all of whose services are names without addresses: they match nothing.
    fn matching(rules: &Rules) -> impl Iterator<Item = &Rule> {
        rules.rules.iter().filter(|rule| rule.services.as_ref().is_none_or(|services| !services.is_empty()))
    }

    fn section(&self, f: &mut Formatter<'_>, name: &str, rules: &Rules) -> fmt::Result {
        writeln!(f, "\n[{name}]\ndefault = \"{}\"", words::name(rules.default))?;
        Self::matching(rules).try_for_each(|rule| self.rule(f, &format!("{name}.rule"), rule))
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "default = \"{}\"", words::name(self.lan.default))?;
        writeln!(f, "sources = \"{}\"", if self.strict_sources { "strict" } else { "any" })?;
        let words = [
            ("fragments", self.fragments),
            ("malformed", self.malformed),
            ("non-ip", self.non_ip),
            ("unlisted", self.unlisted),
        ];
        for (key, action) in words {
            writeln!(f, "{key} = \"{}\"", words::name(action))?;
        }
        for service in &self.services {
            write!(f, "\n{service}")?;
        }
        Self::matching(&self.lan).try_for_each(|rule| self.rule(f, "rule", rule))?;
        self.section(f, "router", &self.router)?;
        self.section(f, "inbound", &self.inbound)
    }
}
