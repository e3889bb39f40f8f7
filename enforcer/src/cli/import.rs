//! `enforcer import`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use jiff::{Zoned, civil::Date};

use super::{output, style};
use crate::{
    bounded,
    import::{self, About, Import, Unsaid},
    policy::{PortMatch, Transport, words},
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    format: Format,
}

#[derive(clap::Subcommand)]
enum Format {
    /// Sets of nftables, as `nft -j list set inet TABLE SET` prints them
    Nftables(Nftables),
    /// A CSV with the columns host and ports, and if there are any protocol, service and action
    Csv(Common),
}

#[derive(clap::Args)]
struct Common {
    /// What is to be imported; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What policies call the catalogue: NAME/SERVICE; write it to the folder `catalog` beside them, as NAME.toml
    #[arg(long, value_name = "NAME", default_value = "imported", value_parser = name)]
    name: String,
    /// As of when it is; today, if it is not said
    #[arg(long, value_name = "DATE")]
    date: Option<Date>,
    /// Write a file, whole or not at all; without it, the catalogue is printed
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Nftables {
    #[command(flatten)]
    common: Common,
    /// Ports of sets that have none, such as tcp/443; may be repeated
    #[arg(long, value_name = "PORT", value_parser = port)]
    ports: Vec<PortMatch>,
    /// Protocol of sets that have ports and no protocols: tcp, udp, sctp or udplite; may be repeated
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    protocol: Vec<Transport>,
}

/// Larger sets are for nobody to look through.
const MOST_BYTES: u64 = 256 << 20;

/// A catalogue's name is its file's, too.
fn name(word: &str) -> Result<String, String> {
    let is_one = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let fits = (1..=64).contains(&word.len()) && word.chars().all(is_one);
    fits.then(|| word.to_owned()).ok_or_else(|| "it is 1 to 64 letters, digits and - _".into())
}

fn port(word: &str) -> Result<PortMatch, String> {
    words::port(word).map_err(|(message, help)| format!("{message}: {help}"))
}

fn protocol(word: &str) -> Result<Transport, String> {
    let all = [Transport::Tcp, Transport::Udp, Transport::Sctp, Transport::UdpLite];
    let found = all.into_iter().find(|transport| transport.to_string() == word);
    found.ok_or_else(|| "write tcp, udp, sctp or udplite".into())
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.format {
        Format::Nftables(Nftables { common, ports, protocol }) => {
            let unsaid = Unsaid { ports: ports.clone(), protocols: protocol.clone() };
            common.write(&import::nftables(&common.read()?, &unsaid, &common.about())?)
        }
        Format::Csv(common) => common.write(&import::csv(&common.read()?, &common.about())?),
    }
}

impl Common {
    fn read(&self) -> Result<String> {
        if self.file == Path::new("-") {
            return bounded::text(std::io::stdin(), MOST_BYTES).context("cannot read standard input");
        }
        let read = File::open(&self.file).and_then(|file| bounded::text(file, MOST_BYTES));
        read.with_context(|| format!("cannot read {}", self.file.display()))
    }

    fn about(&self) -> About {
        let date = self.date.unwrap_or_else(|| Zoned::now().date());
        About { name: self.name.clone(), source: self.file.display().to_string(), date: date.to_string() }
    }

    fn write(&self, import: &Import) -> Result<ExitCode> {
        for warning in &import.warnings {
            anstream::eprintln!("{} {warning}", style::painted(style::WARNING, "warning:"));
        }
        match &self.output {
            Some(path) => {
                output::write(path, &import.text, false).with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => super::print(&import.text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
