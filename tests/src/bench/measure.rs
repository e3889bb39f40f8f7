//! Nanoseconds per packet by `BPF_PROG_TEST_RUN`, side by side.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use aya::{
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunOptions, XdpMode},
};
use enforcer::{
    compile::{self, Limits, Live},
    kernel::{memory::Mapped, object::Object},
    net::{
        Facts, NetImage,
        facts::{Address, Interface, Route},
        image::{Roles, Words},
    },
    policy::Policy,
};
use enforcer_ebpf::abi::Block;

use crate::lab::Namespace;

/// The timed programs: the product's lookups with their maps, and the kernel's own structures.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-bench"));

/// How programs are run in turn, so that the machine's moods hit all alike.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds; each runs every program once.
    pub rounds: usize,
    /// Milliseconds that a program runs before its sample.
    pub warm_ms: f64,
    /// Milliseconds of a sample.
    pub sample_ms: f64,
}

impl Pace {
    /// For tables that fit a CPU's own cache. Many short rounds: what disturbs lasts longer than a sample.
    pub const SMALL: Self = Self { rounds: 301, warm_ms: 0.0, sample_ms: 2.0 };
    /// For tables beyond it. Each program has put the others' out of the shared cache, and must have been through its own to be timed as it runs by itself.
    pub const LARGE: Self = Self { rounds: 11, warm_ms: 100.0, sample_ms: 50.0 };

    /// By prefixes or hosts.
    #[must_use]
    pub const fn of(size: usize) -> Self {
        if size < 100_000 { Self::SMALL } else { Self::LARGE }
    }
}

/// Namespaces made so far, for their names.
static NAMESPACES: AtomicU32 = AtomicU32::new(0);
/// Words of destinations that a benchmark program reads one after another.
const TARGET_WORDS: usize = 1 << 20;

/// A policy loaded with the benchmark's programs, and what loading took.
pub struct Bench {
    object: Object,
    live: Vec<Live>,
    targets: Mapped<Block>,
    cursor: Array<MapData, [u64; 2]>,
    /// Policy to tables.
    pub compile: Duration,
    /// Tables to kernel.
    pub load: Duration,
    /// Kernel memory of the product's maps.
    pub map_bytes: u64,
    pace: Pace,
    namespace: Namespace,
    held: BTreeSet<&'static str>,
}

/// A client's LAN on the interface that test runs come from: loopback, number 1.
pub fn lab_net(words: Words) -> Result<NetImage> {
    let address = |net: &str| -> Result<Address> {
        let net: ipnet::IpNet = net.parse()?;
        let broadcast = net.addr().is_ipv4().then(|| net.broadcast());
        Ok(Address { interface: 1, own: net.addr(), net: net.trunc(), broadcast, advertised: false })
    };
    let facts = Facts {
        interfaces: vec![Interface { index: 1, name: "lo".into(), ..Interface::default() }],
        addresses: vec![address("10.1.0.1/24")?, address("fd00:1::1/64")?],
        routes: vec![
            Route { to: "10.1.0.0/24".parse()?, interface: Some(1), metric: 0 },
            Route { to: "fd00:1::/64".parse()?, interface: Some(1), metric: 256 },
        ],
        own: Vec::new(),
    };
    Ok(NetImage::new(&facts, &Roles { lans: vec![1], wans: Vec::new() }, words)?)
}

impl Bench {
    /// Compiles and loads.
    pub fn new(policy: &Policy, pace: Pace) -> Result<Self> {
        let start = Instant::now();
        let mut image = compile::compile(policy, &Limits::default(), 0x9e37_79b9)?;
        let compile = start.elapsed();
        let net = lab_net(image.words)?;
        let start = Instant::now();
        let object = Object::load_other(PROGRAMS, &image, &net)?;
        let load = start.elapsed();
        let cursor = object.take_map("CURSOR")?.try_into()?;
        let targets = Mapped::new(object.take_map("TARGETS")?, "TARGETS", (TARGET_WORDS / 256) as u32)?;
        let map_bytes = object.map_bytes();
        let live = std::mem::take(&mut image.live);
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::new(&format!("enforcer-bench-{}-{number}", std::process::id()))?;
        Ok(Self { object, live, targets, cursor, compile, load, map_bytes, pace, namespace, held: BTreeSet::new() })
    }

