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

use super::measure::{Bench, frame, leave_this_cpu, median, programs};

/// Rounds of each phase, and milliseconds of a sample: long enough for a thousand addresses.
const ROUNDS: usize = 11;
const SAMPLE_MS: f64 = 100.0;
/// Addresses in the tables at a time: the oldest goes for each that comes.
const MOST: u32 = 32_768;
const FIRST: u32 = 0x2000_0000;

/// What another CPU does while packets are judged.
pub struct Phase {
    /// As the table names it.
    pub name: &'static str,
    /// Addresses that it stores a second.
    rate: f64,
    /// Whether into the tables that the packets are judged by; else into its own.
    inside: bool,
}

/// All phases; the last one tells how fast addresses can be learned.
pub const PHASES: [Phase; 3] = [
    Phase { name: "IPv4, names learned aside, 60,000/s", rate: 60_000.0, inside: false },
    Phase { name: "IPv4, names learned, 60,000/s", rate: 60_000.0, inside: true },
    Phase { name: "IPv4, names learned, all it can", rate: f64::INFINITY, inside: true },
];

/// What was measured.
pub struct Learned {
    /// Nanoseconds of a verdict above the floor, by phase.
    pub above: [f64; PHASES.len()],
    /// Addresses that were stored a second in the last phase while packets were judged, and as many removed.
    pub rate: f64,
}

/// What packets suffer from while another CPU stores addresses: into an image of its own, or into their tables, so that it works as much in each case.
pub fn time(bench: &mut Bench, policy: &Policy) -> Result<Learned> {
    let frame = frame(false)?;
    let mut above = [const { Vec::new() }; PHASES.len()];
    let mut aside = Aside::new(policy)?;
    let (mut apart, mut inside) = (Known::none(), Known::none());
    let mut rates = Vec::new();
    for number in (0..PHASES.len()).cycle().take(PHASES.len() * ROUNDS) {
        let phase = &PHASES[number];
        let mut both = [0.0; 2];
        for (name, nanoseconds) in programs(false).into_iter().zip(&mut both) {
            let repeat = bench.repeats(name, &frame, SAMPLE_MS)?;
            let options = TestRunOptions { data_in: Some(&frame), repeat, ..TestRunOptions::new() };
            let (object, live) = bench.parts();
            let (program, memory) = object.beside(name)?;
            let (stop, before) = (AtomicBool::new(false), inside.stored);
            let Aside { image, live: aside } = &mut aside;
            let elapsed = thread::scope(|scope| -> Result<Duration> {
                scope.spawn(|| {
                    leave_this_cpu();
                    if phase.inside {
                        inside.learn(memory, live, phase.rate, &stop);
                    } else {
                        apart.learn(image, aside, phase.rate, &stop);
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
            // The floor does not read the tables.
            if phase.rate.is_infinite() && name == programs(false)[1] {
                rates.push(f64::from(inside.stored - before) / elapsed.as_secs_f64());
            }
        }
        above[number].push(both[1] - both[0]);
    }
    Ok(Learned { above: above.map(median), rate: median(rates) })
}

/// Addresses in some tables, and how many were stored there so far.
struct Known {
    addresses: Addresses,
    stored: u32,
}

impl Known {
    fn none() -> Self {
        Self { addresses: Addresses::new(&[]), stored: 0 }
    }

    /// Stores so many addresses a second until it is to stop, and removes as many.
    fn learn(&mut self, tables: &mut impl Tables, live: &mut [Live], rate: f64, stop: &AtomicBool) {
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(FIRST + number));
        let (start, first) = (Instant::now(), self.stored);
        while !stop.load(Ordering::Relaxed) {
            if f64::from(self.stored - first) > start.elapsed().as_secs_f64() * rate {
                hint::spin_loop();
                continue;
            }
            if self.stored >= MOST {
                self.addresses.remove(tables, address(self.stored - MOST));
            }
            let stored = self.addresses.set(tables, live, address(self.stored), &[ServiceId(0)], false, 0);
            stored.expect("there is room");
            self.stored += 1;
        }
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
