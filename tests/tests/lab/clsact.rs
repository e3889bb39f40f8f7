//! TC's programs by filters of the clsact qdisc, as kernels without TCX have it: they judge, live and go as links do, beside filters of others.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, POLICY, Plan, enforcer_binary,
    flood::{FLOWS, Flood},
    names::wait,
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};

const RUN: &str = "--lan br-lan --wan wan0 --tc clsact";
const SIDES: [(&str, &str); 4] = [("br-lan", "ingress"), ("br-lan", "egress"), ("wan0", "ingress"), ("wan0", "egress")];

/// A bridge, whose clients TC judges.
fn lab() -> Result<Lab> {
    Lab::planned(Plan { bridged: true, ..Plan::default() })
}

fn filters(lab: &Lab, (interface, side): (&str, &str)) -> Result<String> {
    lab.gateway.output(&format!("tc -s filter show dev {interface} {side}"))
}

/// How many of enforcer's filters there are on the gateway.
fn own(lab: &Lab) -> Result<usize> {
    SIDES.iter().try_fold(0, |sum, &side| Ok(sum + filters(lab, side)?.matches("handle 0x656e666f").count()))
}

fn has_qdisc(lab: &Lab, interface: &str) -> Result<bool> {
    Ok(lab.gateway.output(&format!("tc qdisc show dev {interface}"))?.contains("clsact"))
}

/// The command by which an operator ends what no controller runs for.
fn detach(lab: &Lab) -> Result<String> {
    let (pins, socket) = (lab.pins()?, lab.path("socket"));
    lab.gateway.output(&format!(
        "{} detach --pins {} --socket {}",
        enforcer_binary()?.display(),
        pins.display(),
        socket.display()
    ))
}

#[test]
fn clients_the_gateway_and_connections_from_outside_are_judged() -> Result<()> {
    let lab = lab()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let _ssh = Servers::start(&lab.client, &[22, 23], &[])?;
    let policy = format!(
        "{POLICY}\n[[service]]\nname = \"ssh\"\nto = [\"10.1.0.2\"]\nports = [\"tcp/22\"]\n\
         [router]\ndefault = \"drop\"\n[[router.rule]]\naction = \"allow\"\nservices = [\"ping\"]\n\
         [inbound]\n[[inbound.rule]]\naction = \"allow\"\nservices = [\"ssh\"]\n"
    );
    let enforcer = Enforcer::start(&lab, &policy, RUN)?;
    for (to, port, outcome) in [
        ("17.1.2.3", 443, Answered),
        ("2620:149::5", 443, Answered),
        ("17.1.2.3", 80, Silence),
        ("2001:db8:bad::1", 443, Silence),
    ] {
        assert_eq!(probe::tcp(&lab.client, to, port)?, outcome, "{to}, port {port}");
    }
    assert_eq!(probe::ping(&lab.gateway, "17.1.2.3"), Answered);
    assert_eq!(probe::ping(&lab.gateway, "17.253.4.5"), Silence);
    assert_eq!(probe::tcp(&lab.internet, "10.1.0.2", 22)?, Answered);
    assert_eq!(probe::tcp(&lab.internet, "10.1.0.2", 23)?, Silence);
    assert!(enforcer.counters()?["reply"] > 0);
    assert_eq!(enforcer.counters()?["unlisted"], 0);
    let status = enforcer.ask("status")?;
    for line in ["br-lan by clsact ingress and clsact egress", "wan0 by clsact ingress and clsact egress"] {
        assert!(status.contains(line), "{status}");
    }
    assert_eq!(status.matches("in filters of the clsact qdisc").count(), 1, "{status}");
    assert_eq!(own(&lab)?, 4);
    enforcer.stop()
}

#[test]
fn filters_of_others_see_what_passes_and_stay() -> Result<()> {
    let lab = lab()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    // One that was there before, with its qdisc, and one that comes later.
    lab.gateway.run("tc qdisc add dev br-lan clsact")?;
    let count = |interface: &str| {
        lab.gateway.run(&format!(
            "tc filter add dev {interface} egress protocol ip u32 match ip src 10.1.0.2 match ip dport 443 0xffff action mirred egress mirror dev lo"
        ))
    };
    lab.gateway.run(
        "tc filter add dev br-lan ingress protocol ip u32 match ip dst 203.0.113.9 match ip dport 443 0xffff action mirred egress mirror dev lo",
    )?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    count("wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 443)?, Silence);
    let [denied, passed] = [filters(&lab, SIDES[0])?, filters(&lab, SIDES[3])?];
    assert!(denied.contains("Sent 0 bytes"), "the judge is not the first: {denied}");
    assert!(passed.contains("action order") && !passed.contains("Sent 0 bytes"), "they end with the judge: {passed}");
    enforcer.stop()?;
    assert_eq!(own(&lab)?, 4);
    assert!(detach(&lab)?.contains("nothing is enforced any more"));
    assert_eq!(own(&lab)?, 0);
    for side in [SIDES[0], SIDES[3]] {
        assert!(filters(&lab, side)?.contains("action order"), "{side:?}");
    }
    assert!(!lab.pins()?.exists());
    assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 443)?, Answered);
    Ok(())
}

