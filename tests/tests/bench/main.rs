//! The benchmark itself: its programs load, and judge as they should; its counts are exact.

use std::{process::Command, time::Duration};

use anyhow::Result;
use enforcer::policy::Action;
use enforcer_tests::{
    bench::{
        control::{self, Figure},
        end_to_end::{self, Plan},
        kinds,
        machine::Machine,
        measure::{Bench, Pace, frame},
        packets, sets,
    },
    lab::Namespace,
};

const BRIEF: Pace = Pace { rounds: 3, warm_ms: 0.02, sample_ms: 0.02 };

#[test]
fn the_benchmarks_programs_load_and_judge() -> Result<()> {
    const PASS: u32 = 2;
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    for (v6, floor, program) in [(false, "rewrite4", "judge4"), (true, "rewrite6", "judge6")] {
        let nets = sets::prefixes(&mut rng, 100, v6);
        let mut bench = Bench::new(&sets::one_rule(nets.clone(), Action::Allow), BRIEF)?;
        bench.aim(|| sets::within(&mut rng, &nets[7]));
        assert_eq!(bench.time(floor, &[program], &frame(v6)?)?[0].1, PASS);
    }
    Ok(())
}

#[test]
fn each_kind_of_packet_gets_its_verdict() -> Result<()> {
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    let mut kinds = 0;
    kinds::measure(100, BRIEF, &mut rng, |_, _, _| kinds += 1)?;
    assert_eq!(kinds, 14);
    Ok(())
}

#[test]
fn sizes_are_measured_and_drawn_by_name() -> Result<()> {
    let plan = packets::Plan { sizes: vec![10, 20], seed: 1, only: "IPv4 hosts".into() };
    let packets = packets::measure(&plan)?;
    let names: Vec<(&str, usize)> = packets.sizes.iter().map(|row| (&*row.what, row.size)).collect();
    let [hit, miss] = packets::HOSTS;
    assert_eq!(names, [(hit, 10), (hit, 20), (miss, 10), (miss, 20)]);
    assert!(packets.kinds.is_empty() && packets.sizes.iter().all(|row| row.hash.is_some()), "{packets:?}");
    let folder = std::env::temp_dir().join(format!("enforcer-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let drawn = packets::plot(&folder, &packets, &Machine::here()?);
    let picture = std::fs::read_to_string(folder.join("ipv4-hosts-miss.svg"));
    std::fs::remove_dir_all(&folder)?;
    drawn?;
    // A point for each size on each of three lines.
    assert_eq!(picture?.matches("<circle").count(), 6);
    Ok(())
}

#[test]
fn the_controllers_work_is_measured() -> Result<()> {
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    let plan = control::Plan {
        freed: 1000,
        prefixes: [10, 1000],
        reloads: 1,
        names: 3,
        counters: 100,
        watched: Duration::from_millis(1500),
    };
    let figures = control::measure(&plan, &mut rng)?;
    assert_eq!(figures.len(), 11);
    // What freeing took is a difference, and what idling takes may be too little to be counted.
    let is_plain = |figure: &&Figure| !(figure.what.starts_with("freeing") || figure.unit == "%");
    let plain: Vec<_> = figures.iter().filter(is_plain).collect();
    assert_eq!(plain.len(), 7);
    assert!(plain.iter().all(|figure| figure.value > 0.0), "{figures:?}");
    Ok(())
}

#[test]
fn every_packet_of_the_flood_is_counted_by_each_filter_and_at_the_end() -> Result<()> {
    let mut rng: rand_chacha::ChaCha8Rng = rand::SeedableRng::seed_from_u64(1);
    let plan = Plan { hosts: 20, rounds: 1, sample: None };
    let rows = end_to_end::measure(plan, &mut rng)?;
    for row in &rows {
        assert!(row.sent >= 8192, "{row:?}");
        assert!(row.counted.is_none_or(|counted| counted == row.sent), "{row:?}");
        assert_eq!(row.received, if row.fate == "forwarded" { row.sent } else { 0 }, "{row:?}");
    }
    let uncounted: Vec<_> = rows.iter().filter(|row| row.counted.is_none()).map(|row| row.filter).collect();
    assert_eq!(uncounted, ["the generator alone", "no filter", "empty XDP pass", "empty XDP and TC pass"]);

    Ok(())
}

#[test]
fn what_a_killed_run_has_left_is_removed_by_the_next() -> Result<()> {
    let run = |line: &str| -> Result<bool> { Ok(Command::new("sh").args(["-c", line]).status()?.success()) };
    // No process has such a number.
    let killed = "enf-killed-2000000000-0";
    assert!(run(&format!("ip netns add {killed} && ip netns exec {killed} sleep 600 & sleep 1"))?);
    let sleeps = Command::new("ip").args(["netns", "pids", killed]).output()?;
    let sleeps = format!("/proc/{}/exe", String::from_utf8(sleeps.stdout)?.trim());
    std::fs::read_link(&sleeps)?;
    let folder = std::env::temp_dir().join("enforcer-lab-2000000000-0");
    std::fs::create_dir_all(folder.join("bpf"))?;
    assert!(run(&format!("mount -t bpf bpf {}/bpf", folder.display()))?);
    let _namespace = Namespace::new(&format!("enf-next-{}-0", std::process::id()))?;
    assert!(!run(&format!("ip netns pids {killed}"))? && !folder.exists());
    // It ends a moment after the signal, and has no executable from then on, whoever waits for it.
    std::thread::sleep(Duration::from_millis(200));
    assert!(std::fs::read_link(&sleeps).is_err());
    // Those of others stay, whatever they are called.
    let others = [Namespace::new("other-2000000000-0")?, Namespace::new("enf-of-somebody")?];
    let _another = Namespace::new(&format!("enf-next-{}-1", std::process::id()))?;
    for other in others {
        assert!(run(&format!("ip netns pids {}", other.name()))?, "{}", other.name());
    }
    Ok(())
}