    /// The kernel's own structures, to be filled for comparison.
    pub fn take_map<M: TryFrom<aya::maps::Map, Error = aya::maps::MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<M> {
        Ok(self.object.take_map(name)?.try_into()?)
    }

    /// The destinations of the packets, used in turn.
    pub fn aim(&mut self, mut next: impl FnMut() -> IpAddr) {
        let mut words: Vec<u32> = Vec::with_capacity(TARGET_WORDS);
        while words.len() < TARGET_WORDS {
            match next() {
                IpAddr::V4(address) => words.push(u32::from(address).to_be()),
                IpAddr::V6(address) => {
                    let bits = u128::from(address);
                    words.extend([96, 64, 32, 0].map(|shift| ((bits >> shift) as u32).to_be()));
                }
            }
        }
        self.targets.fill(bytemuck::cast_slice(&words));
    }

    /// Nanoseconds per run of each further program above the first one, with what it returned. They are compared round by round; the median of the
    /// differences counts.
    pub fn time(&mut self, floor: &'static str, programs: &[&'static str], frame: &[u8]) -> Result<Vec<(f64, u32)>> {
        let all: Vec<&'static str> = [floor].into_iter().chain(programs.iter().copied()).collect();
        let repeats = self.all_repeats(&all, frame)?;
        let mut above = vec![Vec::with_capacity(self.pace.rounds); programs.len()];
        let mut returned = vec![0; programs.len()];
        for _ in 0..self.pace.rounds {
            for (index, (nanoseconds, value)) in self.round(&all, &repeats, frame)?.into_iter().enumerate() {
                above[index].push(nanoseconds);
                returned[index] = value;
            }
        }
        Ok(above.into_iter().map(median).zip(returned).collect())
    }

    /// Nanoseconds of the whole verdict above the floor, for several policies of one pace in turn, each with packets of IPv6 or of IPv4.
    ///
    /// # Errors
    /// If the kernel refuses, or a verdict is not the expected one.
    pub fn time_in_turn(benches: &mut [(Self, bool)], expected: u32) -> Result<Vec<f64>> {
        let mut parts = Vec::with_capacity(benches.len());
        for (bench, v6) in benches.iter_mut() {
            let (programs, frame) = (programs(*v6), frame(*v6)?);
            let repeats = bench.all_repeats(&programs, &frame)?;
            parts.push((programs, frame, repeats));
        }
        let mut above = vec![Vec::new(); benches.len()];
        for _ in 0..benches.first().map_or(0, |(bench, _)| bench.pace.rounds) {
            for (((bench, _), (programs, frame, repeats)), samples) in benches.iter_mut().zip(&parts).zip(&mut above) {
                for (nanoseconds, returned) in bench.round(programs, repeats, frame)? {
                    ensure!(returned == expected, "a program returned {returned}, not {expected}");
                    samples.push(nanoseconds);
                }
            }
        }
        Ok(above.into_iter().map(median).collect())
    }

    /// Nanoseconds of each further program above the first one, and what it returned.
    fn round(&mut self, programs: &[&'static str], repeats: &[u32], frame: &[u8]) -> Result<Vec<(f64, u32)>> {
        let mut samples = Vec::with_capacity(programs.len());
        for (&program, &repeat) in programs.iter().zip(repeats) {
            let warm = f64::from(repeat) * self.pace.warm_ms / self.pace.sample_ms;
            if warm >= 1.0 {
                self.sample(program, frame, warm as u32)?;
            }
            samples.push(self.sample(program, frame, repeat)?);
        }
        let (floor, _) = samples.remove(0);
        Ok(samples.into_iter().map(|(nanoseconds, returned)| (nanoseconds - floor, returned)).collect())
    }

    fn all_repeats(&mut self, programs: &[&'static str], frame: &[u8]) -> Result<Vec<u32>> {
        programs.iter().map(|program| self.repeats(program, frame, self.pace.sample_ms)).collect()
    }

    /// How many runs of a program make a sample of so many milliseconds; its caches are warm then.
    pub fn repeats(&mut self, program: &'static str, frame: &[u8], sample_ms: f64) -> Result<u32> {
        self.cursor.set(0, [0, addresses(frame)], 0)?;
        let (nanoseconds, _) = self.sample(program, frame, 200_000)?;
        Ok((sample_ms * 1e6 / nanoseconds) as u32)
    }

    /// What is loaded, and what its class tables grow by.
    pub fn parts(&mut self) -> (&mut Object, &mut [Live]) {
        (&mut self.object, &mut self.live)
    }

    /// Nanoseconds per run by the clock on the wall: the kernel's own figure is cut to whole ones.
    fn sample(&mut self, program: &'static str, frame: &[u8], repeat: u32) -> Result<(f64, u32)> {
        self.hold(program)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let program = self.object.xdp(program)?;
        let start = Instant::now();
        let result = program.test_run(options)?;
        Ok((start.elapsed().as_secs_f64() * 1e9 / f64::from(repeat), result.return_value))
    }

    /// Attaches a program where no packets are. One that is attached nowhere is made known to the kernel's XDP dispatcher for each test run, and
    /// forgotten behind it: two grace periods, milliseconds that vary; else a call takes two microseconds.
    fn hold(&mut self, program: &'static str) -> Result<()> {
        if !self.held.insert(program) {
            return Ok(());
        }
        let number = self.held.len();
        self.namespace.run(&format!("ip link add b{number} type veth peer name c{number}"))?;
        let program = self.object.xdp(program)?;
        // The object keeps the link.
        self.namespace.enter(|| Ok(program.attach(&format!("b{number}"), XdpMode::Driver).map(drop)?))
    }
}

/// The middle one.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// From the first quarter's end to the last one's beginning.
pub fn interquartile_range(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() * 3 / 4] - samples[samples.len() / 4]
}

