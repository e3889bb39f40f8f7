//! Packets a second through a gateway, by what filters there: every case once in a round, so that the machine's moods hit all alike.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rand::Rng;
use serde::Serialize;

use super::{
    filters::{Count, Fate, Filter},
    machine::Machine,
    measure::{interquartile_range, median},
    plot, sets,
    traffic::{BATCH, GENERATORS, ROUND, Traffic},
};
use crate::lab::Lab;

/// What the benchmark's `--only` calls it.
pub const NAME: &str = "end-to-end";

/// What filters nothing, or no more than it must: the first is what others are measured from.
const FLOORS: [(Fate, &[Filter]); 2] = [
    (Fate::Dropped, &[Filter::EmptyDrop, Filter::Generator]),
    (Fate::Forwarded, &[Filter::Nothing, Filter::EmptyPass, Filter::EmptyHooks]),
];
const FILTERS: [Filter; 6] =
    [Filter::EnforcerXdp, Filter::XdpFilter, Filter::EnforcerTc, Filter::NftIngress, Filter::NftForward, Filter::Ipset];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Hosts that the filters know.
    pub hosts: usize,
    /// Rounds; each runs every case once.
    pub rounds: usize,
    /// How long a sample is to be. Without, it is as many frames as there must be at least.
    pub sample: Option<Duration>,
}

/// The whole benchmark's. What counts packets is asked before and behind each sample.
pub const PLAN: Plan = Plan { hosts: 1000, rounds: 11, sample: Some(Duration::from_millis(150)) };

/// A case's result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The filter's name.
    pub filter: &'static str,
    /// What became of the packets.
    pub fate: &'static str,
    /// Packets that were sent in all rounds.
    pub sent: u64,
    /// Packets of these that the filter counted as its rule's, if it counts.
    pub counted: Option<u64>,
    /// Packets that came to the far end.
    pub received: u64,
    /// Packets that did not get to where they were to be counted: a queue was full.
    pub lost: u64,
    /// Packets a second, on one CPU.
    pub rate: f64,
    /// The rates' interquartile range, as a share of the rate.
    pub spread: f64,
    /// Nanoseconds of each packet.
    pub nanoseconds: f64,
    /// Nanoseconds above the fate's first case, which filters nothing.
    pub above: f64,
    /// Packets a second against the same.
    pub ratio: f64,
    /// Packets a second of [`Filter::EnforcerXdp`] against this.
    pub enforcer: f64,
    /// Packets a second on two CPUs against one; nothing where there is one.
    pub scale: Option<f64>,
}

/// A gateway with one filter.
struct Case {
    filter: Filter,
    fate: Fate,
    // Dropped in this order: the lab outlives what runs in it.
    count: Option<Count>,
    traffic: Traffic,
    lab: Lab,
    sent: u64,
    counted: u64,
    received: u64,
    frames: u32,
    /// Frames a second on one CPU and on two, a sample for each round.
    rates: [Vec<f64>; 2],
}

impl Case {
    fn new(filter: Filter, fate: Fate, hosts: &[Ipv4Addr], rng: &mut impl Rng) -> Result<Self> {
        let lab = Lab::new()?;
        let mut traffic = Traffic::new(&lab, hosts, rng)?;
        let count = filter
            .install(&lab, &mut traffic, hosts, fate)
            .with_context(|| format!("the benchmark cannot have {}", filter.name()))?;
        let (rates, frames) = ([Vec::new(), Vec::new()], 2 * ROUND);
        Ok(Self { filter, fate, count, traffic, lab, sent: 0, counted: 0, received: 0, frames, rates })
    }

    /// Warms caches up, and finds how many frames make a sample.
    fn calibrate(&mut self, sample: Duration) -> Result<()> {
        self.frames = 100_000;
        let rate = self.run(&[0])?;
        self.frames = ((rate * sample.as_secs_f64()) as u32).next_multiple_of(BATCH).max(2 * ROUND);
        Ok(())
    }

    /// Frames a second on some CPUs. Each of them must be counted where it ends.
    fn run(&mut self, cpus: &[usize]) -> Result<f64> {
        let before = self.tell()?;
        let sent = self.traffic.send(&self.lab, cpus, self.frames)?;
        let expected =
            (self.count.as_ref().map_or(0, |_| sent.frames), if self.fate == Fate::Dropped { 0 } else { sent.frames });
        // What a CPU had no time for any more, it does soon.
        let begin = Instant::now();
        let (counted, received) = loop {
            let after = self.tell()?;
            let both = (after.0 - before.0, after.1 - before.1);
            if both == expected || begin.elapsed() > Duration::from_secs(1) {
                break both;
            }
            thread::sleep(Duration::from_millis(10));
        };
        ensure!(
            counted <= expected.0 && received <= expected.1,
            "{}, packets {}: {} were sent, {counted} counted by the filter, {received} came to the far end",
            self.filter.name(),
            self.fate.name(),
            sent.frames
        );
        self.sent += sent.frames;
        self.counted += counted;
        self.received += received;
        Ok(sent.rate)
    }

    /// Packets that the filter counted, and that came to the end.
    fn tell(&self) -> Result<(u64, u64)> {
        let counted = self.count.as_ref().map_or(Ok(0), |count| count(&self.lab))?;
        Ok((counted, self.traffic.received()?))
    }

