//! A flood through a lab's gateway, made and counted in the kernel.
//!
//! A program that the kernel runs on "live frames" (`BPF_PROG_TEST_RUN`) writes whole frames and redirects them to the client's cable, so that they
//! arrive at the gateway's LAN as from a wire. A batch is sent, and then worked on by the same CPU before the next: the gateway's work, and the far end's,
//! is in the time that sending takes, and nothing waits in queues that could overflow.

use std::{net::Ipv4Addr, sync::Barrier, thread};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    maps::{Array, DevMap, PerCpuArray, PerCpuValues},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode,
        tc::TcAttachOptions,
    },
    util::nr_cpus,
};
use nix::net::if_::if_nametoindex;
use rand::{Rng, RngExt as _};

use super::measure::stay_on;
use crate::lab::{Lab, Namespace};

/// The programs that send and count frames, without the product's maps.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-traffic"));

/// Bytes of a frame, the least on Ethernet but for its checksum.
const FRAME: usize = 64;
/// Frames in the generator's table: a round through it.
pub const ROUND: u32 = 4096;
/// Frames that are sent at a time: a veth's queue has room for four times as many.
pub const BATCH: u32 = 64;

/// CPUs that may send, from the first.
pub const GENERATORS: usize = 2;

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Frames, by the generator's count.
    pub frames: u64,
    /// Frames a second, all CPUs together.
    pub rate: f64,
}

/// Generator and receiver at a lab's ends.
pub struct Traffic {
    ebpf: Ebpf,
    generator: &'static str,
}

impl Traffic {
    /// Readies a lab for TCP to hosts, port 443, from clients all over the LAN.
    pub fn new(lab: &Lab, hosts: &[Ipv4Addr], rng: &mut impl Rng) -> Result<Self> {
        prepare(lab)?;
        let gateway = mac(&lab.gateway, "lan0")?;
        let mut ebpf = Ebpf::load(PROGRAMS)?;
        let mut table: Array<_, [u64; FRAME / 8]> = Array::try_from(ebpf.map_mut("FRAMES").context("no FRAMES")?)?;
        for index in 0..ROUND {
            let host = hosts[index as usize % hosts.len()];
            let words: [u64; FRAME / 8] = bytemuck::pod_read_unaligned(&frame(gateway, host, rng)?);
            table.set(index, words, 0)?;
        }
        let mut traffic = Self { ebpf, generator: "generate" };
        traffic.attach("receive", &lab.internet, "inet0")?;
        traffic.program(traffic.generator)?.load()?;
        // What a device is called, and what its number means, is the namespace's.
        lab.client.enter(|| {
            let mut out = DevMap::try_from(traffic.ebpf.map_mut("OUT").context("no OUT")?)?;
            Ok(out.set(0, if_nametoindex("eth0")?, None, 0)?)
        })?;
        Ok(traffic)
    }

    /// Puts the shortest XDP program there is at the gateway's LAN: `drop_all` or `pass_all`.
    pub fn do_nothing_but(&mut self, program: &str, lab: &Lab) -> Result<()> {
        self.attach(program, &lab.gateway, "lan0")
    }

    /// Puts the shortest TC program there is where packets leave the gateway, too.
    pub fn do_nothing_more(&mut self, lab: &Lab) -> Result<()> {
        let program = self.ebpf.program_mut("pass_out").context("no program pass_out")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        lab.gateway.enter(|| Ok(program.attach_with_options("wan0", TcAttachType::Egress, options).map(drop)?))
    }

    /// From now on, frames are made and sent to nobody.
    pub fn goes_nowhere(&mut self) -> Result<()> {
        self.generator = "generate_alone";
        Ok(self.program(self.generator)?.load()?)
    }

    fn attach(&mut self, program: &str, side: &Namespace, device: &str) -> Result<()> {
        let program = self.program(program)?;
        program.load()?;
        side.enter(|| Ok(program.attach(device, XdpMode::Driver).map(drop)?))
    }

    fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        Ok(self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
    }

