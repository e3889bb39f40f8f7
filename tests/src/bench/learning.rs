//! Packets judged while addresses are learned.

use std::{
    hint,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use aya::programs::{TestRun as _, TestRunOptions};
use enforcer::{
    compile::{self, Addresses, Image, Limits, Live, addresses::Tables},
    policy::{Policy, ServiceId},
};

use super::measure::{Bench, leave_this_cpu, median};

/// Rounds of each phase, and milliseconds of a sample: long enough for a thousand addresses.
const ROUNDS: usize = 11;
const SAMPLE_MS: f64 = 100.0;
/// Addresses in the tables at a time: the oldest goes for each that comes.
const MOST: u32 = 32_768;
const FIRST: u32 = 0x2000_0000;

/// What another CPU does while packets are judged.
pub const PHASES: [&str; 3] =
    ["IPv4, names learned aside, 60,000/s", "IPv4, names learned, 60,000/s", "IPv4, names learned, all it can"];
/// Addresses that it stores a second in each.
const RATES: [f64; 3] = [60_000.0, 60_000.0, f64::INFINITY];

/// What was measured.
pub struct Learned {
    /// Nanoseconds per run above the floor, by phase.
    pub above: [f64; 3],
    /// Addresses that were stored a second in the last phase, and as many removed.
    pub rate: f64,
}

/// Nanoseconds per run of a program above another while another CPU stores addresses: into an image of its own, and into the tables that the program reads.
/// So what is compared is what the packets suffer from, not what the other CPU does.
pub fn time(
    bench: &mut Bench,
    policy: &Policy,
    floor: &'static str,
    program: &'static str,
    frame: &[u8],
) -> Result<Learned> {
    let mut above = [const { Vec::new() }; 3];
    let mut aside = Aside::new(policy)?;
    let (mut apart, mut inside) = ((Addresses::new(&[]), 0), (Addresses::new(&[]), 0));
    let (mut stored, mut lasted) = (0, Duration::ZERO);
    for phase in (0..PHASES.len()).cycle().take(PHASES.len() * ROUNDS) {
        let mut both = [0.0; 2];
        for (name, nanoseconds) in [floor, program].into_iter().zip(&mut both) {
            let repeat = bench.repeats(name, frame, SAMPLE_MS)?;
            let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
            let (object, live) = bench.parts();
            let (program, memory) = object.beside(name)?;
            let stop = AtomicBool::new(false);
            let (before, rate) = (inside.1, RATES[phase]);
            let Aside { image, live: aside } = &mut aside;
            let elapsed = thread::scope(|scope| -> Result<Duration> {
                scope.spawn(|| {
                    leave_this_cpu();
                    match phase {
                        0 => learn(image, aside, &mut apart, rate, &stop),
                        _ => learn(memory, live, &mut inside, rate, &stop),
                    }
                });
                let start = Instant::now();
                let ran = program.test_run(options);
                let elapsed = start.elapsed();
                stop.store(true, Ordering::Relaxed);
                ran?;
                Ok(elapsed)
            })?;
            *nanoseconds = elapsed.as_secs_f64() * 1e9 / f64::from(repeat);
            if rate.is_infinite() {
                stored += inside.1 - before;
                lasted += elapsed;
            }
        }
        above[phase].push(both[1] - both[0]);
    }
    Ok(Learned { above: above.map(median), rate: f64::from(stored) / lasted.as_secs_f64() })
}

/// Stores so many addresses a second until it is to stop, and removes as many; `learned` has them and their number so far.
fn learn(tables: &mut impl Tables, live: &mut [Live], learned: &mut (Addresses, u32), rate: f64, stop: &AtomicBool) {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(FIRST + number));
    let (addresses, stored) = learned;
    let (start, first) = (Instant::now(), *stored);
    while !stop.load(Ordering::Relaxed) {
        if f64::from(*stored - first) > start.elapsed().as_secs_f64() * rate {
            hint::spin_loop();
            continue;
        }
        if *stored >= MOST {
            addresses.remove(tables, address(*stored - MOST));
        }
        addresses.set(tables, live, address(*stored), &[ServiceId(0)], false, 0).expect("there is room");
        *stored += 1;
    }
}

/// The same tables where no program reads them.
struct Aside {
    image: Image,
    live: Vec<Live>,
}

impl Aside {
    fn new(policy: &Policy) -> Result<Self> {
        let mut image = compile::compile(policy, &Limits::default(), 0x9e37_79b9)?;
        let live = std::mem::take(&mut image.live);
        Ok(Self { image, live })
    }
}