    /// Differences and ratios are taken within each round.
    fn row(&self, floor: &Self, enforcer: &Self) -> Row {
        let [one, two] = &self.rates;
        let each = |of: fn(f64, f64) -> f64, those: &[f64]| -> f64 {
            median(one.iter().zip(those).map(|(own, other)| of(*own, *other)).collect())
        };
        let rate = median(one.clone());
        Row {
            filter: self.filter.name(),
            fate: self.fate.name(),
            sent: self.sent,
            counted: self.count.is_some().then_some(self.counted),
            received: self.received,
            lost: match self.fate {
                Fate::Dropped if self.count.is_none() => 0,
                Fate::Dropped => self.sent - self.counted,
                Fate::Forwarded => self.sent - self.received,
            },
            rate,
            spread: interquartile_range(one.clone()) / rate,
            nanoseconds: 1e9 / rate,
            above: each(|own, floor| 1e9 / own - 1e9 / floor, &floor.rates[0]),
            ratio: each(|own, floor| own / floor, &floor.rates[0]),
            enforcer: each(|own, enforcer| enforcer / own, &enforcer.rates[0]),
            scale: (!two.is_empty()).then(|| each(|one, two| two / one, two)),
        }
    }
}

/// Measures all cases.
pub fn measure(plan: Plan, rng: &mut impl Rng) -> Result<Vec<Row>> {
    let hosts = hosts(plan.hosts, rng);
    let mut cases = Vec::new();
    for (fate, floors) in FLOORS {
        for &filter in floors.iter().chain(&FILTERS) {
            cases.push(Case::new(filter, fate, &hosts, rng)?);
        }
    }
    if let Some(sample) = plan.sample {
        cases.iter_mut().try_for_each(|case| case.calibrate(sample))?;
    }
    let most = thread::available_parallelism()?.get().min(GENERATORS);
    for _ in 0..plan.rounds {
        for (index, cpus) in [&[0][..], &[0, 1]].into_iter().take(most).enumerate() {
            for case in &mut cases {
                let rate = case.run(cpus)?;
                case.rates[index].push(rate);
            }
        }
    }
    let find = |fate, filter| {
        cases.iter().find(|case| case.fate == fate && case.filter == filter).expect("each fate has each filter")
    };
    let row = |case: &Case| {
        let (fate, floors) = FLOORS.into_iter().find(|(fate, _)| *fate == case.fate).expect("all fates have one");
        case.row(find(fate, floors[0]), find(fate, Filter::EnforcerXdp))
    };
    Ok(cases.iter().map(row).collect())
}

/// A filter's result.
#[must_use]
pub fn find(rows: &[Row], fate: Fate, filter: Filter) -> Option<&Row> {
    rows.iter().find(|row| row.fate == fate.name() && row.filter == filter.name())
}

/// Prints results, the packets dropped and the packets forwarded each on their own.
pub fn print(rows: &[Row]) {
    for (fate, floors) in FLOORS {
        println!("\n64-byte packets {}, over veth devices, no NIC; the generator is in every figure", fate.name());
        println!(
            "{:<24} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>12} {:>12} {:>8}",
            "", "Mpps", "spread", "ns", "above", "ratio", "enforcer", "two CPUs", "sent", "counted", "lost"
        );
        for row in rows.iter().filter(|row| row.fate == fate.name()) {
            println!(
                "{:<24} {:>8.2} {:>6.1} % {:>8.0} {:>8.0} {:>8.3} {:>7.2}x {:>8} {:>12} {:>12} {:>8}",
                row.filter,
                row.rate / 1e6,
                row.spread * 100.0,
                row.nanoseconds,
                row.above,
                row.ratio,
                row.enforcer,
                row.scale.map_or_else(|| "-".to_owned(), |scale| format!("{scale:.2}x")),
                row.sent,
                row.counted.map_or_else(|| "-".to_owned(), |counted| counted.to_string()),
                row.lost
            );
        }
        println!(
            "spread: interquartile range; above, ratio: against \"{}\", round by round; enforcer: its packets a second by XDP against this; \
             two CPUs: against one, 2 where they share nothing",
            floors[0].name()
        );
    }
}

/// Draws a picture of each fate.
pub fn plot(folder: &Path, rows: &[Row], machine: &Machine) -> Result<()> {
    for (fate, _) in FLOORS {
        let values: Vec<_> =
            rows.iter().filter(|row| row.fate == fate.name()).map(|row| (row.filter, row.rate / 1e6)).collect();
        if !values.is_empty() {
            let title = format!("Packets {}, over veth; {machine}", fate.name());
            let path = folder.join(plot::file_name(&format!("{NAME} {}", fate.name())));
            plot::bars(&path, &title, "millions a second on one CPU", &values)?;
        }
    }
    Ok(())
}

/// Hosts that a gateway would forward packets to.
fn hosts(count: usize, rng: &mut impl Rng) -> Vec<Ipv4Addr> {
    let mut hosts = BTreeSet::new();
    while hosts.len() < count {
        hosts.extend(sets::hosts(rng, 1).into_iter().filter_map(|net| match net.addr() {
            IpAddr::V4(host) if !host.is_private() && !host.is_loopback() && !host.is_documentation() => Some(host),
            _ => None,
        }));
    }
    hosts.into_iter().collect()
}
