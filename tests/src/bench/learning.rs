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

/// Rounds of each kind, and milliseconds of a sample: long enough for a thousand addresses.
const ROUNDS: usize = 11;
const SAMPLE_MS: f64 = 100.0;
/// Addresses stored a second.
pub const RATE: u32 = 60_000;
/// Addresses in the tables at a time: the oldest goes for each that comes.
const MOST: u32 = 32_768;
const FIRST: u32 = 0x2000_0000;

/// Nanoseconds per run of a program above another while another CPU stores [`RATE`] addresses a second: into an image of its own, and into the tables that
/// the program reads; and how many these really were. So what is compared is what the packets suffer from, not what the other CPU does.
pub fn time(
    bench: &mut Bench,
    policy: &Policy,
    floor: &'static str,
    program: &'static str,
    frame: &[u8],
) -> Result<([f64; 2], f64)> {
    let mut above = [Vec::new(), Vec::new()];
    let mut aside = Aside::new(policy)?;
    let mut addresses = [Addresses::new(&[]), Addresses::new(&[])];
    let (mut stored, mut lasted) = ([0, 0], Duration::ZERO);
    for round in 0..2 * ROUNDS {
        let learns = round % 2 == 1;
        let (addresses, stored) = (&mut addresses[round % 2], &mut stored[round % 2]);
        let mut both = [0.0; 2];
        for (name, nanoseconds) in [floor, program].into_iter().zip(&mut both) {
            let repeat = bench.repeats(name, frame, SAMPLE_MS)?;
            let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
            let (object, live) = bench.parts();
            let (program, memory) = object.beside(name)?;
            let stop = AtomicBool::new(false);
            let Aside { image, live: aside } = &mut aside;
            *nanoseconds = thread::scope(|scope| -> Result<f64> {
                scope.spawn(|| {
                    leave_this_cpu();
                    if learns {
                        learn(memory, live, addresses, stored, &stop);
                    } else {
                        learn(image, aside, addresses, stored, &stop);
                    }
                });
                let start = Instant::now();
                let ran = program.test_run(options);
                let elapsed = start.elapsed();
                stop.store(true, Ordering::Relaxed);
                ran?;
                lasted += if learns { elapsed } else { Duration::ZERO };
                Ok(elapsed.as_secs_f64() * 1e9 / f64::from(repeat))
            })?;
        }
        above[usize::from(learns)].push(both[1] - both[0]);
    }
    Ok((above.map(median), f64::from(stored[1]) / lasted.as_secs_f64()))
}

/// Stores addresses until it is to stop, and removes as many.
fn learn(tables: &mut impl Tables, live: &mut [Live], addresses: &mut Addresses, stored: &mut u32, stop: &AtomicBool) {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(FIRST + number));
    let (start, first) = (Instant::now(), *stored);
    while !stop.load(Ordering::Relaxed) {
        if f64::from(*stored - first) > start.elapsed().as_secs_f64() * f64::from(RATE) {
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