    /// Sends as many frames on each of some CPUs at once: whole batches, and at least two rounds through the table.
    pub fn send(&mut self, lab: &Lab, cpus: &[usize], frames: u32) -> Result<Sent> {
        let mut cells: PerCpuArray<_, [u64; 3]> = PerCpuArray::try_from(self.ebpf.map_mut("SENT").context("no SENT")?)?;
        cells.set(0, PerCpuValues::try_from(vec![[0; 3]; nr_cpus().map_err(|(_, error)| error)?])?, 0)?;
        let generator: &Xdp = self.ebpf.program(self.generator).context("no generator")?.try_into()?;
        let barrier = Barrier::new(cpus.len());
        thread::scope(|scope| {
            let send = |&cpu: &usize| {
                let barrier = &barrier;
                scope.spawn(move || {
                    lab.client.enter(|| {
                        let placed = stay_on(cpu);
                        barrier.wait();
                        placed?;
                        generator.test_run(TestRunOptions {
                            data_in: Some(&[0; FRAME]),
                            repeat: frames,
                            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                            ..TestRunOptions::new()
                        })?;
                        Ok(())
                    })
                })
            };
            let threads: Vec<_> = cpus.iter().map(send).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let cells: PerCpuArray<_, [u64; 3]> = PerCpuArray::try_from(self.ebpf.map("SENT").context("no SENT")?)?;
        let mut sent = Sent::default();
        for &[frames, first, last] in cells.get(&0, 0)?.iter().filter(|[frames, ..]| *frames > 0) {
            let timed = (frames - 1) / u64::from(ROUND) * u64::from(ROUND);
            sent.frames += frames;
            sent.rate += timed as f64 / (last.saturating_sub(first) as f64 / 1e9);
        }
        Ok(sent)
    }

    /// Frames that came to the far end so far.
    pub fn received(&self) -> Result<u64> {
        let cells: PerCpuArray<_, u64> = PerCpuArray::try_from(self.ebpf.map("RECEIVED").context("no RECEIVED")?)?;
        Ok(cells.get(&0, 0)?.iter().sum())
    }
}

/// A queue for each CPU on each device, neighbours that need not be asked for, and nobody else who sends anything.
fn prepare(lab: &Lab) -> Result<()> {
    let cpus = thread::available_parallelism()?;
    for (side, device) in
        [(&lab.client, "eth0"), (&lab.gateway, "lan0"), (&lab.gateway, "wan0"), (&lab.internet, "inet0")]
    {
        side.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")?;
        side.run(&format!("ethtool -L {device} rx {cpus} tx {cpus}"))?;
    }
    // What a generating CPU forwards stays on it.
    let queues: String = (0..cpus.get().min(GENERATORS))
        .map(|cpu| format!("echo {:x} > /sys/class/net/wan0/queues/tx-{cpu}/xps_cpus\n", 1 << cpu))
        .collect();
    lab.gateway.run(&format!("sh -e {}", lab.file("queues.sh", &queues)?.display()))?;
    let far = mac(&lab.internet, "inet0")?.map(|byte| format!("{byte:02x}")).join(":");
    lab.gateway.run(&format!("ip neigh replace 198.51.100.2 lladdr {far} dev wan0 nud permanent"))
}

/// A TCP SYN of a random client's to port 443.
fn frame(gateway: [u8; 6], host: Ipv4Addr, rng: &mut impl Rng) -> Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(FRAME);
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], gateway)
        .ipv4([10, 1, 0, rng.random_range(2..255)], host.octets(), 64)
        .tcp(rng.random_range(1024..=u16::MAX), 443, rng.random(), 65_535)
        .syn()
        .write(&mut frame, &[0; 10])?;
    ensure!(frame.len() == FRAME, "a frame has {} bytes, not {FRAME}", frame.len());
    Ok(frame)
}

fn mac(side: &Namespace, device: &str) -> Result<[u8; 6]> {
    let text = side.output(&format!("cat /sys/class/net/{device}/address"))?;
    let bytes: Vec<u8> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().with_context(|| format!("{device} has no Ethernet address, but {text}"))
}
