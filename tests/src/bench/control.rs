//! What the controller takes: to exchange a policy, to learn a name's address, to watch and to be watched; and the kernel, to free what was replaced.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::SocketAddr,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use enforcer::policy::Action;
use ipnet::IpNet;
use rand::Rng;
use serde::Serialize;

use super::{
    measure::{Bench, Pace, median},
    sets,
};
use crate::lab::{
    Lab, POLICY,
    dns::{self, PATIENCE},
    flood::{FLOWS, Flood},
    forwarder::SERVER,
    names,
    product::Enforcer,
    server::Servers,
};

/// What the benchmark's `--only` calls it.
pub const NAME: &str = "control";

/// Ticks in a second, of times in `/proc` (`USER_HZ`, the same on every kernel for this architecture).
const TICKS: f64 = 100.0;
const RUN: &str = "--lan lan0 --wan wan0";

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Prefixes of the policy that is freed.
    pub freed: usize,
    /// Prefixes of policies that are exchanged.
    pub prefixes: [usize; 2],
    /// How often each is.
    pub reloads: usize,
    /// Names that are asked for.
    pub names: u32,
    /// Counters that are streamed every second.
    pub counters: usize,
    /// For how long the controller is watched, and the kernel when it frees maps.
    pub watched: Duration,
}

/// The whole benchmark's.
pub const PLAN: Plan = Plan {
    freed: 1_000_000,
    prefixes: [1000, 100_000],
    reloads: 7,
    names: 500,
    counters: 10_000,
    watched: Duration::from_secs(10),
};

/// A result.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// How much it is.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Figure {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

/// Measures all of it.
///
/// # Errors
/// If a part fails, or a packet gets a wrong verdict meanwhile.
pub fn measure(plan: &Plan, rng: &mut impl Rng) -> Result<Vec<Figure>> {
    let mut figures = freeing(plan, rng)?;
    for prefixes in plan.prefixes {
        figures.extend(reloading(plan, prefixes, rng)?);
    }
    figures.extend(learning(plan)?);
    figures.extend(running(plan)?);
    Ok(figures)
}

/// Prints results.
pub fn print(figures: &[Figure]) {
    println!("\ncontrol");
    for Figure { what, value, unit } in figures {
        println!("{what:<78} {value:>10.2} {unit}");
    }
}

/// The kernel's time to free a policy's maps, and a trie of its own with the same prefixes.
fn freeing(plan: &Plan, rng: &mut impl Rng) -> Result<Vec<Figure>> {
    let nets = sets::prefixes(rng, plan.freed, false);
    let policy = Bench::new(&sets::one_rule(nets.clone(), Action::Allow), Pace::SMALL)?;
    let policy = freed(plan, policy)?;
    let mut bench = Bench::new(&sets::one_rule(nets[..1].to_vec(), Action::Allow), Pace::SMALL)?;
    let mut trie: LpmTrie<MapData, u32, u32> = bench.take_map("TRIE4")?;
    for net in &nets {
        let IpNet::V4(net) = net else { continue };
        trie.insert(&Key::new(net.prefix_len().into(), u32::from(net.network()).to_be()), 1, 0)?;
    }
    let trie = freed(plan, (bench, trie))?;
    let figure = |what: &str, took| {
        Figure::new(format!("freeing {what} of {} prefixes, the kernel's CPU time", plan.freed), took * 1e3, "ms")
    };
    Ok(vec![figure("the maps", policy), figure("a kernel LPM trie", trie)])
}

/// Seconds that the kernel works, on all CPUs, when these are dropped and for a time behind it: more than in as long a time before, which others have alone.
fn freed(plan: &Plan, maps: impl Sized) -> Result<f64> {
    let from_here = || -> Result<f64> {
        let start = kernel_seconds()?;
        thread::sleep(plan.watched);
        Ok(kernel_seconds()? - start)
    };
    let others = from_here()?;
    let start = kernel_seconds()?;
    drop(maps);
    let dropping = kernel_seconds()? - start;
    Ok(dropping + from_here()? - others)
}

/// Seconds that all CPUs have worked for the kernel.
fn kernel_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    // user, nice, system, idle, iowait, irq, softirq
    let fields: Vec<f64> = text.split_whitespace().skip(1).take(7).map(str::parse).collect::<Result<_, _>>()?;
    Ok((fields[2] + fields[5] + fields[6]) / TICKS)
}

/// Another policy takes the place of one, again and again, under a flood that is judged right all the time.
fn reloading(plan: &Plan, prefixes: usize, rng: &mut impl Rng) -> Result<Vec<Figure>> {
    let lab = Lab::new()?;
    let mut policy = format!("{POLICY}\n[[service]]\nname = \"many\"\nports = [\"tcp/8443\"]\nto = [\n");
    for net in sets::prefixes(rng, prefixes, false) {
        writeln!(policy, "\"{net}\",")?;
    }
    policy += "]\n[[rule]]\nname = \"many\"\naction = \"allow\"\nservices = [\"many\"]\n";
    let enforcer = Enforcer::start(&lab, &policy, RUN)?;
    let flood = Flood::start(&lab, &FLOWS)?;
    let mut took = Vec::new();
    for round in 0..plan.reloads {
        let file = lab.file("next.toml", &policy.replace("8443", &(9000 + round).to_string()))?;
        let start = Instant::now();
        enforcer.ask(&format!("apply {}", file.display()))?;
        took.push(start.elapsed().as_secs_f64());
    }
    let tally = flood.stop()?;
    ensure!((tally.lost, tally.leaked) == (0, 0), "wrong verdicts in a reload: {tally:?}");
    enforcer.stop()?;
    Ok(vec![Figure::new(format!("another policy of {prefixes} prefixes in force, under a flood"), median(took), "s")])
}

