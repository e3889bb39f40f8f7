//! `[exempt]`: clients and destinations that no rule judges.

use std::ops::Range;

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    file::PolicyReader,
    includes::File,
    keys,
    model::{Action, PortMatch, Rule, Service},
    rules::LAN,
};

/// Rules that say who or what is exempt: clients, destinations.
const FROM: &str = "exempt-from";
const TO: &str = "exempt-to";

impl Rule {
    /// Whether it says who or what is exempt from the other rules.
    #[must_use]
    pub fn exempts(&self) -> bool {
        matches!(self.name.as_deref(), Some(FROM | TO))
    }
}

impl<'a> PolicyReader<'a> {
    /// The rules in front of all others that say it: one for the clients of all files, one for the destinations. Comes before other services.
    pub fn exempt(&mut self, files: &[File<'a>]) -> Vec<Rule> {
        let (mut from, mut to) = (None, None);
        for file in files {
            self.reader.turn_to(file.source);
            let Some(table) = self.reader.table(&file.table, "exempt") else { continue };
            let span = file.table.get("exempt").map_or(0..0, Spanned::span);
            self.reader.known(table, keys::EXEMPT);
            self.comment(table);
            if !table.contains_key("from") && !table.contains_key("to") {
                let help = "write from = [\"10.1.0.0/16\"] for clients or to = [\"17.0.0.0/8\"] for destinations";
                self.reader.wrong(span.clone(), "nothing is exempt", help);
            }
            if let Some(prefixes) = self.prefixes(table, "from") {
                let rule = from.get_or_insert_with(|| self.allow(FROM, file, span.clone()));
                join(rule.from.get_or_insert_default(), prefixes);
            }
            if let Some(prefixes) = self.prefixes(table, "to") {
                to.get_or_insert_with(|| {
                    let any = vec![PortMatch::Any];
                    let service = Service { name: "exempt".into(), to: Vec::new(), names: Vec::new(), ports: any };
                    let services = Some(vec![self.define(service, span.clone())]);
                    Rule { services, ..self.allow(TO, file, span) }
                });
                join(&mut self.defined[0].to, prefixes);
            }
        }
        from.into_iter().chain(to).collect()
    }

    fn allow(&mut self, name: &str, file: &File<'_>, span: Range<usize>) -> Rule {
        let line = self.reader.line(span.start);
        self.claim(LAN.kind, name, span);
        Rule { name: Some(name.into()), file: file.included.clone(), line, ..Rule::new(Action::Allow) }
    }
}

/// Keeps a list sorted and without repetition.
fn join(all: &mut Vec<IpNet>, more: Vec<IpNet>) {
    all.extend(more);
    all.sort_unstable();
    all.dedup();
}