#[test]
fn a_filter_that_packets_meet_before_the_judge_is_told() -> Result<()> {
    let lab = lab()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    // As others' BPF filters come: the last of a priority is the first that is asked. This one passes packets on.
    let program = lab.pins()?.join("set-1/lan_egress");
    let other = format!("dev br-lan ingress prio 1 handle 0x7 bpf direct-action object-pinned {}", program.display());
    lab.gateway.run(&format!("tc filter add {other}"))?;
    let listed = filters(&lab, SIDES[0])?;
    let at = |handle: &str| listed.find(handle).with_context(|| listed.clone());
    assert!(at("handle 0x7 ")? < at("handle 0x656e666f")?, "{listed}");
    let told = "before lan_ingress (clsact ingress), and may be kept from it";
    let status = || -> Result<String> { Ok(enforcer.ask("status")?.replace("\n             ", " ")) };
    wait(told, || Ok(status()?.contains(told)))?;
    lab.gateway.run("tc filter del dev br-lan ingress prio 1 handle 0x7 bpf")?;
    wait("the judge to be the first", || Ok(!status()?.contains(told)))?;
    assert_eq!(enforcer.log()?.matches(told).count(), 1);
    enforcer.stop()
}

#[test]
fn the_qdisc_goes_along_with_the_last_filter_if_it_was_made_for_them() -> Result<()> {
    let lab = lab()?;
    lab.gateway.run("tc qdisc add dev br-lan clsact")?;
    Enforcer::start(&lab, POLICY, RUN)?.stop()?;
    assert!(has_qdisc(&lab, "wan0")?);
    detach(&lab)?;
    assert!(!has_qdisc(&lab, "wan0")?);
    assert!(has_qdisc(&lab, "br-lan")?, "somebody else's, empty as it is");
    Enforcer::start_again(&lab, &format!("{RUN} --on-exit detach"))?.stop()?;
    assert_eq!((own(&lab)?, has_qdisc(&lab, "wan0")?), (0, false));
    Ok(())
}

#[test]
fn a_policy_is_exchanged_without_a_wrong_verdict() -> Result<()> {
    let lab = lab()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    for round in 0..2 {
        let extra = format!("[[rule]]\nname = \"round-{round}\"\naction = \"drop\"\nfrom = [\"192.0.2.{round}\"]\n");
        lab.file("policy.toml", &format!("{POLICY}{extra}"))?;
        enforcer.hang_up();
        wait("the policy", || Ok(enforcer.counters()?.contains_key(&format!("round-{round}/any"))))?;
    }
    flood.all_counted(&enforcer)?;
    enforcer.stop()
}

#[test]
fn enforcement_goes_on_when_the_controller_is_stopped_or_killed_and_started_again() -> Result<()> {
    let lab = lab()?;
    let mut enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut before = 0;
    let amid_an_apply = |enforcer: Enforcer| {
        lab.file("policy.toml", &format!("{POLICY}[[rule]]\naction = \"drop\"\nfrom = [\"192.0.2.1\"]\n"))?;
        enforcer.hang_up();
        thread::sleep(Duration::from_millis(400));
        enforcer.kill()
    };
    for end in [&Enforcer::stop as &dyn Fn(Enforcer) -> Result<()>, &Enforcer::kill, &amid_an_apply] {
        end(enforcer)?;
        enforcer = Enforcer::start_again(&lab, RUN)?;
        let counted = enforcer.counters()?["apple/time"];
        assert!(counted > before, "{counted} packets, {before} before: {}", enforcer.log()?);
        before = counted;
    }
    flood.all_counted(&enforcer)?;
    assert_eq!(own(&lab)?, 4);
    enforcer.stop()
}

#[test]
fn a_start_that_fails_leaves_the_filters_of_the_controller_before() -> Result<()> {
    let lab = lab()?;
    Enforcer::start(&lab, POLICY, RUN)?.stop()?;
    let refused = Enforcer::start_again(&lab, &format!("{RUN} --wan lo")).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|error| error.contains("lo carries the gateway's own traffic")));
    assert_eq!(own(&lab)?, 4);
    Ok(())
}

