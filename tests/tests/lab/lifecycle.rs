//! The kernel enforces whatever becomes of the controller: it is stopped, killed, started again, told another policy.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use enforcer_tests::lab::{
    Lab, Plan,
    flood::{FLOWS, Flood, Tally},
    names::wait,
    probe::{self, Outcome::*},
    product::Enforcer,
    rounds,
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

#[test]
fn enforcement_goes_on_when_the_controller_is_stopped_or_killed_and_started_again() -> Result<()> {
    let lab = Lab::new()?;
    let mut enforcer = Enforcer::start(&lab, &policy(""), RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut before = 0;
    for round in 0..rounds(20) {
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
    flood.all_counted(&enforcer)?;
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
    for round in 0..rounds(50) {
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
    flood.all_counted(&enforcer)?;
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
    assert_eq!(tally.leaked, 0, "{tally:?}");
    // A question for a neighbour that is lost meanwhile is asked again a second later.
    wait("all that is allowed to pass", || {
        let flood = Flood::start(&lab, &FLOWS)?;
        thread::sleep(Duration::from_millis(100));
        Ok(flood.stop()?.lost == 0)
    })?;
    let log = enforcer.log()?;
    println!("{}", log.lines().find(|line| line.contains("lan0 is back")).with_context(|| log.clone())?);
    enforcer.stop()?;
    let Tally { sent, lost, leaked } = again()?;
    assert_eq!((lost, leaked), (sent / 2, 0), "what is not judged is not forwarded");
    let enforcer = Enforcer::start_again(&lab, &run)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    thread::sleep(Duration::from_millis(300));
    flood.stop()?.assert_right();
    enforcer.stop()
}

#[test]
fn an_interface_that_came_while_there_was_no_controller_is_told_with_for_how_long_at_most() -> Result<()> {
    let lab = Lab::new()?;
    Enforcer::start(&lab, &policy(""), RUN)?.kill()?;
    thread::sleep(Duration::from_secs(2));
    lab.gateway.run("ip link del lan0")?;
    lab.connect_client()?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    let log = enforcer.log()?;
    let word = "lan0 has come since the controller before ended: no program was on it, for ";
    let told = log.lines().find_map(|line| line.split_once(word)).with_context(|| log.clone())?.1;
    println!("{told}");
    let seconds: u32 = told.strip_suffix(" s at most").context("no seconds")?.parse()?;
    assert!((2..15).contains(&seconds), "{told}");
    assert!(!log.contains("wan0 has come"), "{log}");
    enforcer.stop()
}

#[test]
fn an_nft_that_hangs_keeps_nobody_waiting() -> Result<()> {
    let lab = Lab::new()?;
    let (folder, hangs) = (lab.path("bin"), lab.path("hangs"));
    fs::create_dir(&folder)?;
    let nft = folder.join("nft");
    fs::write(
        &nft,
        format!(
            "#!/bin/sh\n[ -e {} ] && sleep 4\nPATH=/usr/sbin:/sbin:$PATH exec /usr/sbin/nft \"$@\"\n",
            hangs.display()
        ),
    )?;
    fs::set_permissions(&nft, Permissions::from_mode(0o755))?;
    lab.file("policy.toml", &policy(""))?;
    let wrapper = format!("env PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
    let enforcer = Enforcer::start_by(&lab, &wrapper, &format!("{RUN} --fail closed"))?;
    fs::write(&hangs, "")?;
    lab.gateway.run("ip link del lan0")?;
    lab.connect_client()?;
    let start = Instant::now();
    while !enforcer.log()?.contains("lan0 is back") {
        assert!(start.elapsed() < Duration::from_secs(3), "{}", enforcer.log()?);
        thread::sleep(Duration::from_millis(10));
    }
    enforcer.counters()?;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    fs::remove_file(&hangs)?;
    thread::sleep(Duration::from_secs(9));
    let flood = Flood::start(&lab, &FLOWS)?;
    thread::sleep(Duration::from_millis(300));
    flood.stop()?.assert_right();
    enforcer.stop()
}

#[test]
fn a_start_that_fails_midway_puts_back_what_it_has_replaced() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let run = "--lan port1 port2 --wan wan0";
    Enforcer::start(&lab, &policy(""), run)?.stop()?;
    let links = lab.pins()?.join("links");
    let flood = Flood::start(&lab, &FLOWS)?;
    let before = programs(&links)?;
    // The last link that is replaced is no link for the program that is to be there.
    let names: Vec<String> = before.keys().cloned().collect();
    let last =
        names.iter().filter(|name| name.ends_with("-lan_egress")).max_by_key(|name| index(name)).context("no LAN")?;
    let other = names.iter().find(|name| name.ends_with("-lan_xdp") && index(name) == index(last)).context("no XDP")?;
    let swap = || -> Result<()> {
        fs::rename(links.join(last), links.join("aside"))?;
        fs::rename(links.join(other), links.join(last))?;
        Ok(fs::rename(links.join("aside"), links.join(other))?)
    };
    swap()?;
    lab.file("policy.toml", &policy("[[rule]]\nname = \"other\"\naction = \"drop\"\nfrom = [\"192.0.2.1\"]\n"))?;
    let refused = Enforcer::start_again(&lab, run).err().context("it starts")?.to_string();
    println!("{refused}");
    assert!(!refused.contains("is not back"), "{refused}");
    swap()?;
    assert_eq!(programs(&links)?, before);
    flood.stop()?.assert_right();
    Enforcer::start_again(&lab, run)?.stop()
}

/// By an interface's number: pins are named `INDEX-HOOK-PROGRAM`.
fn index(pin: &str) -> u32 {
    pin.split('-').next().and_then(|index| index.parse().ok()).unwrap_or(0)
}

/// Programs' numbers by their links' pins.
fn programs(links: &Path) -> Result<BTreeMap<String, u32>> {
    let names = fs::read_dir(links)?.map(|pin| Ok(pin?.file_name().to_string_lossy().into_owned()));
    let number = |name: std::io::Result<String>| {
        let name = name?;
        let id = FdLink::from(PinnedLink::from_pin(links.join(&name))?).info()?.program_id();
        Ok((name, id))
    };
    names.map(number).collect()
}

#[test]
fn a_policy_is_not_confirmed_while_another_is_put_in_force() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, &policy(""), RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let file = |name: &str| -> Result<String> {
        let rule = format!("[[rule]]\nname = \"{name}\"\naction = \"drop\"\nfrom = [\"192.0.2.1\"]\n");
        Ok(lab.file(name, &policy(&rule))?.display().to_string())
    };
    enforcer.ask(&format!("apply --confirm 60 {}", file("second")?))?;
    let mut third =
        enforcer.command(&format!("apply --confirm 60 {}", file("third")?)).stdout(Stdio::null()).spawn()?;
    // It is kept before it is loaded.
    let start = Instant::now();
    while !lab.path("state").join("policies/3.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(10), "it is not applied");
        thread::sleep(Duration::from_millis(1));
    }
    let busy = enforcer.ask("confirm").err().context("something is confirmed")?.to_string();
    assert!(busy.contains("another policy is being put in force"), "{busy}");
    assert!(third.wait()?.success());
    assert!(enforcer.ask("confirm")?.contains("policy 3 is in force"));
    assert!(enforcer.ask("history")?.lines().any(|line| line.starts_with("in force ") && line.contains(" 3 ")));
    flood.stop()?.assert_right();
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
    flood.all_counted(&enforcer)?;
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
    flood.stop()?.assert_right();
    enforcer.stop()
}
