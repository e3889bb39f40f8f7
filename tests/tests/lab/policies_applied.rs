//! Policies by the CLI: applied, confirmed or not, gone back to, and what would change by them.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{
    Lab,
    names::wait,
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};
use serde_json::Value;

const RUN: &str = "--lan lan0 --wan wan0";

/// The web on one port of Apple's addresses.
fn web(port: u16) -> String {
    format!(
        "default = \"drop\"\n[[service]]\nname = \"web\"\nto = [\"17.0.0.0/8\"]\nports = [\"tcp/{port}\"]\n\
         [[rule]]\nname = \"apple\"\naction = \"allow\"\nservices = [\"web\"]\n"
    )
}

struct Bed {
    lab: Lab,
    _servers: Servers,
}

impl Bed {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let servers = Servers::start(&lab.internet, &[80, 443], &[])?;
        lab.file("443.toml", &web(443))?;
        lab.file("80.toml", &web(80))?;
        Ok(Self { lab, _servers: servers })
    }

    /// The port that passes.
    fn open(&self) -> Result<u16> {
        match [80, 443].map(|port| probe::tcp(&self.lab.client, "17.1.2.3", port)) {
            [Ok(Answered), Ok(Silence)] => Ok(80),
            [Ok(Silence), Ok(Answered)] => Ok(443),
            other => anyhow::bail!("neither policy: {other:?}"),
        }
    }

    fn path(&self, name: &str) -> String {
        self.lab.path(name).display().to_string()
    }
}

#[test]
fn a_policy_is_applied_stays_over_a_restart_and_is_gone_back_to() -> Result<()> {
    let bed = Bed::new()?;
    let mut enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    assert_eq!(bed.open()?, 443);
    let said = enforcer.ask(&format!("apply {}", bed.path("80.toml")))?;
    assert!(said.starts_with("policy 2 is in force"), "{said}");
    assert_eq!(bed.open()?, 80);
    for _ in 0..2 {
        enforcer.kill()?;
        enforcer = Enforcer::start_again(&bed.lab, RUN)?;
        assert_eq!(bed.open()?, 80);
    }
    assert!(enforcer.ask("status")?.contains("80.toml"));
    // Explained by what is in force, though the file is gone.
    fs::remove_file(bed.lab.path("80.toml"))?;
    assert!(enforcer.ask("explain 17.1.2.3 tcp/80")?.contains("allow"));
    enforcer.ask("rollback")?;
    assert_eq!(bed.open()?, 443);
    enforcer.ask("rollback 2")?;
    assert_eq!(bed.open()?, 80);
    let history: Value = serde_json::from_str(&enforcer.ask("history --json")?)?;
    let reasons: Vec<&str> =
        history["policies"].as_array().context("none")?.iter().filter_map(|entry| entry["reason"].as_str()).collect();
    assert_eq!(reasons, ["started", "applied", "rolled-back", "rolled-back"]);
    assert_eq!((&history["in_force"], &history["confirmed"]), (&4.into(), &4.into()));
    // What the file says now is newer than all of it.
    enforcer.stop()?;
    let enforcer = Enforcer::start(&bed.lab, &format!("{}# edited\n", web(443)), RUN)?;
    assert_eq!(bed.open()?, 443);
    let refused = enforcer.ask("rollback 99").expect_err("there is none").to_string();
    assert!(refused.contains("no policy 99 is kept"), "{refused}");
    enforcer.stop()
}

