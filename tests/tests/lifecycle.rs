//! The kernel enforces whatever becomes of the controller: it is stopped, killed, started again, told another policy.

use std::{fs, process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab,
    flood::{Flood, Tally},
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};

const RUN: &str = "--lan lan0 --wan wan0";

/// Time passes for Apple alone. `more` is of a rule that changes no verdict of the flood's.
fn policy(more: &str) -> String {
    format!(
        "default = \"drop\"\n[[service]]\nname = \"time\"\nto = [\"17.253.0.0/16\", \"2403:300::/32\"]\nports = [\"udp/123\"]\n\
         [[rule]]\nname = \"apple\"\naction = \"allow\"\nservices = [\"time\"]\n{more}"
    )
}

/// Allowed and denied, of both families.
const FLOWS: [(&str, u16, bool); 4] = [
    ("17.253.4.5", 123, true),
    ("2403:300::7", 123, true),
    ("203.0.113.9", 123, false),
    ("2001:db8:bad::1", 123, false),
];

fn assert_right(tally: Tally) {
    assert!(tally.sent > 1000, "{tally:?}");
    assert_eq!((tally.lost, tally.leaked), (0, 0), "{tally:?}");
}

/// Ends a flood: no verdict was wrong, and not one packet was counted twice, or not at all.
fn all_counted(flood: Flood, enforcer: &Enforcer) -> Result<()> {
    let took = flood.elapsed();
    let tally = flood.stop()?;
    println!("{tally:?} in {took:?}, {:.0} packets a second", tally.sent as f64 / took.as_secs_f64());
    assert_right(tally);
    // Until the set before has given its last counts.
    thread::sleep(Duration::from_millis(1500));
    let counters = enforcer.counters()?;
    assert_eq!(counters["apple/time"] + counters["default"], tally.sent);
    Ok(())
}

#[test]
fn enforcement_goes_on_when_the_controller_is_stopped_or_killed_and_started_again() -> Result<()> {
    let lab = Lab::new()?;
    let mut enforcer = Enforcer::start(&lab, &policy(""), RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut before = 0;
    for round in 0..20 {
        if round % 4 == 3 {
            enforcer.stop()?;
        } else {
            enforcer.kill()?;
        }
        thread::sleep(Duration::from_millis(100));
        enforcer = Enforcer::start_again(&lab, RUN)?;
        let counted = enforcer.counters()?["apple/time"];
        assert!(counted > before, "round {round}: {counted} packets, {before} before");
        before = counted;
    }
    all_counted(flood, &enforcer)?;
    let sets = fs::read_dir(lab.pins()?)?
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("set-")));
    assert_eq!(sets.count(), 1, "sets are left behind");
    enforcer.stop()
}

#[test]
fn a_policy_is_exchanged_without_a_wrong_verdict() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, &policy(""), RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut before = 0;
    for round in 0..50 {
        let extra = format!("[[rule]]\nname = \"round-{round}\"\naction = \"drop\"\nfrom = [\"192.0.2.{round}\"]\n");
        lab.file("policy.toml", &policy(&extra))?;
        enforcer.hang_up();
        let name = format!("round-{round}/any");
        while !enforcer.counters()?.contains_key(&name) {
            let counted = enforcer.counters()?["apple/time"];
            assert!(counted >= before, "round {round}: {counted} packets, {before} before");
            before = counted;
            thread::sleep(Duration::from_millis(20));
        }
    }
    all_counted(flood, &enforcer)?;
    enforcer.stop()
}

#[test]
fn a_stopped_controller_leaves_enforcement_and_can_be_told_to_take_it_along() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80], &[])?;
    Enforcer::start(&lab, &policy(""), RUN)?.stop()?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    Enforcer::start_again(&lab, &format!("{RUN} --on-exit detach"))?.stop()?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    assert!(!lab.pins()?.exists() && !lab.path("socket").exists());
    Ok(())
}

#[test]
fn an_interface_that_is_made_again_forwards_nothing_unjudged_where_it_fails_closed() -> Result<()> {
    let lab = Lab::new()?;
    let run = format!("{RUN} --fail closed");
    // Else the WAN's program would keep it all, as not judged.
    let open = format!("unlisted = \"allow\"\n{}", policy(""));
    let enforcer = Enforcer::start(&lab, &open, &run)?;
    let again = || {
        lab.gateway.run("ip link del lan0")?;
        lab.connect_client()?;
        let flood = Flood::start(&lab, &FLOWS)?;
        thread::sleep(Duration::from_millis(500));
        flood.stop()
    };
    let tally = again()?;
    assert!(tally.leaked == 0 && tally.lost < tally.sent / 4, "{tally:?}");
    let log = enforcer.log()?;
    println!("{}", log.lines().find(|line| line.contains("lan0 is back")).with_context(|| log.clone())?);
    enforcer.stop()?;
    let Tally { sent, lost, leaked } = again()?;
    assert_eq!((lost, leaked), (sent / 2, 0), "what is not judged is not forwarded");
    let enforcer = Enforcer::start_again(&lab, &run)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    thread::sleep(Duration::from_millis(300));
    assert_right(flood.stop()?);
    enforcer.stop()
}

#[test]
fn a_crash_at_any_point_of_an_apply_loses_no_count_and_gives_no_wrong_verdict() -> Result<()> {
    let lab = Lab::new()?;
    let mut enforcer = Enforcer::start(&lab, &policy(""), RUN)?;
    lab.file("other.toml", &policy("[[rule]]\nname = \"other\"\naction = \"drop\"\nfrom = [\"192.0.2.1\"]\n"))?;
    let path = lab.path("other.toml").display().to_string();
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut before = 0;
    for round in 0..12 {
        let mut apply =
            enforcer.command(&format!("apply {path}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // From before the set is loaded until after it is in force.
        thread::sleep(Duration::from_millis(60 * round));
        enforcer.kill()?;
        apply.wait()?;
        enforcer = Enforcer::start_again(&lab, RUN)?;
        let counted = enforcer.counters()?["apple/time"];
        assert!(counted > before, "round {round}: {counted} packets, {before} before: {}", enforcer.log()?);
        before = counted;
    }
    all_counted(flood, &enforcer)?;
    enforcer.stop()
}

#[test]
fn a_start_in_another_way_is_refused_while_the_program_of_before_is_there() -> Result<()> {
    let lab = Lab::new()?;
    Enforcer::start(&lab, &policy(""), &format!("{RUN} --xdp generic"))?.stop()?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let refused = Enforcer::start_again(&lab, &format!("{RUN} --xdp native")).err().context("it starts")?.to_string();
    assert!(refused.contains("lan0 has the program of the controller before by generic XDP"), "{refused}");
    // As it is, it goes on.
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert!(enforcer.ask("status")?.contains("lan0 by generic XDP"));
    assert_right(flood.stop()?);
    enforcer.stop()
}
