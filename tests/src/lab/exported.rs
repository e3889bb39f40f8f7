//! What the product exports, and what resolvers that have it answer.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Lab, binary, dns, resolver::Resolver};

/// Exports a policy by the program: what it writes, and what it warns of.
pub fn export(lab: &Lab, format: &str, policy: &str, arguments: &str) -> Result<(String, String)> {
    let file = lab.file("exported.toml", policy)?;
    let mut command = Command::new(binary("enforcer")?);
    command.args(["export", format]).arg(file).args(arguments.split_whitespace());
    let (output, again) = (command.output()?, command.output()?);
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{said}");
    ensure!(output.stdout == again.stdout, "two exports of one policy differ");
    Ok((String::from_utf8(output.stdout)?, said))
}

/// A resolver's answer to the client.
pub fn ask(lab: &Lab, resolver: &Resolver, name: &str, kind: u16) -> Result<Vec<u8>> {
    let query = dns::query(name, kind);
    let answer = lab.client.enter(|| dns::ask_udp(resolver.address, &query, Duration::from_secs(2)))?;
    answer.with_context(|| format!("no answer for {name}"))
}
