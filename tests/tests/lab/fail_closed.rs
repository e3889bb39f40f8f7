//! `--fail closed`: what is forwarded while programs are not where they should be, by whose doing ever, and that nothing stays cut when they are back.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{
    Lab, POLICY,
    dns::{self, A, PATIENCE},
    enforcer_binary,
    flood::{FLOWS, Flood},
    names::wait,
    probe::{self, Outcome::*},
    product::Enforcer,
    resolver::Resolver,
    server::Servers,
};

const RUN: &str = "--lan lan0 --wan wan0 --fail closed";

/// Whether a client's packets are judged: what is allowed passes, what is denied does not.
fn is_judged(lab: &Lab) -> Result<bool> {
    let [allowed, denied] = [443, 80].map(|port| probe::tcp(&lab.client, "17.1.2.3", port));
    Ok((allowed?, denied?) == (Answered, Silence))
}

/// Removes the LAN's interface and makes it anew as it was: under its index, which the kernel does not do by itself, and with its address.
fn make_anew(lab: &Lab) -> Result<()> {
    let [index, address] =
        ["ifindex", "address"].map(|name| lab.gateway.output(&format!("cat /sys/class/net/lan0/{name}")));
    lab.gateway.run("ip link del lan0")?;
    lab.connect_client_as(&format!("lan0 index {} address {}", index?.trim(), address?.trim()))
}

fn guards(lab: &Lab) -> Result<String> {
    lab.gateway.output("nft --stateless list ruleset")
}

#[test]
fn an_interface_that_is_made_anew_under_its_index_is_judged_again() -> Result<()> {
    ["native", "off"].into_iter().try_for_each(is_judged_again)
}

fn is_judged_again(xdp: &str) -> Result<()> {
    let (lab, run) = (Lab::new()?, format!("{RUN} --xdp {xdp}"));
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let open = format!("unlisted = \"allow\"\n{POLICY}");
    let enforcer = Enforcer::start(&lab, &open, &run)?;
    // So that it hears of both at once.
    enforcer.halt();
    make_anew(&lab)?;
    enforcer.wake();
    wait("a judge on the new one", || is_judged(&lab))?;
    // By links, or by filters where there is no TCX.
    let said = ["lan0 is back", "lan_ingress of lan0 (clsact ingress) was taken away, and is put back"];
    let log = enforcer.log()?;
    assert!(said.iter().any(|said| log.contains(said)), "{log}");
    enforcer.kill()?;
    make_anew(&lab)?;
    let enforcer = Enforcer::start_again(&lab, &run)?;
    assert!(is_judged(&lab)?);
    assert!(enforcer.log()?.contains("lan0 has come since"), "{}", enforcer.log()?);
    enforcer.stop()
}

#[test]
fn a_missing_wan_leaves_no_lan_open() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, &RUN.replace("wan0", "wan0 wwan0"));
    ensure!(is_judged(&lab)?, "the LAN is open: {:?}", enforcer.err());
    let enforcer = enforcer?;
    let missing = "there is no interface wwan0 yet";
    assert!(enforcer.log()?.contains(missing) && enforcer.ask("status")?.contains(missing));
    assert!(guards(&lab)?.contains("oifname \"wwan0\" oif != 0"), "{}", guards(&lab)?);
    lab.gateway.run("ip link add wwan0 type veth peer name far0")?;
    wait("programs on it", || Ok(enforcer.ask("status")?.contains("wwan0 by")))?;
    assert!(enforcer.log()?.contains("wwan0 has appeared") && !enforcer.ask("status")?.contains(missing));
    wait("the guard", || Ok(!guards(&lab)?.contains("oifname \"wwan0\" oif != 0")))?;
    enforcer.stop()
}

#[test]
fn a_start_before_its_lan_exists_waits_for_it() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    lab.gateway.run("ip link del lan0")?;
    let listen =
        "--dns-listen 10.1.0.1:53 --dns-upstream 17.1.2.3 --pac-listen 10.1.0.1:8080 --metrics-listen 10.1.0.1:9100";
    let enforcer = Enforcer::start(&lab, POLICY, &format!("{RUN} {listen}"));
    // Without a controller, it would be open.
    lab.connect_client()?;
    ensure!(probe::tcp(&lab.client, "17.1.2.3", 80)? == Silence, "the LAN is open: {:?}", enforcer.err());
    let enforcer = enforcer?;
    wait("a judge", || is_judged(&lab))?;
    let log = enforcer.log()?;
    for said in ["there is no interface lan0 yet", "no interface has the address 10.1.0.1:53 yet", "lan0 has appeared"]
    {
        assert!(log.contains(said), "{log}");
    }
    let answer =
        lab.client.enter(|| dns::ask_udp("10.1.0.1:53".parse()?, &dns::query("www.lab.example", A), PATIENCE))?;
    assert!(answer.is_some(), "{}", enforcer.log()?);
    for page in ["10.1.0.1:9100/metrics", "10.1.0.1:8080/proxy.pac"] {
        lab.client.output(&format!("curl --silent --show-error --max-time 5 http://{page}"))?;
    }
    enforcer.stop()
}

