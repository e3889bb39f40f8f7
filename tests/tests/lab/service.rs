//! enforcer as a service: what it may do, what it says where, and systemd's opinion of its unit.

use std::{
    fs::{self, File},
    os::unix::{fs::MetadataExt as _, net::UnixDatagram},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{Lab, POLICY, enforcer_binary, product::Enforcer, root};

/// What the unit leaves to it.
const UNIT: [&str; 4] = ["bpf", "net_admin", "perfmon", "net_bind_service"];

fn unit() -> PathBuf {
    root().join("enforcer/dist/systemd/enforcer.service")
}

/// A field of each thread's `/proc/PID/task/TID/status`.
fn threads(pid: u32, field: &str) -> Result<Vec<String>> {
    let mut values = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":"));
        values.push(line.with_context(|| format!("no {field}"))?.trim().to_owned());
    }
    Ok(values)
}

#[test]
fn the_units_capabilities_are_enough_for_everything() -> Result<()> {
    let lab = Lab::new()?;
    let kept = UNIT.map(|one| format!("+{one}")).join(",");
    let wrapper = format!("setpriv --bounding-set=-all,{kept} --inh-caps=-all --no-new-privs");
    let arguments = "--lan lan0 --wan wan0 --xdp native --dns-listen 10.1.0.1:53 --dns-upstream 198.51.100.2";
    let arguments = format!("{arguments} --dns-snoop 10.1.0.1 --diagnose");
    lab.file("policy.toml", POLICY)?;
    let enforcer = Enforcer::start_by(&lab, &wrapper, &arguments)?;
    // BPF 39, NET_ADMIN 12, PERFMON 38, NET_BIND_SERVICE 10.
    let mask = format!("{:016x}", (1u64 << 39) | (1 << 12) | (1 << 38) | (1 << 10));
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        let found = threads(enforcer.pid(), field)?;
        assert!(found.len() > 2 && found.iter().all(|value| *value == mask), "{field}: {found:?}, not {mask}");
    }
    let status = enforcer.ask("status")?;
    assert!(status.contains("native XDP"), "{status}");
    // A cable that is pulled and laid again: programs are attached later, too.
    lab.gateway.run("ip link del lan0")?;
    lab.connect_client()?;
    let start = Instant::now();
    while !lab.gateway.output("ip -d link show lan0")?.contains("prog/xdp") {
        ensure!(start.elapsed() < Duration::from_secs(10), "no program on lan0 again:\n{}", enforcer.log()?);
        thread::sleep(Duration::from_millis(20));
    }
    enforcer.ask("counters")?;
    enforcer.stop()
}

#[test]
fn what_root_starts_gives_up_the_rest() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --xdp native")?;
    // As above, and CHOWN 0 and DAC_READ_SEARCH 2.
    let mask = format!("{:016x}", (1u64 << 39) | (1 << 12) | (1 << 38) | (1 << 10) | (1 << 2) | 1);
    for (field, wanted) in [("CapEff", &*mask), ("CapPrm", &mask), ("CapBnd", &mask), ("NoNewPrivs", "1")] {
        let found = threads(enforcer.pid(), field)?;
        assert!(found.len() > 2 && found.iter().all(|value| value == wanted), "{field}: {found:?}, not {wanted}");
    }
    for field in ["CapInh", "CapAmb"] {
        let found = threads(enforcer.pid(), field)?;
        assert!(found.iter().all(|value| *value == "0000000000000000"), "{field}: {found:?}");
    }
    enforcer.stop()
}

#[test]
fn the_journal_gets_levels_and_people_get_lines() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("enforcer-log-{}", std::process::id()));
    let file = File::create(&folder)?;
    let stream = format!("{}:{}", file.metadata()?.dev(), file.metadata()?.ino());
    let said = |stream: &str, log: &str| -> Result<String> {
        file.set_len(0)?;
        let mut command = Command::new(enforcer_binary()?);
        command.args(["run", "--verbose", "--lan", "nowhere0", "--log", log]);
        // Found before anything of the machine is asked, such as whether a BPF file system is mounted.
        command.args(["--policy", "/dev/null"]);
        let output = File::options().append(true).open(&folder)?;
        command.env("JOURNAL_STREAM", stream).stdin(Stdio::null()).stderr(output).status()?;
        Ok(fs::read_to_string(&folder)?)
    };
    let said = [said(&stream, "info"), said("8:1234567890", "info"), said(&stream, "off")];
    fs::remove_file(&folder)?;
    let [journal, person, nothing] = said;
    let (journal, person) = (journal?, person?);
    assert!(journal.contains("/dev/null") && journal.lines().all(|line| line.starts_with("<3>")), "{journal}");
    assert!(person.starts_with("enforcer: ") && person.contains("/dev/null") && !person.contains('<'), "{person}");
    assert_eq!(nothing?, "");
    Ok(())
}

/// 3.0 is what is promised; what it is, is in the failure. systemd-analyze counts in tenths here.
#[test]
fn systemd_finds_the_unit_well_confined() -> Result<()> {
    let unit = unit();
    let mut analyze = Command::new("systemd-analyze");
    let output = analyze.args(["security", "--offline=yes", "--threshold=30", "--no-pager"]).arg(&unit).output();
    let output = output.context("cannot run systemd-analyze: run `cargo xtask setup`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&unit)?;
    let bounds = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("no bounds")?;
    let mut bounds: Vec<String> = bounds.split_whitespace().map(|one| one.replace("CAP_", "").to_lowercase()).collect();
    bounds.sort();
    let mut wanted = UNIT.to_vec();
    wanted.sort_unstable();
    assert_eq!(bounds, wanted, "the lab's test is to run with what the unit leaves");
    Ok(())
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn systemd_hears_that_it_is_ready_lives_and_ends() -> Result<()> {
        let lab = Lab::new()?;
        let path = lab.path("notify");
        let manager = UnixDatagram::bind(&path)?;
        manager.set_read_timeout(Some(Duration::from_secs(5)))?;
        let heard = || -> Result<String> {
            let mut message = [0; 512];
            let length = manager.recv(&mut message).context("nothing is said")?;
            Ok(String::from_utf8(message[..length].to_vec())?)
        };
        let wrapper = format!("env NOTIFY_SOCKET={} WATCHDOG_USEC=200000", path.display());
        lab.file("policy.toml", POLICY)?;
        let enforcer = Enforcer::start_by(&lab, &wrapper, "--lan lan0 --wan wan0")?;
        assert_eq!(heard()?, "READY=1\n");
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(heard()?, "WATCHDOG=1\n");
        }
        let took = start.elapsed();
        assert!(
            (Duration::from_millis(700)..Duration::from_secs(2)).contains(&took),
            "ten signs of life took {took:?}"
        );
        enforcer.stop()?;
        let mut last = heard()?;
        while last == "WATCHDOG=1\n" {
            last = heard()?;
        }
        assert_eq!(last, "STOPPING=1\n");
        Ok(())
    }
}
