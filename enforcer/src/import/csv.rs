//! A CSV of hosts and ports.

use std::collections::{BTreeMap, HashMap};

use ::csv::{ReaderBuilder, StringRecord};

use super::{About, Found, Import, Mistake, host, written};
use crate::policy::{PortMatch, words};

/// What columns are read.
const KNOWN: [&str; 7] = ["host", "ports", "protocol", "service", "action", "from", "schedule"];
const HELP: &str = "the first line names the columns: host, ports, and if you like protocol, service and action";

/// What is between cells, by the columns' names: spreadsheets write semicolons where the comma is for decimals.
fn delimiter(text: &str) -> u8 {
    let names = text.split(['\r', '\n']).find(|line| !line.is_empty()).unwrap_or_default().as_bytes();
    names.iter().copied().find(|letter| b",;\t".contains(letter)).unwrap_or(b',')
}

/// A catalogue of the columns `host` and `ports`, in which ports are words such as `tcp/443`, or numbers beside a column `protocol`. A column `service`
/// tells services apart; lines that a column `action` does not allow are left out, as are those about every host. Columns `from` and `schedule` are
/// for rules to say.
///
/// # Errors
/// At the first line that has no host or ports.
pub fn csv(text: &str, about: &About) -> Result<Import, Mistake> {
    let mut reader = ReaderBuilder::new();
    let mut reader =
        reader.delimiter(delimiter(text)).flexible(true).trim(::csv::Trim::All).from_reader(text.as_bytes());
    let mistake =
        |line: u64, message: String, help: &str| Mistake { place: format!("line {line}"), message, help: help.into() };
    let headers = reader.headers().map_err(|error| mistake(1, error.to_string(), HELP))?.clone();
    let mut columns: HashMap<String, usize> = HashMap::new();
    for (index, name) in headers.iter().map(str::to_ascii_lowercase).enumerate() {
        if KNOWN.contains(&name.as_str()) && columns.insert(name.clone(), index).is_some() {
            return Err(mistake(1, format!("there are two columns {name:?}"), HELP));
        }
    }
    for column in ["host", "ports"] {
        if !columns.contains_key(column) {
            return Err(mistake(1, format!("there is no column {column:?}"), HELP));
        }
    }
    let (mut found, mut told) = (Found::default(), BTreeMap::<&str, Vec<u64>>::new());
    for record in reader.records() {
        let record = record.map_err(|error| {
            mistake(
                error.position().map_or(1, ::csv::Position::line),
                error.to_string(),
                "quote cells that have delimiters or quotes",
            )
        })?;
        let line = record.position().map_or(0, ::csv::Position::line);
        let cell = |name: &str| columns.get(name).and_then(|index| record.get(*index)).unwrap_or_default();
        if record.iter().all(str::is_empty) {
            continue;
        }
        if !matches!(cell("action"), "" | "allow") {
            told.entry("left out, as their action is not \"allow\"").or_default().push(line);
        } else if cell("host") == "any" {
            told.entry("left out, as they are about every host").or_default().push(line);
        } else {
            let place = || format!("line {line}");
            let ports = ports(&record, &columns).map_err(|(message, help)| mistake(line, message, &help))?;
            let service = Some(cell("service")).filter(|name| !name.is_empty()).unwrap_or("hosts");
            // The catalogue's own name comes before the slash already.
            let own = service.strip_prefix(&about.name).and_then(|rest| rest.strip_prefix('/'));
            found.add(own.unwrap_or(service), [host(cell("host"), &place)?], ports);
            if !matches!(cell("from"), "" | "any") || !cell("schedule").is_empty() {
                let some = "about some clients or times, which a catalogue does not say: say it in the rules that name its services";
                told.entry(some).or_default().push(line);
            }
        }
    }
    let warnings = told.into_iter().map(|(what, lines)| format!("{} {what}", listed(&lines))).collect();
    written(found, about, warnings)
}

/// The first lines of many.
fn listed(lines: &[u64]) -> String {
    let shown: Vec<String> = lines.iter().take(5).map(ToString::to_string).collect();
    match lines {
        [line] => format!("line {line} is"),
        _ if lines.len() > shown.len() => {
            format!("lines {} and {} more are", shown.join(", "), lines.len() - shown.len())
        }
        _ => format!("lines {} are", shown.join(", ")),
    }
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
        assert_eq!(import.warnings, ["lines 2, 7 are left out, as their action is not \"allow\""]);
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
    fn services_of_one_name_in_two_catalogues_stay_two() {
        let row = |service: &str, rest: &str| format!("{service},192.0.2.1,tcp/1,{rest}\n");
        let rows =
            [row("a/web", "any,"), row("b/web", "10.1.0.0/24,"), row("mine/dns", ",\"lessons: mon 08:00-13:00\"")];
        let import = csv(&format!("service,host,ports,from,schedule\n{}", rows.concat()), &about()).expect("imported");
        let catalog = Catalog::parse("mine", "f", &import.text).expect("a catalogue");
        let names: Vec<&str> = catalog.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["a/web", "b/web", "dns"]);
        assert!(import.warnings[0].starts_with("lines 3, 4 are about some clients"), "{:?}", import.warnings);
        assert_eq!(listed(&[1]), "line 1 is");
        assert_eq!(listed(&[1, 2, 3, 4, 5, 6, 9]), "lines 1, 2, 3, 4, 5 and 2 more are");
    }

    #[test]
    fn cells_are_apart_by_what_is_between_the_columns_names() {
        let text = "service,host,ports\nweb,192.0.2.1,tcp/443\n";
        let wanted = csv(text, &about()).expect("imported");
        for delimiter in [";", "\t"] {
            assert_eq!(csv(&text.replace(',', delimiter), &about()).expect("imported"), wanted, "{delimiter:?}");
        }
        let commas = csv("host;ports\n192.0.2.1;tcp/443,tcp/80\n", &about()).expect("imported").text;
        assert!(commas.contains("tcp/443") && commas.contains("tcp/80"), "{commas}");
        csv("host;ports;whose, since when\n192.0.2.1;tcp/443;ours\n", &about()).expect("imported");
    }

    #[test]
    fn mistakes_are_told_by_line() {
        for (text, place, message) in [
            ("name,ports\na,tcp/1\n", "line 1", "\"host\""),
            ("host,ports\n192.0.2.1,tcp/443\n192.0.2.1/8,tcp/443\n", "line 3", "bits set"),
            ("host,ports\nwww.example.org,443\n", "line 2", "not a port"),
            ("host,ports\nwww.example.org,\n", "line 2", "no ports"),
            ("host,protocol,ports\nwww.example.org,tcp,70000\n", "line 2", "no valid port"),
            ("host,ports,Host\n", "line 1", "two columns \"host\""),
            ("host,ports\n", "a \"file\"", "no hosts"),
            ("host,ports,service\n192.0.2.1,tcp/1,a b\n", "a \"file\"", "not a name"),
        ] {
            let mistake = csv(text, &about()).expect_err(text);
            assert!(mistake.place == place && mistake.message.contains(message), "{text}: {mistake}");
        }
    }
}