#[test]
fn a_renamed_lan_is_not_opened_by_a_start_with_its_old_name() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    Enforcer::start(&lab, POLICY, RUN)?.kill()?;
    lab.gateway.run("ip link set lan0 name lanx")?;
    let refused = Enforcer::start_again(&lab, RUN).err().context("it starts")?.to_string();
    assert!(refused.contains("name lanx if it is lan0 renamed"), "{refused}");
    assert!(is_judged(&lab)?);
    Enforcer::start_again(&lab, &RUN.replace("lan0", "lanx"))?.stop()?;
    assert!(is_judged(&lab)?);
    Ok(())
}

#[test]
fn an_index_is_no_name_whatever_interfaces_are_called() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let index = lab.gateway.output("cat /sys/class/net/lan0/ifindex")?;
    lab.gateway.run(&format!("ip link add name {} type veth peer name other0", index.trim()))?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    assert!(is_judged(&lab)?, "{}", guards(&lab)?);
    enforcer.stop()
}

/// Cuts a pinned link off its interface, as `bpftool link detach` does.
fn cut(pin: &Path) -> Result<()> {
    const BPF_OBJ_GET: i64 = 7;
    const BPF_LINK_DETACH: i64 = 34;
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let bpf = |command: i64, attributes: [u64; 2]| {
        // SAFETY: the attributes are as bpf(2) wants them for these commands, and the path outlives the call.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of_val(&attributes)) };
        ensure!(answer >= 0, "{}: {}", pin.display(), io::Error::last_os_error());
        Ok(answer)
    };
    let link = bpf(BPF_OBJ_GET, [path.as_ptr() as u64, 0])?;
    // SAFETY: a descriptor that was opened just now, and is nobody else's.
    let link = unsafe { OwnedFd::from_raw_fd(i32::try_from(link)?) };
    bpf(BPF_LINK_DETACH, [u64::from(link.as_raw_fd().cast_unsigned()), 0]).map(drop)
}

#[test]
fn a_link_that_is_cut_off_comes_back_and_the_judge_beside_it_stays() -> Result<()> {
    let lab = Lab::new()?;
    let open = format!("unlisted = \"allow\"\n{POLICY}");
    let enforcer = Enforcer::start(&lab, &open, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let links = fs::read_dir(lab.pins()?.join("links"))?.collect::<io::Result<Vec<_>>>()?;
    let link = links.iter().map(fs::DirEntry::path).find(|link| link.to_string_lossy().ends_with("-lan_egress"));
    cut(&link.context("no link")?)?;
    wait("the link", || Ok(enforcer.log()?.contains("lan0 is back")))?;
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(enforcer.log()?.matches("lan0 is back").count(), 1, "{}", enforcer.log()?);
    flood.stop()?.assert_right();
    enforcer.stop()
}

#[test]
fn nothing_is_forwarded_when_a_controller_ends_whose_pins_are_gone() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    fs::remove_dir_all(lab.pins()?)?;
    wait("the warning", || Ok(enforcer.log()?.contains("only for as long as this controller runs")))?;
    assert!(is_judged(&lab)?);
    let log = lab.path("log");
    enforcer.stop()?;
    assert!(fs::read_to_string(&log)?.contains("nothing is enforced any more, as the pins"));
    assert_eq!([443, 80].map(|port| probe::tcp(&lab.client, "17.1.2.3", port).ok()), [Some(Silence), Some(Silence)]);
    Ok(())
}

