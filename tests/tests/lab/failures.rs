//! What goes wrong around a controller: every failure names itself, and no packet gets another verdict by it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use enforcer::kernel::pins::Pins;
use enforcer_tests::lab::{
    Lab, POLICY, enforcer_binary,
    flood::Flood,
    names::{self, known, wait},
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};

const RUN: &str = "--lan lan0 --wan wan0";
/// Under the lab's policy.
const FLOWS: [(&str, u16, bool); 3] =
    [("17.253.4.5", 123, true), ("2403:300::7", 123, true), ("203.0.113.9", 123, false)];

/// That a flood meets the lab's policy and nothing else while something is done.
fn while_right(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let flood = Flood::start(lab, &FLOWS)?;
    work()?;
    thread::sleep(Duration::from_millis(200));
    let tally = flood.stop()?;
    assert_eq!((tally.lost, tally.leaked), (0, 0), "{tally:?}");
    Ok(())
}

fn refused(lab: &Lab, arguments: &str) -> String {
    Enforcer::start_again(lab, arguments).err().map_or_else(String::new, |error| error.to_string())
}

/// Tells it to read a policy, and waits for a word about that.
fn reload(lab: &Lab, enforcer: &Enforcer, policy: &str, word: &str) -> Result<()> {
    lab.file("policy.toml", policy)?;
    enforcer.hang_up();
    wait(word, || Ok(enforcer.log()?.contains(word))).with_context(|| enforcer.log().unwrap_or_default())
}

#[test]
fn a_second_controller_with_the_same_pins_or_state_is_refused() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    while_right(&lab, || {
        let said = |pins: &Path| -> Result<String> {
            lab.gateway.output_of(&format!(
                "{} run --policy {} {RUN} --socket {} --state {} --pins {}",
                enforcer_binary()?.display(),
                lab.path("policy.toml").display(),
                lab.path("other").display(),
                lab.path("state").display(),
                pins.display(),
            ))
        };
        let (pins, others) = (lab.pins()?, lab.pins()?.with_file_name("other"));
        let output = said(&pins)?;
        assert!(output.contains("another controller keeps its programs in"), "{output}");
        // With pins of its own, it would go on with this one's policies.
        let output = said(&others)?;
        assert!(output.contains("another controller keeps its policies in"), "{output}");
        assert!(!others.exists());
        Ok(())
    })?;
    enforcer.stop()
}

#[test]
fn a_pipe_as_policy_is_refused_and_not_waited_for() -> Result<()> {
    let lab = Lab::new()?;
    let pipe = lab.path("policy.toml");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success(), "no pipe");
    let said = refused(&lab, RUN);
    assert!(said.contains("policy.toml is no file") && said.contains("ended at once"), "{said}");
    Ok(())
}

#[test]
fn without_a_bpf_file_system_a_start_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80], &[])?;
    lab.file("policy.toml", POLICY)?;
    // The folder is there, but in another file system.
    let pins = lab.path("bpf");
    fs::create_dir(&pins)?;
    let said = refused(&lab, RUN);
    fs::remove_dir_all(&pins)?;
    assert!(said.contains("is no folder in a BPF file system") && said.contains("mount -t bpf"), "{said}");
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    Ok(())
}

#[test]
fn a_bpf_file_system_that_goes_away_is_told_and_takes_no_program_along() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    while_right(&lab, || {
        lab.forget_pins()?;
        wait("a warning", || Ok(enforcer.ask("status")?.contains("are gone: the kernel enforces only for as long")))?;
        reload(&lab, &enforcer, &format!("{POLICY}\n# other\n"), "the policy in force stays")
    })?;
    // What never was in force is no history.
    assert_eq!(enforcer.ask("history --json")?.matches("\"number\"").count(), 1);
    enforcer.stop()
}