#[test]
fn what_nobody_confirms_is_taken_back_also_by_a_crash() -> Result<()> {
    let bed = Bed::new()?;
    let enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    let apply = |enforcer: &Enforcer, seconds: u32| -> Result<()> {
        let said = enforcer.ask(&format!("apply --confirm {seconds} {}", bed.path("80.toml")))?;
        assert!(said.contains(&format!("`enforcer confirm` within {seconds} s")), "{said}");
        assert_eq!(bed.open()?, 80);
        Ok(())
    };
    // In time.
    apply(&enforcer, 60)?;
    enforcer.ask("confirm")?;
    assert!(enforcer.ask("confirm").is_err(), "there is none");
    enforcer.ask("rollback")?;
    // Not in time.
    apply(&enforcer, 4)?;
    wait("the policy before", || Ok(matches!(bed.open(), Ok(443))))?;
    assert!(enforcer.log()?.contains("nobody confirmed the policy"));
    // A second one in that time goes back to what was confirmed, too.
    apply(&enforcer, 60)?;
    bed.lab.file("none.toml", "default = \"allow\"\n")?;
    enforcer.ask(&format!("apply --confirm 3 {}", bed.path("none.toml")))?;
    wait("the policy before", || Ok(matches!(bed.open(), Ok(443))))?;
    // A crash in that time.
    apply(&enforcer, 60)?;
    enforcer.kill()?;
    let enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    assert_eq!(bed.open()?, 443);
    assert!(enforcer.log()?.contains("was not confirmed, or not noted as in force"));
    let history = enforcer.ask("history")?;
    let last = history.lines().last().context("no history")?;
    assert!(last.starts_with("in force ") && last.contains("not confirmed"), "{history}");
    // Whoever applied it is gone before it is in force: the policy may have cut the way.
    let mut gone = enforcer.command(&format!("apply --confirm 3 {}", bed.path("80.toml"))).spawn()?;
    thread::sleep(Duration::from_millis(100));
    gone.kill()?;
    gone.wait()?;
    wait("the other policy", || Ok(matches!(bed.open(), Ok(80))))?;
    wait("the policy before", || Ok(matches!(bed.open(), Ok(443))))?;
    // By hand.
    apply(&enforcer, 60)?;
    enforcer.ask("rollback")?;
    assert_eq!(bed.open()?, 443);
    enforcer.stop()
}

#[test]
fn a_dry_run_shows_flows_and_traffic_and_changes_nothing() -> Result<()> {
    let bed = Bed::new()?;
    let enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    assert_eq!(bed.open()?, 443);
    let output = enforcer.command(&format!("apply --dry-run {}", bed.path("80.toml"))).output()?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("17.0.0.0/8 tcp/443: allow (rule apple, service web) -> drop (default)"), "{said}");
    let packets = enforcer.counters()?["apple/web"];
    let row = said.lines().find(|line| line.contains("rule apple") && line.starts_with("lan")).context(said.clone())?;
    assert!(row.split_whitespace().any(|word| word == packets.to_string()), "{packets}: {said}");
    let same = enforcer.command(&format!("apply --dry-run {}", bed.path("443.toml"))).output()?;
    assert_eq!(same.status.code(), Some(0));
    assert_eq!(bed.open()?, 443);
    bed.lab.file("wrong.toml", "default = \"dorp\"\n")?;
    let refused = enforcer.ask(&format!("apply {}", bed.path("wrong.toml"))).expect_err("mistakes").to_string();
    assert!(refused.contains("wrong.toml:1:11"), "{refused}");
    enforcer.stop()
}

#[test]
fn monitored_packets_are_not_counted_as_denied_by_the_next_policy() -> Result<()> {
    let bed = Bed::new()?;
    let monitor = "default = \"reject\"\nmonitor = true\n";
    let enforcer = Enforcer::start(&bed.lab, monitor, RUN)?;
    assert_eq!(probe::tcp(&bed.lab.client, "17.1.2.3", 443)?, Answered);
    let default = |enforcer: &Enforcer| -> Result<(String, u64)> {
        let told: Value = serde_json::from_str(&enforcer.ask("counters --json")?)?;
        let row = &told["pseudo"][0];
        Ok((row["action"].as_str().context("no action")?.into(), row["packets"].as_u64().context("no packets")?))
    };
    let monitored = default(&enforcer)?;
    assert!(monitored.0 == "monitor" && monitored.1 > 0, "{monitored:?}");
    enforcer.ask(&format!("apply {}", bed.lab.file("enforce.toml", "default = \"reject\"\n")?.display()))?;
    assert_eq!(default(&enforcer)?, ("reject".into(), 0));
    let status = enforcer.ask("status")?;
    let denied = status.lines().find(|line| line.starts_with("denied")).context(status.clone())?;
    assert!(denied.contains(" 0 packets, "), "{denied}");
    // Neither by the next controller, which takes the counters over.
    enforcer.kill()?;
    let enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    assert_eq!(default(&enforcer)?, ("reject".into(), 0));
    assert_ne!(probe::tcp(&bed.lab.client, "17.1.2.3", 443)?, Answered);
    let denied = default(&enforcer)?;
    // Counters of the same action go on.
    let more = "default = \"reject\"\n[[rule]]\naction = \"drop\"\nfrom = [\"192.0.2.1\"]\n";
    enforcer.ask(&format!("apply {}", bed.lab.file("more.toml", more)?.display()))?;
    assert!(denied.1 > 0 && default(&enforcer)? == denied, "{denied:?}");
    enforcer.stop()
}

