//! `enforcer export`.

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::{
    IncludeRoots, output,
    style::{self, painted},
};
use crate::{
    bounded,
    catalog::Pattern,
    export::{
        self, Export,
        dnsmasq::Kind,
        mobileconfig::{Credentials, Mode},
        nftables::Interfaces,
        tickets,
    },
    policy::Policy,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    format: Format,
}

#[derive(clap::Subcommand)]
enum Format {
    /// A table of nftables that judges what the enforcer judges: sets and rules, loaded at once
    Nftables(Nftables),
    /// Lines for dnsmasq that put the addresses of names into sets of that table
    Dnsmasq(Dnsmasq),
    /// ACLs and access rules for Squid
    Squid(Common),
    /// A response policy zone (for unbound) of the names that all clients are denied
    Rpz(Common),
    /// A PAC file: which URLs go through the policy's proxies
    Pac(Common),
    /// A configuration profile with a global HTTP proxy, for an MDM server
    Mobileconfig(Mobileconfig),
    /// What DHCP and DNS need to tell clients of a PAC file
    Wpad(Wpad),
    /// Rules, hosts and ports as CSV
    Csv(Common),
    /// Rules, hosts and ports as tables of Markdown
    Markdown(Common),
}

#[derive(clap::Args)]
struct Common {
    /// The policy
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// Export the rules of a time, such as 2026-11-25T09:30+01:00, if rules have schedules
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
struct Nftables {
    #[command(flatten)]
    common: Common,
    /// An interface where clients are; may be repeated
    #[arg(long, required = true, value_name = "INTERFACE")]
    lan: Vec<String>,
    /// An interface to the internet: what else is forwarded there is judged, too, and what the gateway itself sends; may be repeated
    #[arg(long, value_name = "INTERFACE")]
    wan: Vec<String>,
}

#[derive(clap::Args)]
struct Dnsmasq {
    #[command(flatten)]
    common: Common,
    /// Sets of ipset, for rules of iptables, instead of nftables'
    #[arg(long)]
    ipset: bool,
}

#[derive(clap::Args)]
struct Mobileconfig {
    #[command(flatten)]
    common: Common,
    /// Where devices fetch a PAC file; without it, the profile names the policy's first proxy
    #[arg(long, value_name = "URL")]
    pac_url: Option<String>,
    /// A file of two lines, user name and password for the proxy, which the profile will have in clear
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Wpad {
    /// Where the PAC file is served
    #[arg(long, value_name = "URL")]
    url: String,
    /// The domain that clients are in, to be asked for wpad.DOMAIN
    #[arg(long, value_name = "NAME", requires = "address")]
    domain: Option<Pattern>,
    /// The address of the machine that serves the file there
    #[arg(long, value_name = "IP", requires = "domain")]
    address: Option<IpAddr>,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
struct Output {
    /// Write a file, whole or not at all; without it, the output is printed
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.format {
        Format::Nftables(Nftables { common, lan, wan }) => {
            let interfaces = Interfaces { lans: lan.clone(), wans: wan.clone() };
            common.output.write(&export::nftables::nftables(&common.applying()?, &interfaces)?)
        }
        Format::Dnsmasq(Dnsmasq { common, ipset }) => {
            let kind = if *ipset { Kind::Ipset } else { Kind::Nftables };
            common.output.write(&export::dnsmasq::dnsmasq(&common.applying()?, kind)?)
        }
        Format::Squid(common) => common.output.write(&export::squid::squid(&common.applying()?)),
        Format::Rpz(common) => common.output.write(&export::rpz::rpz(&common.applying()?)),
        Format::Pac(common) => common.output.write(&export::pac::pac(&common.applying()?)?),
        Format::Mobileconfig(Mobileconfig { common, pac_url, credentials }) => {
            let mode = pac_url.clone().map_or(Mode::Manual, Mode::Automatic);
            let credentials = credentials.as_deref().map(credentials_of).transpose()?;
            let policy = common.include_roots.load(&common.policy)?;
            let export = export::mobileconfig::mobileconfig(&policy, &mode, credentials.as_ref())?;
            // A password in it is for its reader alone.
            common.output.write_as(&export, credentials.is_some())
        }
        Format::Wpad(Wpad { url, domain, address, output }) => {
            output.write(&export::wpad::wpad(url, domain.as_ref().zip(*address))?)
        }
        Format::Csv(common) => common.output.write(&tickets::csv(&common.whole()?)),
        Format::Markdown(common) => common.output.write(&tickets::markdown(&common.whole()?)),
    }
}

impl Common {
    /// The policy's rules at the time that is named, without schedules.
    fn applying(&self) -> Result<Policy> {
        Ok(export::at(&self.include_roots.load(&self.policy)?, self.at)?)
    }

    /// The policy with its schedules, unless a time is named.
    fn whole(&self) -> Result<Policy> {
        let policy = self.include_roots.load(&self.policy)?;
        Ok(if self.at.is_some() { export::at(&policy, self.at)? } else { policy })
    }
}

/// What a file says of who devices are to the proxy.
fn credentials_of(path: &Path) -> Result<Credentials> {
    let text = File::open(path).and_then(|file| bounded::text(file, 4096));
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(
        lines.len() == 2 && lines.iter().all(|line| !line.is_empty()),
        "{}: write the user name in the first line and the password in the second, and nothing else",
        path.display()
    );
    Ok(Credentials { user: lines[0].into(), password: lines[1].into() })
}

impl Output {
    fn write(&self, export: &Export) -> Result<ExitCode> {
        self.write_as(export, false)
    }

    fn write_as(&self, export: &Export, is_secret: bool) -> Result<ExitCode> {
        for warning in &export.warnings {
            anstream::eprintln!("{} {warning}", painted(style::WARNING, "warning:"));
        }
        match &self.output {
            Some(path) => output::write(path, &export.text, is_secret)
                .with_context(|| format!("cannot write {}", path.display()))?,
            None => super::print(&export.text)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
