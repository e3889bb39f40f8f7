//! What keeps packets from an interface on which no program is: rules of nftables, which go by its name and by the index that programs are on. They hold
//! before a controller knows that an interface is there, and when there is no controller.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The table's name, in the families `inet` and `bridge`.
const TABLE: &str = "enforcer_guard";

/// One that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the guard is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The program is not there.
    #[error("cannot run nft, by which --fail closed works: install nftables")]
    NoNft(#[source] io::Error),
    /// It refused.
    #[error("nft refuses the guard of --fail closed: {0}")]
    Refused(String),
    /// A name that its rules would take for something else.
    #[error("--fail closed cannot guard an interface that is called {0:?}: letters, digits and -_.@: only")]
    Name(String),
}

/// An interface by its name, and the index under which programs are on it; 0 if they are not.
pub type Guarded<'a> = (&'a str, u32);

/// Lets packets be forwarded from LANs and to WANs only where programs are on them. `bridged` is whether a LAN is a port of a bridge, which forwarding
/// does not know it by.
///
/// # Errors
/// If nft is not there or refuses; what was in force stays.
pub fn install(lans: &[Guarded<'_>], wans: &[Guarded<'_>], bridged: bool) -> Result<(), GuardError> {
    run(&rules(lans, wans, bridged)?)
}

/// Takes the guard away, if there is one.
///
/// # Errors
/// If nft refuses. Without nft there is no guard.
pub fn remove() -> Result<(), GuardError> {
    // Created first, so that deleting does not fail.
    let of = |family| format!("table {family} {TABLE}\ndelete table {family} {TABLE}\n");
    match run(&of("inet")) {
        Err(GuardError::NoNft(_)) => return Ok(()),
        other => other?,
    }
    // A kernel may have no such family.
    let _ = run(&of("bridge"));
    Ok(())
}

/// Whether there is a guard.
#[must_use]
pub fn is_there() -> bool {
    nft(&["list", "table", "inet", TABLE], "").is_ok()
}

fn rules(lans: &[Guarded<'_>], wans: &[Guarded<'_>], bridged: bool) -> Result<String, GuardError> {
    let fits = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c));
    if let Some((name, _)) = lans.iter().chain(wans).find(|(name, _)| !fits(name)) {
        return Err(GuardError::Name((*name).to_owned()));
    }
    let mut text = String::new();
    let mut table = |family: &str, hook: &str, chains: &[(&str, &[Guarded<'_>])]| {
        let _ = writeln!(text, "table {family} {TABLE}\ndelete table {family} {TABLE}\ntable {family} {TABLE} {{");
        let _ = writeln!(text, "chain {hook} {{ type filter hook {hook} priority -400; policy accept;");
        for (way, guarded) in chains {
            for (name, index) in *guarded {
                let _ = writeln!(text, "{way}name \"{name}\" {way} != {index} counter drop");
            }
        }
        text += "}\n}\n";
    };
    table("inet", "forward", &[("iif", lans), ("oif", wans)]);
    if bridged {
        table("bridge", "prerouting", &[("iif", lans)]);
    }
    Ok(text)
}

fn run(rules: &str) -> Result<(), GuardError> {
    nft(&["-f", "-"], rules)
}

fn nft(arguments: &[&str], input: &str) -> Result<(), GuardError> {
    let mut nft = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GuardError::NoNft)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(GuardError::NoNft)?;
    }
    let start = Instant::now();
    while nft.try_wait().map_err(GuardError::NoNft)?.is_none() {
        if start.elapsed() > PATIENCE {
            let _ = nft.kill();
        }
        thread::sleep(Duration::from_millis(2));
    }
    let Output { status, stderr, .. } = nft.wait_with_output().map_err(GuardError::NoNft)?;
    if status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(GuardError::Refused(stderr.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_passes_only_under_the_index_that_programs_are_on() {
        let text = rules(&[("lan0", 12), ("br-lan", 0)], &[("wan0", 7)], false).expect("names");
        assert!(text.contains("iifname \"lan0\" iif != 12 counter drop\niifname \"br-lan\" iif != 0 counter drop\n"));
        assert!(text.contains("oifname \"wan0\" oif != 7 counter drop\n"));
        assert!(!text.contains("bridge"));
        let bridged = rules(&[("port1", 3)], &[], true).expect("names");
        assert_eq!(bridged.matches("iifname \"port1\" iif != 3").count(), 2);
    }

    #[test]
    fn a_name_that_would_be_another_rule_is_refused() {
        for name in ["lan*", "lan\" accept #", "lan\\"] {
            assert!(matches!(rules(&[(name, 1)], &[], false), Err(GuardError::Name(_))), "{name}");
        }
    }
}