/// From a client's question to the answer, which comes when its addresses are in force; and the first packet to them.
fn learning(plan: &Plan) -> Result<Vec<Figure>> {
    let lab = Lab::new()?;
    let upstream = names::resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = names::start(&lab, names::POLICY)?;
    let (mut asked, mut direct, mut connected) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=plan.names {
        let query = dns::query(&format!("n{number}.fresh.lab.example"), 1);
        asked.push(lab.client.enter(|| timed_answer(SERVER, &query))?);
        let to = format!("{}:443", names::addresses(number).0).parse()?;
        connected.push(lab.client.enter(|| {
            let start = Instant::now();
            std::net::TcpStream::connect_timeout(&to, PATIENCE)?;
            Ok(start.elapsed().as_secs_f64())
        })?);
        direct.push(lab.gateway.enter(|| timed_answer(upstream.address, &query))?);
    }
    // One that is lost is sent again a second later.
    let late = connected.iter().filter(|took| **took > 0.5).count();
    ensure!(late == 0, "{late} of {} first packets came before their address was in force", plan.names);
    enforcer.stop()?;
    let ms = |what: &str, samples| Figure::new(what, median(samples) * 1e3, "ms");
    Ok(vec![
        ms("a fresh name's answer through the forwarder, when its address is in force", asked),
        ms("the same question to the resolver behind it", direct),
        ms("the connection that follows at once; no first packet was lost", connected),
    ])
}

fn timed_answer(server: SocketAddr, query: &[u8]) -> Result<f64> {
    let start = Instant::now();
    dns::ask_udp(server, query, PATIENCE)?.context("no answer")?;
    Ok(start.elapsed().as_secs_f64())
}

/// The controller's CPU time and memory, idle and when its counters are streamed.
fn running(plan: &Plan) -> Result<Vec<Figure>> {
    let lab = Lab::new()?;
    let mut policy = "default = \"drop\"\n".to_owned();
    for number in 0..plan.counters {
        let (high, low) = (number / 250, number % 250);
        write!(
            policy,
            "[[service]]\nname = \"s{number}\"\nto = [\"17.{high}.{low}.0/24\"]\nports = [\"tcp/443\"]\n\
             [[rule]]\nname = \"r{number}\"\naction = \"allow\"\nservices = [\"s{number}\"]\n"
        )?;
    }
    let enforcer = Enforcer::start(&lab, &policy, RUN)?;
    // What the start has left to do.
    thread::sleep(Duration::from_secs(3));
    let idle = watched(plan, &enforcer)?;
    let stream = Stream::open(&lab)?;
    let streaming = watched(plan, &enforcer)?;
    let (streamed, seconds) = (stream.close(plan.counters)?, plan.watched.as_secs());
    ensure!(streamed as u64 >= seconds, "all counters came {streamed} times in {seconds} s");
    enforcer.stop()?;
    let figures = [("idle", idle), ("streaming them every second", streaming)].map(|(when, (cpu, memory))| {
        let when = format!("the controller with {} counters, {when}", plan.counters);
        [Figure::new(format!("{when}: of a CPU"), cpu * 100.0, "%"), Figure::new(format!("{when}: RSS"), memory, "MB")]
    });
    Ok(figures.into_iter().flatten().collect())
}

/// The share of a CPU that the controller takes, and its resident memory, megabytes.
fn watched(plan: &Plan, enforcer: &Enforcer) -> Result<(f64, f64)> {
    let seconds = || -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", enforcer.pid()))?;
        // Behind its name: utime and stime are the 14th and 15th of all.
        let (_, fields) = stat.rsplit_once(')').context("no process's numbers")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    };
    let (start, before) = (Instant::now(), seconds()?);
    thread::sleep(plan.watched);
    let share = (seconds()? - before) / start.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", enforcer.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok((share, resident.context("no resident memory is told")?.parse::<f64>()? / 1e3))
}

/// A reader of the counters' stream.
struct Stream<'a> {
    lab: &'a Lab,
    curl: Child,
}

impl<'a> Stream<'a> {
    fn open(lab: &'a Lab) -> Result<Self> {
        let curl = Command::new("curl")
            .args(["--silent", "--no-buffer", "--unix-socket"])
            .arg(lab.path("socket"))
            .arg("http://enforcer/v1/counters/stream")
            .stdout(File::create(lab.path("stream"))?)
            .spawn()
            .context("cannot run curl")?;
        Ok(Self { lab, curl })
    }

    /// How often so many counters came.
    fn close(mut self, counters: usize) -> Result<usize> {
        self.curl.kill()?;
        self.curl.wait()?;
        let streamed = fs::read_to_string(self.lab.path("stream"))?;
        let are_whole = |line: &&str| line.starts_with("data:") && line.matches("\"packets\":").count() >= counters;
        Ok(streamed.lines().filter(are_whole).count())
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}
