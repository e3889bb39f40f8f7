//! The catalogue file.

use std::{collections::HashSet, ops::Range};

use toml::de::DeTable;

use super::{Catalog, Entry, Host, Service};
use crate::policy::{Diagnostics, Source, reader::Reader, words};

pub fn parse(name: &str, file: &str, text: &str) -> Result<Catalog, Diagnostics> {
    let source = Source::new(file, text.to_owned());
    let mut reader = Reader::new(&source);
    let root = reader.parse(&source);
    // What a broken line left out would be told as missing.
    let mut reader = reader.faultless()?;
    let catalog = catalog(&mut reader, name, &root);
    reader.faultless()?;
    Ok(catalog)
}

fn catalog(reader: &mut Reader<'_>, name: &str, root: &DeTable<'_>) -> Catalog {
    reader.known(root, &["title", "source", "date", "service"]);
    let [title, source, date] = ["title", "source", "date"].map(|key| text(reader, root, &(0..0), key));
    let mut seen = HashSet::new();
    let mut services = Vec::new();
    for (span, table) in reader.tables(root, "service") {
        reader.known(table, &["name", "title", "purpose", "tags", "entry"]);
        let Some(name) = reader.name(table, &span, "a service") else { continue };
        if !seen.insert(name.clone()) {
            reader.wrong(
                span.clone(),
                format!("there is already a service {name:?}"),
                "give each service a name of its own",
            );
        }
        let [title, purpose] = ["title", "purpose"].map(|key| text(reader, table, &span, key));
        let tags = list(reader, table, "tags", "[\"mdm\"]");
        let entries: Vec<Entry> =
            reader.tables(table, "entry").into_iter().map(|(span, table)| entry(reader, table, &span)).collect();
        if entries.is_empty() {
            reader.wrong(
                span,
                format!("service {name:?} has no entries"),
                "write [[service.entry]] with hosts and ports",
            );
        }
        services.push(Service { name, title, purpose, tags, entries });
    }
    Catalog { name: name.to_owned(), title, source, date, services }
}

fn entry(reader: &mut Reader<'_>, table: &DeTable<'_>, span: &Range<usize>) -> Entry {
    reader.known(table, &["hosts", "ports", "os", "proxy", "purpose"]);
    for key in ["hosts", "ports"] {
        if !table.contains_key(key) {
            reader.wrong(
                span.clone(),
                format!("the entry has no {key}"),
                "write hosts = [\"*.apple.com\"] and ports = [\"tcp/443\"]",
            );
        }
    }
    let mut hosts = Vec::new();
    if let Some(value) = table.get("hosts") {
        for (span, word) in reader.strings(value, "hosts", "[\"*.apple.com\"]") {
            // Whatever looks like an address is one, or a mistake.
            let name = word.parse().map(Host::Name);
            match name.or_else(|help| words::prefix(&word).map(Host::Prefix).map_err(|(message, _)| (message, help))) {
                Ok(host) => hosts.push(host),
                Err((message, help)) => reader.wrong(span, message, help.to_string()),
            }
        }
    }
    Entry {
        hosts,
        ports: table.get("ports").map(|value| reader.ports(value)).unwrap_or_default(),
        os: list(reader, table, "os", "[\"iOS\"]"),
        proxy: reader.flag(table, "proxy"),
        purpose: table.get("purpose").and_then(|value| reader.string(value)),
    }
}

fn text(reader: &mut Reader<'_>, table: &DeTable<'_>, span: &Range<usize>, key: &str) -> String {
    let Some(value) = table.get(key) else {
        reader.wrong(span.clone(), format!("there is no {key}"), format!("write {key} = \"…\""));
        return String::new();
    };
    reader.string(value).unwrap_or_default()
}

fn list(reader: &mut Reader<'_>, table: &DeTable<'_>, key: &str, example: &str) -> Vec<String> {
    let Some(value) = table.get(key) else { return Vec::new() };
    reader.strings(value, key, example).into_iter().map(|(_, word)| word).collect()
}
