//! What keeps packets from an interface on which no program is: rules of nftables, which go by its name and by the index that programs are on. They hold
//! before a controller knows that an interface is there, and when there is no controller.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::pins::FOLDER;

/// The families that rules are in. A kernel may not have the second one.
const FAMILIES: [&str; 2] = ["inet", "bridge"];

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

/// A guard, by the name of its table: each folder of pins has one of its own.
#[derive(Clone, Debug)]
pub struct Guard(String);

/// Rules of a guard, as nft reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of each family.
    texts: [String; 2],
    /// Whether the second one's are needed.
    bridged: bool,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Guard {
    /// `enforcer_guard`, and behind it the hash of the folder's path unless that is the usual one.
    #[must_use]
    pub fn of(pins: &Path) -> Self {
        let mut name = "enforcer_guard".to_owned();
        if pins != Path::new(FOLDER) {
            let [a, b, c, d, ..] = Sha256::digest(pins.as_os_str().as_encoded_bytes()).0;
            let _ = write!(name, "_{:08x}", u32::from_be_bytes([a, b, c, d]));
        }
        Self(name)
    }

    /// What lets packets be forwarded from LANs and to WANs only where programs are on them. `bridged` is whether a LAN is a port of a bridge, which
    /// forwarding does not know it by: without, those rules are there for when it becomes one, if the kernel has them.
    ///
    /// # Errors
    /// If an interface's name would be another rule.
    pub fn rules(&self, lans: &[Guarded<'_>], wans: &[Guarded<'_>], bridged: bool) -> Result<Rules, GuardError> {
        let fits = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c));
        if let Some((name, _)) = lans.iter().chain(wans).find(|(name, _)| !fits(name)) {
            return Err(GuardError::Name((*name).to_owned()));
        }
        let [inet, bridge] = FAMILIES;
        let table = |family: &str, hook: &str, chains: &[(&str, &[Guarded<'_>])]| {
            let mut text = format!("table {family} {self}\ndelete table {family} {self}\ntable {family} {self} {{\n");
            let _ = writeln!(text, "chain {hook} {{ type filter hook {hook} priority -400; policy accept;");
            for (way, guarded) in chains {
                for (name, index) in *guarded {
                    // nft takes the number for a name if an interface has it; none has sixteen digits, which nft leaves as they are between quotes.
                    let _ = writeln!(text, "{way}name \"{name}\" {way} != \"{index:016}\" counter drop");
                }
            }
            text + "}\n}\n"
        };
        let texts =
            [table(inet, "forward", &[("iif", lans), ("oif", wans)]), table(bridge, "prerouting", &[("iif", lans)])];
        Ok(Rules { texts, bridged })
    }

    /// Whether as many rules are there as were installed. How nft words them differs by its version, and by the names that interfaces have now.
    #[must_use]
    pub fn has(&self, rules: &Rules) -> bool {
        let drops = |text: &str| text.lines().filter(|line| line.contains(" != ") && line.ends_with("drop")).count();
        let has = |family, text: &str| {
            let listed = nft(&["list", "table", family, &self.0], "").unwrap_or_default();
            drops(&listed) == drops(text)
        };
        let ([inet, bridge], [routed, bridged]) = (FAMILIES, &rules.texts);
        has(inet, routed) && (!rules.bridged || has(bridge, bridged))
    }

    /// Takes it away, if it is there.
    ///
    /// # Errors
    /// If nft refuses. Without nft there is no guard.
    pub fn remove(&self) -> Result<(), GuardError> {
        // Created first, so that deleting does not fail.
        let [inet, bridge] = FAMILIES.map(|family| {
            let delete = format!("table {family} {self}\ndelete table {family} {self}\n");
            nft(&["-f", "-"], &delete).map(drop)
        });
        match (inet, bridge) {
            (Err(GuardError::NoNft(_)), _) => Ok(()),
            // A kernel may have no such family.
            (inet, _) => inet,
        }
    }
}

impl Rules {
    /// Puts them in the place of those that are there.
    ///
    /// # Errors
    /// If nft is not there or refuses; of what it refuses, what was in force stays.
    pub fn install(&self) -> Result<(), GuardError> {
        let [inet, bridge] = &self.texts;
        nft(&["-f", "-"], inet)?;
        let installed = nft(&["-f", "-"], bridge);
        if self.bridged { installed.map(drop) } else { Ok(()) }
    }
}

/// What nft prints, which is less than a pipe holds.
fn nft(arguments: &[&str], input: &str) -> Result<String, GuardError> {
    let mut nft = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
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
    let Output { status, stdout, stderr } = nft.wait_with_output().map_err(GuardError::NoNft)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(GuardError::Refused(stderr.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_passes_only_under_the_index_that_programs_are_on() {
        let guard = Guard::of(Path::new(FOLDER));
        let Rules { texts: [text, bridge], .. } =
            guard.rules(&[("lan0", 12), ("br-lan", 0)], &[("wan0", 7)], false).expect("names");
        assert!(text.starts_with("table inet enforcer_guard\n"));
        let index = |index: &str| format!("\"{index:0>16}\" counter drop\n");
        let [twelve, none, seven] = ["12", "0", "7"].map(index);
        assert!(text.contains(&format!("iifname \"lan0\" iif != {twelve}iifname \"br-lan\" iif != {none}")));
        assert!(text.contains(&format!("oifname \"wan0\" oif != {seven}")));
        assert!(bridge.starts_with("table bridge enforcer_guard\n"));
        assert!(bridge.contains(&format!("iifname \"lan0\" iif != {twelve}")) && !bridge.contains("wan0"));
    }

    #[test]
    fn a_name_that_would_be_another_rule_is_refused() {
        for name in ["lan*", "lan\" accept #", "lan\\"] {
            let refused = Guard::of(Path::new(FOLDER)).rules(&[(name, 1)], &[], false);
            assert!(matches!(refused, Err(GuardError::Name(_))), "{name}");
        }
    }

    #[test]
    fn each_folder_of_pins_has_a_guard_of_its_own() {
        let [a, b] = ["/sys/fs/bpf/a", "/sys/fs/bpf/b"].map(|pins| Guard::of(Path::new(pins)).to_string());
        assert!(a.starts_with("enforcer_guard_") && a != b, "{a}, {b}");
    }
}
