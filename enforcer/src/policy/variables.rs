//! Variables: names for lists of prefixes, `"$students"`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use toml::de::DeTable;

use super::{file::PolicyReader, includes::File, reader::Prefixes, source::Source, words};
use crate::catalog::Pattern;

/// What messages call a variable.
/// Prefixes that variables stand for, wherever they are used, all together.
const MOST: usize = 4_000_000;
const KIND: &str = "variable";

/// A variable as it is written.
struct Variable<'a> {
    source: &'a Source,
    prefixes: Prefixes,
}

impl<'a> PolicyReader<'a> {
    /// Takes the variables of all files; each may use any other.
    pub fn variables(&mut self, files: &[File<'a>]) {
        let mut written = BTreeMap::new();
        for &File { source, ref table, .. } in files {
            self.reader.turn_to(source);
            for (key, value) in self.reader.table(table, "prefixes").into_iter().flatten() {
                let name = key.get_ref().to_string();
                if self.reader.plain(key.span(), &name) {
                    self.claim(KIND, &name, key.span());
                }
                let prefixes = self.reader.prefixes(value, &name, None);
                written.insert(name, Variable { source, prefixes });
            }
        }
        for name in written.keys() {
            self.resolve(name, &written);
        }
    }

    /// Resolves a variable behind those that it uses. Chains of them may be longer than the stack.
    fn resolve(&mut self, name: &str, written: &BTreeMap<String, Variable<'a>>) {
        let mut chain = vec![name];
        while let Some(name) = chain.pop() {
            if self.variables.contains_key(name) {
                continue;
            }
            let Variable { source, prefixes } = &written[name];
            self.reader.turn_to(source);
            let open = |(_, used): &&(_, String)| written.contains_key(used) && !self.variables.contains_key(used);
            let open = prefixes.variables.iter().find(open);
            chain.push(name);
            let Some((span, used)) = open else {
                let resolved = self.expand(prefixes);
                self.variables.insert(name.to_owned(), resolved);
                continue;
            };
            let Some(start) = chain.iter().position(|other| other == used) else {
                chain.push(used);
                continue;
            };
            let circle: Vec<String> =
                chain[start..].iter().chain([&used.as_str()]).map(|name| format!("${name}")).collect();
            let help = format!("take one out of {}", circle.join(" → "));
            self.reader.wrong(span.clone(), "variables use each other in a circle", help);
            self.variables.insert(name.to_owned(), prefixes.own.clone());
        }
    }

    /// The prefixes of a key, sorted, without repetition.
    pub fn prefixes(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<IpNet>> {
        let prefixes = self.reader.prefixes(table.get(key)?, key, None);
        Some(self.expand(&prefixes))
    }

    /// The prefixes and names of a service, likewise.
    pub fn destinations(&mut self, service: &DeTable<'_>) -> Option<(Vec<IpNet>, Vec<Pattern>)> {
        let mut names = Vec::new();
        let prefixes = self.reader.prefixes(service.get("to")?, "to", Some(&mut names));
        names.sort_unstable();
        names.dedup();
        Some((self.expand(&prefixes), names))
    }

    fn expand(&mut self, Prefixes { own, variables }: &Prefixes) -> Vec<IpNet> {
        let mut prefixes = own.clone();
        for (span, name) in variables {
            if let Some(value) = self.variables.get(name) {
                self.expanded += value.len();
                if self.expanded <= MOST {
                    prefixes.extend(value);
                } else if self.expanded - value.len() <= MOST {
                    let help = "use fewer variables within variables; a rule may name several";
                    self.reader.wrong(span.clone(), format!("variables stand for more than {MOST} prefixes"), help);
                }
                continue;
            }
            let known = self.names.keys().filter(|(kind, _)| *kind == KIND).map(|(_, name)| name.as_str());
            let help = match words::nearest(name, known) {
                Some(near) => format!("did you mean \"${near}\"?"),
                None => format!("define it: [prefixes] with {name} = [\"10.1.0.0/16\"]"),
            };
            self.reader.wrong(span.clone(), format!("there is no variable \"${name}\""), help);
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }
}