/// Stays on one CPU: moving costs caches, and per-CPU counters.
pub fn stay_on_this_cpu() -> Result<()> {
    // SAFETY: a call without arguments.
    stay_on(usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0))
}

/// Lets this thread run on one CPU alone.
pub fn stay_on(cpu: usize) -> Result<()> {
    // SAFETY: plain data, for which zero bytes are an empty set; the calls only read it.
    let refused = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) != 0
    };
    ensure!(!refused, "cannot run on CPU {cpu} alone: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Lets this thread run on every CPU but the one it is on, where the packets are; on all, if there is no other.
pub fn leave_this_cpu() {
    // SAFETY: plain data, for which zero bytes are an empty set; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let own = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| *cpu != own).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

/// Bytes from a frame's start to its addresses.
fn addresses(frame: &[u8]) -> u64 {
    match [frame[12], frame[13]] {
        [0x86, 0xdd] => 14 + 8,
        [0x81, 0x00] => 14 + 4 + 12,
        _ => 14 + 12,
    }
}

/// The programs that draw addresses alone, and that judge packets to them.
#[must_use]
pub const fn programs(v6: bool) -> [&'static str; 2] {
    if v6 { ["rewrite6", "judge6"] } else { ["rewrite4", "judge4"] }
}

/// A TCP SYN of a client's to port 443; the benchmark's programs write addresses into it.
pub fn frame(v6: bool) -> Result<Vec<u8>> {
    let link = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut frame = Vec::new();
    if v6 {
        let (mut from, mut to) = ([0; 16], [0; 16]);
        from[..4].copy_from_slice(&[0xfd, 0, 0, 1]);
        from[15] = 2;
        to[..4].copy_from_slice(&[0x26, 0x20, 1, 0x49]);
        link.ipv6(from, to, 64).tcp(50_000, 443, 1, 65_535).syn().write(&mut frame, &[])?;
    } else {
        link.ipv4([10, 1, 0, 2], [17, 0, 0, 1], 64).tcp(50_000, 443, 1, 65_535).syn().write(&mut frame, &[0; 10])?;
    }
    Ok(frame)
}