#[test]
fn detaching_ends_the_controller_and_leaves_nothing() -> Result<()> {
    let bed = Bed::new()?;
    let detach = |enforcer: &Enforcer, word: &str| -> Result<()> {
        let said = enforcer.ask(&format!("detach --pins {}", bed.lab.pins()?.display()))?;
        assert!(said.contains(word), "{said}");
        assert!(!bed.lab.pins()?.exists());
        let open = [80, 443].map(|port| probe::tcp(&bed.lab.client, "17.1.2.3", port));
        assert!(matches!(open, [Ok(Answered), Ok(Answered)]), "{open:?}");
        Ok(())
    };
    let mut enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    detach(&enforcer, "nothing is enforced any more")?;
    wait("the controller's end", || enforcer.has_ended())?;
    // The controller on the socket knows its own pins, and is not taken for the one of others.
    let mut enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    let nowhere = bed.lab.pins()?.with_file_name("nowhere");
    let said = enforcer.ask(&format!("detach --pins {}", nowhere.display()))?;
    assert!(said.contains("nothing was attached"), "{said}");
    let said = enforcer.ask("detach --pins /tmp/nowhere").expect_err("no pins can be there").to_string();
    assert!(said.contains("is no folder in a BPF file system"), "{said}");
    assert_eq!(bed.open()?, 443);
    let said = enforcer.ask("detach")?;
    assert!(said.contains("nothing is enforced any more"), "{said}");
    wait("the controller's end", || enforcer.has_ended())?;
    assert!(!bed.lab.pins()?.exists());
    // After a crash, there is no controller to tell.
    let mut crashed = Enforcer::start_again(&bed.lab, RUN)?;
    crashed.crash()?;
    assert_eq!(bed.open()?, 443);
    let said = crashed.ask(&format!("detach --pins {}", bed.lab.pins()?.display())).expect_err("another namespace");
    assert!(said.to_string().contains("another network namespace, net:["), "{said}");
    assert_eq!(bed.open()?, 443);
    bed.lab.gateway.enter(|| detach(&crashed, "nothing is enforced any more"))?;
    // And where nothing is, nothing is to be done.
    detach(&crashed, "nothing was attached")
}