#[test]
fn pins_have_a_folder_of_their_own() -> Result<()> {
    let lab = Lab::new()?;
    let mount = lab.pins()?.parent().context("a mount")?.to_owned();
    let refused = Pins::open(&mount).err().context("others' pins would go with its own")?.to_string();
    assert!(refused.contains("is no folder in a BPF file system"), "{refused}");
    let pins = Pins::open(&lab.pins()?)?;
    fs::create_dir(lab.pins()?.join("others"))?;
    assert!(pins.remove().is_err(), "what is another's stays");
    assert!(lab.pins()?.join("others").exists());
    Ok(())
}

#[test]
fn nothing_is_pinned_where_it_would_end_with_the_process() -> Result<()> {
    let lab = Lab::new()?;
    // `ip netns exec` makes a `/sys` of its own, without the BPF file system.
    let said = lab.gateway.output_of(&format!(
        "{} run --policy {} {RUN} --socket {} --state {} --pins /sys/fs/bpf/enforcer-lab",
        enforcer_binary()?.display(),
        lab.file("policy.toml", POLICY)?.display(),
        lab.path("socket").display(),
        lab.path("state").display(),
    ))?;
    assert!(said.contains("is no folder in a BPF file system") && said.contains("nsenter --net="), "{said}");
    Ok(())
}

#[test]
fn a_policy_file_that_never_answers_keeps_nothing_waiting_for_ever() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let other = lab.file("other.toml", &format!("{POLICY}\n# other\n"))?;
    while_right(&lab, || {
        fs::remove_file(lab.path("policy.toml"))?;
        let made = Command::new("mkfifo").arg(lab.path("policy.toml")).status()?;
        ensure!(made.success(), "no pipe");
        enforcer.hang_up();
        let word = "the policy's file cannot be read in time";
        wait(word, || Ok(enforcer.log()?.contains(word)))?;
        let said = enforcer.ask(&format!("apply {}", other.display()))?;
        assert!(said.contains("policy 2 is in force"), "{said}");
        Ok(())
    })?;
    enforcer.stop()
}

#[test]
fn a_damaged_state_is_told() -> Result<()> {
    let lab = Lab::new()?;
    Enforcer::start(&lab, POLICY, RUN)?.kill()?;
    fs::write(lab.path("state").join("policies/current.json"), "")?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert!(enforcer.log()?.contains("current.json is damaged, and passed over"), "{}", enforcer.log()?);
    enforcer.stop()
}

#[test]
fn a_full_disk_keeps_the_policy_in_force_and_lets_a_start_go_on() -> Result<()> {
    let lab = Lab::new()?;
    let state = lab.path("state");
    fs::create_dir(&state)?;
    let _small = Mounted::tmpfs(&state, "64k")?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    assert!(fs::write(state.join("ballast"), vec![0; 65_536]).is_err(), "what is full has room");
    while_right(&lab, || {
        let large = format!("{POLICY}\n# {}\n", "x".repeat(60_000));
        reload(&lab, &enforcer, &large, "the policy cannot be kept on disk")?;
        assert!(enforcer.log()?.contains("No space left on device"));
        Ok(())
    })?;
    enforcer.kill()?;
    // The policy's file is another one now, and its mark finds no place either.
    let enforcer = while_right_with(&lab, || Enforcer::start_again(&lab, RUN))?;
    assert!(enforcer.log()?.contains("is not kept on disk"), "{}", enforcer.log()?);
    enforcer.stop()
}

/// A small file system; dropping it takes it away.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Result<Self> {
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status()?;
        ensure!(status.success(), "cannot mount a file system at {}", at.display());
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn while_right_with<T>(lab: &Lab, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut done = None;
    while_right(lab, || {
        done = Some(work()?);
        Ok(())
    })?;
    done.context("nothing was done")
}