#[test]
fn tcx_takes_over_from_clsact_and_the_other_way() -> Result<()> {
    let lab = lab()?;
    // For a moment, while a qdisc is made or removed, the kernel drops what an interface is to send.
    for interface in ["br-lan", "wan0"] {
        lab.gateway.run(&format!("tc qdisc add dev {interface} clsact"))?;
    }
    let mut enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    for (run, word, filters) in [("--lan br-lan --wan wan0", "TCX", 0), (RUN, "clsact", 4)] {
        let before = enforcer.counters()?["apple/time"];
        enforcer.stop()?;
        enforcer = Enforcer::start_again(&lab, run)?;
        let status = enforcer.ask("status")?;
        assert!(status.contains(&format!("wan0 by {word} ingress and {word} egress")), "{run}: {status}");
        assert_eq!(own(&lab)?, filters, "{run}");
        assert!(enforcer.counters()?["apple/time"] > before);
    }
    flood.stop()?.assert_right();
    assert!(has_qdisc(&lab, "wan0")?, "somebody else made it");
    enforcer.stop()
}

#[test]
fn filters_that_somebody_takes_away_are_missed_and_put_back() -> Result<()> {
    let lab = lab()?;
    let _servers = Servers::start(&lab.internet, &[80], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    lab.gateway.run("tc qdisc del dev br-lan clsact")?;
    lab.gateway.run("tc filter del dev wan0 egress")?;
    wait("the filters", || Ok(own(&lab)? == 4))?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    let log = enforcer.log()?;
    for named in ["lan_ingress of br-lan (clsact ingress)", "wan_egress of wan0 (clsact egress)"] {
        assert!(log.contains(&format!("{named} was taken away, and is put back")), "{log}");
    }
    // Where it cannot be, that is a warning for as long as it lasts.
    lab.gateway.run("tc qdisc del dev br-lan clsact")?;
    lab.gateway.run("tc qdisc add dev br-lan ingress")?;
    let in_the_way = Instant::now();
    let lost = "lan_ingress of br-lan (clsact ingress) was taken away, and is not back: br-lan has the qdisc ingress";
    wait(lost, || Ok(enforcer.ask("status")?.replace("\n             ", " ").contains(lost)))?;
    wait("nothing to pass unjudged", || Ok(probe::tcp(&lab.client, "17.1.2.3", 80)? == Silence))?;
    assert!(enforcer.counters()?["unlisted"] > 0);
    let stood_in_the_way = in_the_way.elapsed();
    lab.gateway.run("tc qdisc del dev br-lan ingress")?;
    wait("the filters", || Ok(own(&lab)? == 4 && !enforcer.ask("status")?.contains("is not back")))?;
    // It is told for all of the time, not from the last attempt on.
    let log = enforcer.log()?;
    let away = log.rsplit_once("lan_ingress of br-lan (clsact ingress) was taken away, and is put back: for ");
    let (away, _) = away.and_then(|(_, rest)| rest.split_once(" ms")).context("no such line")?;
    assert!(away.parse::<u128>()? >= stood_in_the_way.as_millis(), "{away} ms, and at least {stood_in_the_way:?}");
    enforcer.kill()?;
    // While nobody looks.
    lab.gateway.run("tc qdisc del dev br-lan clsact")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    assert!(enforcer.log()?.contains("somebody took lan_ingress off clsact ingress"), "{}", enforcer.log()?);
    enforcer.stop()
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_changed() -> Result<()> {
    let lab = lab()?;
    let refused =
        || -> Result<String> { Ok(Enforcer::start(&lab, POLICY, RUN).err().context("it starts")?.to_string()) };
    lab.gateway.run("tc qdisc add dev br-lan ingress")?;
    let said = refused()?;
    assert!(said.contains("br-lan has the qdisc ingress in the place of clsact"), "{said}");
    assert_eq!((own(&lab)?, has_qdisc(&lab, "wan0")?), (0, false), "what was attached before is taken back");
    lab.gateway.run("tc qdisc del dev br-lan ingress")?;
    lab.gateway.run("tc qdisc add dev br-lan clsact")?;
    lab.gateway.run(
        "tc filter add dev br-lan egress prio 1 protocol ip u32 match u32 0 0 action mirred egress mirror dev lo",
    )?;
    let said = refused()?;
    let delete = "tc filter del dev br-lan egress pref 1 handle 0x80000800 u32";
    assert!(said.contains("br-lan has a filter of u32") && said.contains(delete), "{said}");
    assert_eq!((own(&lab)?, has_qdisc(&lab, "wan0")?), (0, false));
    // As it says.
    lab.gateway.run("tc filter del dev br-lan egress pref 1")?;
    Enforcer::start(&lab, POLICY, RUN)?.stop()?;
    // Another controller's, under the same number.
    let pins = lab.pins()?;
    fs::rename(&pins, pins.with_file_name("other"))?;
    let said = refused()?;
    assert!(said.contains("br-lan has a filter of bpf lan_ingress"), "{said}");
    assert_eq!(own(&lab)?, 4);
    Ok(())
}