#[test]
fn detach_forgets_the_applied_policy() -> Result<()> {
    let bed = Bed::new()?;
    let is_first = |enforcer: &Enforcer, parts: &[&str]| -> Result<()> {
        let log = enforcer.log()?;
        let first = log.lines().next().context("no log")?;
        ensure!(first.contains("policy selected") && parts.iter().all(|part| first.contains(part)), "{first}");
        Ok(())
    };
    let apply = |enforcer: &Enforcer| -> Result<()> {
        enforcer.ask(&format!("apply {}", bed.path("80.toml")))?;
        assert_eq!(bed.open()?, 80);
        Ok(())
    };
    let mut enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    is_first(&enforcer, &["policy.toml", "no other policy was confirmed"])?;
    apply(&enforcer)?;
    enforcer.ask("detach")?;
    wait("the controller's end", || enforcer.has_ended())?;
    let mut enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    assert_eq!(bed.open()?, 443);
    is_first(&enforcer, &["policy.toml", "no other policy was confirmed"])?;
    // Without a controller, too: then the folder of the state is named.
    apply(&enforcer)?;
    enforcer.crash()?;
    let (pins, state) = (bed.lab.pins()?, bed.path("state"));
    let detach = |words: &str| bed.lab.gateway.enter(|| enforcer.ask(&format!("detach {words} --state {state}")));
    detach(&format!("--pins {}", pins.with_file_name("others").display()))?;
    assert!(bed.lab.path("state/policies/current.json").exists(), "another controller's policy was forgotten");
    detach(&format!("--pins {}", pins.display()))?;
    let enforcer = Enforcer::start_again(&bed.lab, &format!("{RUN} --on-exit detach"))?;
    assert_eq!(bed.open()?, 443);
    // An end by --on-exit is followed by what was applied.
    apply(&enforcer)?;
    enforcer.stop()?;
    let mut enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    assert_eq!(bed.open()?, 80);
    is_first(&enforcer, &["80.toml", "applied at ", "the file of --policy has not changed since"])?;
    // Where nothing is in force, a file with mistakes is an error.
    enforcer.ask("detach")?;
    wait("the controller's end", || enforcer.has_ended())?;
    let refused = Enforcer::start(&bed.lab, "default = \"dorp\"\n", RUN).err().context("it started")?.to_string();
    ensure!(refused.contains("policy.toml:1:11") && !refused.contains("policy selected"), "{refused}");
    Ok(())
}

#[test]
fn only_what_was_confirmed_is_gone_back_to_unless_it_is_named() -> Result<()> {
    let bed = Bed::new()?;
    let enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
    let refused = enforcer.ask("rollback").expect_err("there is none before").to_string();
    assert!(refused.contains("no other policy"), "{refused}");
    enforcer.ask(&format!("apply --confirm 1 {}", bed.path("80.toml")))?;
    wait("the policy before", || Ok(matches!(bed.open(), Ok(443))))?;
    assert!(enforcer.ask("history")?.contains("never confirmed"));
    assert!(enforcer.ask("rollback").is_err(), "that one was never confirmed");
    enforcer.ask(&format!("apply --confirm 60 {}", bed.path("80.toml")))?;
    enforcer.kill()?;
    let enforcer = Enforcer::start_again(&bed.lab, RUN)?;
    assert!(enforcer.ask("rollback").is_err(), "nor that one");
    // The same again is no other policy.
    let before = enforcer.ask("history")?;
    enforcer.ask(&format!("apply {}", bed.path("policy.toml")))?;
    assert_eq!(enforcer.ask("history")?, before);
    enforcer.ask("rollback 2")?;
    assert_eq!(bed.open()?, 80);
    assert!(enforcer.log()?.contains("is in force: rolled back"), "{}", enforcer.log()?);
    enforcer.stop()
}

#[test]
fn what_nobody_confirms_is_taken_back_with_a_full_disk_too() -> Result<()> {
    let bed = Bed::new()?;
    let state = bed.lab.path("state");
    fs::create_dir(&state)?;
    let shell = |line: &str| -> Result<()> {
        ensure!(Command::new("sh").args(["-c", line]).status()?.success(), "`{line}` failed");
        Ok(())
    };
    shell(&format!("mount -t tmpfs -o size=64k enforcer-test {}", state.display()))?;
    let result = (|| {
        let enforcer = Enforcer::start(&bed.lab, &web(443), RUN)?;
        enforcer.ask(&format!("apply --confirm 2 {}", bed.path("80.toml")))?;
        let _ = fs::write(state.join("full"), vec![1; 1 << 16]);
        wait("the policy before", || Ok(matches!(bed.open(), Ok(443))))?;
        ensure!(enforcer.log()?.contains("the history is not told"), "the disk is not full: {}", enforcer.log()?);
        enforcer.stop()
    })();
    shell(&format!("umount --lazy {}", state.display()))?;
    result
}
