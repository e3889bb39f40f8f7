//! What the product exports, and what resolvers that have it answer.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Lab, dns, enforcer_binary,
    probe::{self, Outcome},
    resolver::Resolver,
};

/// A policy by which clients reach the web through a proxy on their own LAN.
pub const PROXIED: &str = r#"
default = "drop"
[[proxy]]
address = "10.1.0.3"
port = 3128
services = ["web"]
[[service]]
name = "web"
to = ["17.1.2.3", "www.example.org"]
ports = ["tcp/443"]
[[service]]
name = "resolvers"
to = ["198.51.100.2", "17.253.4.5"]
ports = ["udp/53", "tcp/53", "tcp/443"]
[[rule]]
name = "proxy"
action = "allow"
from = ["10.1.0.3"]
services = ["resolvers"]
[[rule]]
name = "web"
action = "allow"
services = ["web"]
"#;

/// Exports a policy by the program: what it writes, and what it warns of.
pub fn export(lab: &Lab, format: &str, policy: &str, arguments: &str) -> Result<(String, String)> {
    let file = lab.file("exported.toml", policy)?;
    let mut command = Command::new(enforcer_binary()?);
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

/// A running Squid on the neighbour, 10.1.0.3:3128; dropping it stops it.
pub struct Squid {
    child: Child,
    logs: [PathBuf; 2],
}

impl Squid {
    /// Starts it with what is exported of a policy, and a resolver at 198.51.100.2.
    pub fn start(lab: &Lab, policy: &str) -> Result<Self> {
        let (lines, _) = export(lab, "squid", policy, "")?;
        let logs = [lab.file("squid.log", "")?, lab.path("running.log")];
        // Squid gives up root's rights before it writes.
        Command::new("chmod").args(["666"]).arg(&logs[0]).status()?;
        let config = format!(
            "http_port 10.1.0.3:3128\ninclude {}\ncache deny all\ncache_log {}\naccess_log none\npid_filename none\n\
             pinger_enable off\nnetdb_filename none\nvisible_hostname lab\ndns_nameservers 198.51.100.2\nshutdown_lifetime 0 seconds\n",
            lab.file("exported.squid", &lines)?.display(),
            logs[0].display()
        );
        let config = lab.file("squid.conf", &config)?;
        lab.neighbour.run(&format!("squid -k parse -f {}", config.display()))?;
        let output = File::create(&logs[1])?;
        let child = Command::new("ip")
            .args(["netns", "exec", lab.neighbour.name(), "squid", "-N", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let (squid, started) = (Self { child, logs }, Instant::now());
        while probe::tcp(&lab.client, "10.1.0.3", 3128)? == Outcome::Refused {
            if started.elapsed() > Duration::from_secs(20) {
                bail!("squid does not start: {}", squid.log());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(squid)
    }

    /// What it said.
    pub fn log(&self) -> String {
        self.logs.iter().filter_map(|log| fs::read_to_string(log).ok()).collect()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