#[test]
fn a_policy_with_mistakes_or_beyond_the_tables_changes_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    while_right(&lab, || {
        reload(&lab, &enforcer, "default = \"dorp\"\n", "policy.toml:1:11")?;
        // More pairs of rule and service than there are clauses.
        let mut large = "default = \"allow\"\n".to_owned();
        for service in 0..600 {
            large += &format!("[[service]]\nname = \"s{service}\"\nto = [\"10.9.0.0/16\"]\n");
        }
        let services: Vec<String> = (0..600).map(|service| format!("\"s{service}\"")).collect();
        for _ in 0..500 {
            large += &format!("[[rule]]\naction = \"allow\"\nservices = [{}]\n", services.join(","));
        }
        reload(&lab, &enforcer, &large, "more than the limit of 262144")
    })?;
    let status: serde_json::Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
    assert_eq!(status["reloads"]["failed"], 2, "{status}");
    // It starts with what was in force, and says what is wrong with the file.
    lab.file("policy.toml", "default = \"dorp\"\n")?;
    enforcer.kill()?;
    let enforcer = while_right_with(&lab, || Enforcer::start_again(&lab, RUN))?;
    let word = "the last confirmed policy is enforced instead";
    assert!(enforcer.log()?.contains(word), "{}", enforcer.log()?);
    // Until another is in force.
    assert!(enforcer.ask("status")?.contains(word), "{}", enforcer.ask("status")?);
    enforcer.ask(&format!("apply {}", lab.file("right.toml", POLICY)?.display()))?;
    assert!(!enforcer.ask("status")?.contains(word));
    enforcer.stop()
}

#[test]
fn what_another_version_left_is_taken_over_or_said_to_begin_anew() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    thread::sleep(Duration::from_millis(300));
    enforcer.kill()?;
    let pins = lab.pins()?;
    // As a version would leave it that remembers connections otherwise.
    fs::rename(pins.join("state-1"), pins.join("state-0"))?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert!(enforcer.counters()?["apple/time"] > 0, "counts go on");
    wait("the other state is removed", || Ok(!pins.join("state-0").exists()))?;
    assert!(enforcer.log()?.contains("are forgotten"), "{}", enforcer.log()?);
    enforcer.kill()?;
    // And one that counts otherwise.
    fs::remove_file(
        pins.join(format!("set-{}", sets(&pins)?.into_iter().max().context("no set")?)).join("IDENTITIES"),
    )?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert!(enforcer.log()?.contains("counters begin at zero"), "{}", enforcer.log()?);
    let tally = flood.stop()?;
    assert_eq!((tally.lost, tally.leaked), (0, 0), "{tally:?}");
    wait("one set is left", || Ok(sets(&pins)?.len() == 1))?;
    enforcer.stop()
}

/// The numbers of sets that are pinned.
fn sets(pins: &Path) -> Result<Vec<u32>> {
    let names = fs::read_dir(pins)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.strip_prefix("set-")?.parse().ok()).collect())
}

#[test]
fn names_addresses_move_along_to_another_policy() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = names::resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = names::start(&lab, names::POLICY)?;
    let name = "n1.fresh.lab.example";
    let (v4, v6) = names::addresses(1);
    names::ask(&lab, name, 1)?;
    names::ask(&lab, name, 28)?;
    let is_open = || -> Result<[_; 2]> { Ok([probe::tcp(&lab.client, &v4, 443)?, probe::tcp(&lab.client, &v6, 443)?]) };
    assert_eq!(is_open()?, [Answered; 2]);
    let before = known(&enforcer, name)?;
    let swap = |policy: &str, rule: &str| -> Result<()> {
        lab.file("policy.toml", policy)?;
        enforcer.hang_up();
        wait(rule, || Ok(enforcer.counters()?.keys().any(|counter| counter.starts_with(rule))))
    };
    let more = |name: &str| format!("[[rule]]\nname = \"{name}\"\naction = \"drop\"\nfrom = [\"10.1.0.99\"]\n");
    swap(&format!("{}{}", names::POLICY, more("more")), "more/")?;
    assert_eq!((is_open()?, known(&enforcer, name)?), ([Answered; 2], before));
    // What no rule names any more is closed, and forgotten.
    let other = names::POLICY.replace("\"*.fresh.lab.example\", ", "");
    swap(&format!("{other}{}", more("other")), "other/")?;
    assert_eq!((is_open()?, known(&enforcer, name)?.len()), ([Silence; 2], 0));
    enforcer.stop()
}
