//! A CSV of hosts and ports.

use std::collections::HashMap;

use ::csv::{ReaderBuilder, StringRecord};

use super::{About, Found, Import, Mistake, host, written};
use crate::policy::{PortMatch, words};

const HELP: &str = "the first line names the columns: host, ports, and if you like protocol, service and action";

/// A catalogue of the columns `host` and `ports`, in which ports are words such as `tcp/443`, or numbers beside a column `protocol`. A column `service`
/// tells services apart; lines that a column `action` does not allow are left out, as are those about every host.
///
/// # Errors
/// At the first line that has no host or ports.
pub fn csv(text: &str, about: &About) -> Result<Import, Mistake> {
    let mut reader = ReaderBuilder::new().flexible(true).trim(::csv::Trim::All).from_reader(text.as_bytes());
    let mistake =
        |line: u64, message: String, help: &str| Mistake { place: format!("line {line}"), message, help: help.into() };
    let headers = reader.headers().map_err(|error| mistake(1, error.to_string(), HELP))?.clone();
    let columns: HashMap<String, usize> =
        headers.iter().enumerate().map(|(index, name)| (name.to_ascii_lowercase(), index)).collect();
    for column in ["host", "ports"] {
        if !columns.contains_key(column) {
            return Err(mistake(1, format!("there is no column {column:?}"), HELP));
        }
    }
    let (mut found, mut warnings) = (Found::default(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|error| {
            mistake(
                error.position().map_or(1, ::csv::Position::line),
                error.to_string(),
                "quote cells that have commas or quotes",
            )
        })?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let cell = |name: &str| columns.get(name).and_then(|index| record.get(*index)).unwrap_or_default();
        if record.iter().all(str::is_empty) {
            continue;
        }
        if !matches!(cell("action"), "" | "allow") {
            warnings.push(format!("line {line} is left out: its action is {:?}", cell("action")));
        } else if cell("host") == "any" {
            warnings.push(format!("line {line} is left out: it is about every host"));
        } else {
            let place = || format!("line {line}");
            let ports = ports(&record, &columns).map_err(|(message, help)| mistake(line, message, &help))?;
            let service = Some(cell("service")).filter(|name| !name.is_empty()).unwrap_or("hosts");
            // The catalogue's own name comes before the slash already.
            let service = service.rsplit('/').next().unwrap_or(service);
            found.add(service, [host(cell("host"), &place)?], ports);
        }
    }
    written(found, about, warnings)
}

/// A line's ports.
fn ports(record: &StringRecord, columns: &HashMap<String, usize>) -> Result<Vec<PortMatch>, words::Wrong> {
    let cell = |name: &str| columns.get(name).and_then(|index| record.get(*index)).unwrap_or_default();
    let (protocol, list) = (cell("protocol").to_ascii_lowercase(), cell("ports"));
    let list: Vec<&str> = list.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
    match (protocol.as_str(), list.as_slice()) {
        ("", []) => Err(("there are no ports".into(), "write tcp/443, or any".into())),
        ("", words) => words.iter().map(|word| words::port(word)).collect(),
        (protocol, []) => Ok(vec![words::port(protocol)?]),
        (protocol, words) => words.iter().map(|word| words::port(&format!("{protocol}/{word}"))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{Catalog, Catalogs},
        export::tickets,
        import::about,
        policy::Policy,
    };

    #[test]
    fn an_exported_csv_is_a_catalogue() {
        let policy = "default = \"drop\"\n[[service]]\nname = \"push\"\nto = [\"17.0.0.0/8\", \"*.push.apple.com\"]\nports = [\"tcp/443\", \"tcp/5223-5224\", \"icmp/8\"]\n\
                      [[service]]\nname = \"bad\"\nto = [\"192.0.2.1\"]\n[[rule]]\naction = \"drop\"\nservices = [\"bad\"]\n[[rule]]\naction = \"allow\"\nservices = [\"push\"]\n";
        let policy = Policy::parse("p", policy, &Catalogs::default()).expect("valid");
        let import = csv(&tickets::csv(&policy).text, &about()).expect("imported");
        assert_eq!(import.warnings.len(), 2, "{:?}", import.warnings);
        let catalog = Catalog::parse("mine", "f", &import.text).expect("a catalogue");
        let entries: Vec<String> = catalog.services[0]
            .entries
            .iter()
            .map(|entry| {
                format!(
                    "{:?} {:?}",
                    entry.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    entry.ports.iter().map(ToString::to_string).collect::<Vec<_>>()
                )
            })
            .collect();
        let hosts = r#"["17.0.0.0/8", "*.push.apple.com"]"#;
        assert_eq!(entries, [format!(r#"{hosts} ["tcp/443", "tcp/5223-5224"]"#), format!(r#"{hosts} ["icmp/8"]"#)]);
    }

    #[test]
    fn mistakes_are_told_by_line() {
        for (text, place, message) in [
            ("name,ports\na,tcp/1\n", "line 1", "\"host\""),
            ("host,ports\n192.0.2.1,tcp/443\n192.0.2.1/8,tcp/443\n", "line 3", "bits set"),
            ("host,ports\nwww.example.org,443\n", "line 2", "not a port"),
            ("host,ports\nwww.example.org,\n", "line 2", "no ports"),
            ("host,protocol,ports\nwww.example.org,tcp,70000\n", "line 2", "no valid port"),
            ("host,ports\n", "a \"file\"", "no hosts"),
            ("host,ports,service\n192.0.2.1,tcp/1,a b\n", "a \"file\"", "not a name"),
        ] {
            let mistake = csv(text, &about()).expect_err(text);
            assert!(mistake.place == place && mistake.message.contains(message), "{text}: {mistake}");
        }
    }
}
