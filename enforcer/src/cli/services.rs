//! `enforcer services`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{IncludeRoots, style};
use crate::catalog::{Catalog, Catalogs, Entry, Host, Service};

#[derive(clap::Args)]
pub struct Arguments {
    /// A service such as apple/apns, all of a vendor (apple/*), or a tag (tag:mdm); without it, all are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The policy beside which further catalogues lie, in the folder `catalog`
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let catalogs = arguments
        .policy
        .as_deref()
        .map_or_else(|| Ok(Catalogs::default()), |policy| Catalogs::beside(&arguments.include_roots.disk(), policy))?;
    let wanted = arguments.name.as_deref().unwrap_or("*");
    let found = catalogs.find(wanted);
    if found.is_empty() {
        let words: Vec<String> = catalogs.words().collect();
        match crate::policy::words::nearest(wanted, words.iter().map(String::as_str)) {
            Some(near) => bail!("there is no service {wanted:?}; did you mean {near:?}?"),
            None => bail!("there is no service {wanted:?}; `enforcer services` lists them"),
        }
    }
    if arguments.json {
        super::print_json(&found.iter().map(|(catalog, service)| as_json(catalog, service)).collect::<Vec<_>>())?;
    } else if arguments.name.is_some() {
        let shown: Vec<String> = found.iter().map(|(catalog, service)| show(catalog, service)).collect();
        super::print(&shown.join("\n"))?;
    } else {
        super::print(&list(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each.
fn list(found: &[(&Catalog, &Service)]) -> String {
    let mut rows = vec![
        ["SERVICE", "TITLE", "TAGS", "PREFIXES", "NAMES"].map(|word| style::painted(style::HEADING, word)).to_vec(),
    ];
    rows.extend(found.iter().map(|(catalog, service)| {
        let names = service.names().count();
        let prefixes = service.hosts().count() - names;
        vec![
            format!("{}/{}", catalog.name, service.name),
            service.title.clone(),
            service.tags.join(" "),
            prefixes.to_string(),
            names.to_string(),
        ]
    }));
    super::table(&rows, &[3, 4])
}

/// All that is known of one.
fn show(catalog: &Catalog, service: &Service) -> String {
    let mut text = format!(
        "{}/{}: {}\n{}\ntags: {}\nsource: {} ({})\n\n",
        catalog.name,
        service.name,
        service.title,
        service.purpose,
        service.tags.join(", "),
        catalog.source,
        catalog.date
    );
    let mut rows = vec![
        ["HOST", "PORTS", "PROXY", "SYSTEMS", "PURPOSE"].map(|word| style::painted(style::HEADING, word)).to_vec(),
    ];
    for entry in &service.entries {
        let Entry { ports, os, proxy, purpose, .. } = entry;
        rows.extend(entry.hosts.iter().map(|host| {
            vec![
                host.to_string(),
                ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                if *proxy { "yes" } else { "no" }.to_owned(),
                if os.is_empty() { "all".to_owned() } else { os.join(" ") },
                purpose.clone().unwrap_or_default(),
            ]
        }));
    }
    text += &super::table(&rows, &[]);
    text
}

fn as_json(catalog: &Catalog, service: &Service) -> Value {
    let words = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>();
    let entries = service.entries.iter().map(|entry| {
        json!({
            "names": words(&mut entry.hosts.iter().filter(|host| host.prefix().is_none()).map(Host::to_string)),
            "prefixes": words(&mut entry.hosts.iter().filter_map(Host::prefix).map(|net| net.to_string())),
            "ports": words(&mut entry.ports.iter().map(ToString::to_string)),
            "os": entry.os,
            "proxy": entry.proxy,
            "purpose": entry.purpose,
        })
    });
    json!({
        "name": format!("{}/{}", catalog.name, service.name),
        "title": service.title,
        "purpose": service.purpose,
        "tags": service.tags,
        "source": catalog.source,
        "date": catalog.date,
        "entries": entries.collect::<Vec<_>>(),
    })
}