#[test]
fn names_that_interfaces_take_from_each_other_leave_nothing_cut() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    lab.gateway.run("ip link add lan1 type veth peer name far1")?;
    let enforcer = Enforcer::start(&lab, POLICY, &RUN.replace("lan0", "lan0 lan1"))?;
    for command in ["set lan0 name lanx", "del lan1", "set lanx name lan0"] {
        lab.gateway.run(&format!("ip link {command}"))?;
        thread::sleep(Duration::from_millis(500));
        // Which name it has now, if it has another.
        let (renamed, status) = (!command.ends_with("lan0"), enforcer.ask("status")?);
        assert_eq!(status.contains("lanx by"), renamed, "{status}");
    }
    wait("the way for clients", || is_judged(&lab))?;
    enforcer.stop()
}

#[test]
fn a_guard_that_others_empty_or_remove_is_put_back() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let before = guards(&lab)?;
    let table = before.split_whitespace().find(|word| word.starts_with("enforcer_guard")).context(before.clone())?;
    for command in [format!("flush table inet {table}"), format!("delete table inet {table}"), "flush ruleset".into()] {
        lab.gateway.run(&format!("nft {command}"))?;
        assert_ne!(guards(&lab)?, before);
        wait("the guard", || Ok(guards(&lab)? == before))?;
    }
    enforcer.stop()?;
    // Called otherwise, the folder is the same.
    let (program, pins) = (enforcer_binary()?, lab.pins()?);
    let line =
        format!("{} detach --pins {}/ --socket {}", program.display(), pins.display(), lab.path("socket").display());
    assert!(lab.gateway.output(&line)?.contains("nothing is enforced any more"));
    assert!(!guards(&lab)?.contains("enforcer_guard"));
    Ok(())
}

#[test]
fn nothing_leaves_by_a_wan_whose_filters_are_lost() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, &format!("{RUN} --xdp off --tc clsact"))?;
    let is_guarded = || anyhow::Ok(guards(&lab)?.contains("oifname \"wan0\" oif != 0"));
    assert!(!is_guarded()?);
    for (command, guarded) in
        [("del dev wan0 clsact", false), ("add dev wan0 ingress", true), ("del dev wan0 ingress", false)]
    {
        lab.gateway.run(&format!("tc qdisc {command}"))?;
        wait("the guard", || Ok(is_guarded()? == guarded))?;
    }
    enforcer.stop()
}

#[test]
fn another_network_namespace_is_no_place_for_a_start() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let mut crashed = Enforcer::start(&lab, POLICY, &format!("{RUN} --xdp off --tc clsact"))?;
    crashed.crash()?;
    let [policy, state, socket] = ["policy.toml", "other-state", "other-socket"].map(|name| lab.path(name));
    let said = lab.client.output_of(&format!(
        "{} run --policy {} --state {} --socket {} --pins {} --lan eth0",
        enforcer_binary()?.display(),
        policy.display(),
        state.display(),
        socket.display(),
        lab.pins()?.display()
    ))?;
    assert!(said.contains("another network namespace"), "{said}");
    assert!(is_judged(&lab)?);
    Enforcer::start_again(&lab, &format!("{RUN} --xdp off --tc clsact"))?.stop()
}

#[test]
fn enforcers_keep_out_of_each_others_way() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let mut crashed = Enforcer::start(&lab, POLICY, RUN)?;
    crashed.crash()?;
    let before = guards(&lab)?;
    let (program, pins) = (enforcer_binary()?, lab.pins()?.with_file_name("other"));
    let other = |words: &str| {
        let socket = lab.path("other-socket");
        let line = format!("{} {words} --pins {} --socket {}", program.display(), pins.display(), socket.display());
        lab.gateway.output_of(&line)
    };
    assert!(other("detach")?.contains("nothing was attached"));
    assert_eq!(guards(&lab)?, before);
    // Of interfaces that the first one has.
    let run = |words: &str| {
        let (policy, state) = (lab.path("policy.toml"), lab.path("other-state"));
        other(&format!("run --policy {} --state {} {words}", policy.display(), state.display()))
    };
    for words in ["--lan lan0", "--lan lan0 --xdp off", "--lan lan0 --wan wan0 --xdp off --tc clsact", RUN] {
        let said = run(words)?;
        let advice = format!("enforcer detach --pins {}", lab.pins()?.display());
        assert!(said.contains("programs of another enforcer") && said.contains(&advice), "{said}");
    }
    assert_eq!(guards(&lab)?, before);
    assert!(is_judged(&lab)? && !fs::exists(&pins)?);
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    // One that answers, but is not the one that is meant.
    let line =
        format!("{} detach --pins {} --socket {}", program.display(), pins.display(), lab.path("socket").display());
    assert!(lab.gateway.output(&line)?.contains("nothing was attached"));
    enforcer.ask("status")?;
    enforcer.stop()
}
