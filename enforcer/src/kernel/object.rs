//! The loaded object: programs with their maps, sized for one image.

use std::{mem::offset_of, net::IpAddr, os::fd::AsFd as _};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, LpmTrie, Map, lpm_trie::Key},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
    util::nr_cpus,
};
use enforcer_ebpf::abi::{
    BLOCK_WORDS, Block, Bucket, Counter, Keys6, LongKey, NET_BLOCKS, Net, OverflowKey, POLICIES, Root, Words6, dns,
    pseudo,
};

use super::{
    KernelError,
    diagnostics::Diagnostics,
    events::Events,
    hosts::Memory,
    memory::Mapped,
    snoop::{self, Answers, Outcomes},
    take::{Raw, Take},
};
use crate::{
    compile::Image,
    net::image::{NetError, NetImage},
};

/// Blocks of each half of the network's tries.
const NET_HALF: usize = NET_BLOCKS / 2;
/// Own addresses and routes of IPv6 beyond /64.
const PLACES6: u32 = 4096;
/// Heads of fragmented packets remembered.
const FRAGMENTS: u32 = 16_384;
/// Connections from outside remembered.
const REPLIES: u32 = 65_536;
/// Learned addresses whose buckets are full.
const OVERFLOW: usize = 16_384;
/// Bytes of the events' ring buffer, a power of two: seven thousand events.
const EVENTS: u32 = 1 << 20;

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-programs"));

#[cfg(feature = "bench")]
static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-bench"));

/// What the programs log, as aya's log crates number it.
#[derive(Clone, Copy)]
enum Level {
    Off = 0,
    Debug = aya_log::Level::Debug as isize,
}

/// A policy in the kernel: its maps, and programs that are loaded but not attached.
pub struct Object {
    pub(super) ebpf: Ebpf,
    memory: Memory,
    moment_words: [u32; POLICIES],
    counters: Mapped<Counter>,
    /// Counters of one CPU.
    counters_per_cpu: usize,
    epoch: u16,
    net: Mapped<Net>,
    places6: LpmTrie<aya::maps::MapData, Words6, u32>,
    /// Which half of the network blocks the next update may fill.
    spare_half: usize,
    map_bytes: u64,
}

/// What is asked of the programs beside judging.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// That they tell why frames are malformed: each costs time then.
    pub diagnose: bool,
    /// That they hand over these resolvers' answers.
    pub resolvers: &'a [IpAddr],
}

/// What the programs tell beside events.
#[derive(Default)]
pub struct Told {
    /// Why frames are malformed.
    pub diagnostics: Option<Diagnostics>,
    /// Resolvers' answers, and what became of others.
    pub answers: Option<(Answers, Outcomes)>,
}

impl Object {
    /// Creates maps as large as the image needs, fills them, and loads the programs. Nothing is attached, and an error leaves nothing behind.
    ///
    /// # Errors
    /// If the kernel refuses a map, its memory or a program.
    pub fn load(image: &Image, net: &NetImage) -> Result<Self, KernelError> {
        Self::load_bytes(PROGRAMS, image, net, Extras::default())
    }

    /// [`Self::load`] with more than judging.
    ///
    /// # Errors
    /// As [`Self::load`]; if there are too many resolvers.
    pub fn load_with(image: &Image, net: &NetImage, extras: Extras<'_>) -> Result<(Self, Told), KernelError> {
        let mut object = Self::load_bytes(PROGRAMS, image, net, extras)?;
        let mut told = Told::default();
        if extras.diagnose {
            told.diagnostics = Some(Diagnostics::of(&mut object.ebpf)?);
        }
        if !extras.resolvers.is_empty() {
            told.answers = Some(snoop::begin(&mut object.ebpf, extras.resolvers)?);
        }
        Ok((object, told))
    }

    /// [`Self::load`] with the benchmark's object, which has the same maps and more.
    ///
    /// # Errors
    /// As [`Self::load`].
    #[cfg(feature = "bench")]
    pub fn load_bench(image: &Image, net: &NetImage) -> Result<Self, KernelError> {
        Self::load_bytes(BENCH, image, net, Extras::default())
    }

    fn load_bytes(object: &[u8], image: &Image, net: &NetImage, extras: Extras<'_>) -> Result<Self, KernelError> {
        let level = if extras.diagnose { Level::Debug } else { Level::Off };
        // What is not asked for takes next to no memory.
        let snoops = |elements: u32| if extras.resolvers.is_empty() { 1 } else { elements };
        let size = |values: usize| u32::try_from(values).unwrap_or(u32::MAX).max(1);
        let blocks = size(image.blocks.len());
        let hosts4 = size(image.hosts4.len());
        let hosts6 = size(image.hosts6.len());
        // Whole cache lines, so that CPUs share none.
        let counters_per_cpu = size((pseudo::COUNT as usize + image.counters.len()).next_multiple_of(4));
        let cpus = nr_cpus().map_err(|(_, source)| KernelError::Cpus(source))?;
        let counters = size(counters_per_cpu as usize * cpus);
        let mut ebpf = EbpfLoader::new()
            // One line of what is wrong, not the whole program.
            .verifier_log_level(VerifierLogLevel::STATS)
            // Log calls are in the programs, but behind this constant: the verifier removes them.
            .override_global("AYA_LOG_LEVEL", &(level as u8), false)
            .map_max_entries("BLOCKS", blocks)
            .map_max_entries("HOSTS4", hosts4)
            .map_max_entries("HOSTS6", hosts6)
            .map_max_entries("KEYS6", hosts6)
            .map_max_entries("OVERFLOW", size(image.overflow.len() + OVERFLOW))
            .map_max_entries("LONG6", size(image.long6.len()))
            .override_global("COUNTERS_PER_CPU", &counters_per_cpu, true)
            .map_max_entries("COUNTERS", counters)
            .map_max_entries("PLACES6", PLACES6)
            .map_max_entries("FRAGMENTS", FRAGMENTS)
            .map_max_entries("REPLIES", REPLIES)
            .map_max_entries("EVENTS", EVENTS)
            .map_max_entries("RESOLVERS", snoops(dns::RESOLVERS))
            .map_max_entries("QUERIES", snoops(snoop::QUERIES))
            .map_max_entries("ASKERS", snoops(snoop::ASKERS))
            .map_max_entries("ANSWERS", if extras.resolvers.is_empty() { 1 << 12 } else { snoop::ANSWERS })
            .load(object)
            .map_err(KernelError::Load)?;
        let map_bytes = map_bytes(&ebpf);
        // While the object still holds all of its maps, and before anything is attached.
        load_programs(&mut ebpf, !extras.resolvers.is_empty())?;

        let mut mapped = Take(&mut ebpf);
        let mut roots = mapped.array::<Root>("ROOTS", size(image.roots.len()))?;
        roots.fill(&image.roots);
        let mut words = mapped.array::<Block>("BLOCKS", blocks)?;
        words.fill(&image.blocks);
        let [mut v4, mut v6] = [mapped.array::<Bucket>("HOSTS4", hosts4)?, mapped.array::<Bucket>("HOSTS6", hosts6)?];
        v4.fill(&image.hosts4);
        v6.fill(&image.hosts6);
        let mut keys6 = mapped.array::<Keys6>("KEYS6", hosts6)?;
        keys6.fill(&image.keys6);
        let mut overflow: HashMap<_, Raw<OverflowKey>, u32> = mapped.map("OVERFLOW")?;
        for (key, class) in &image.overflow {
            overflow.insert(Raw(*key), class, 0).map_err(|source| KernelError::Map { name: "OVERFLOW", source })?;
        }
        let mut long6: LpmTrie<_, Raw<LongKey>, u32> = mapped.map("LONG6")?;
        for (bits, key, class) in &image.long6 {
            let key = Key::new(32 + bits, Raw(*key));
            long6.insert(&key, class, 0).map_err(|source| KernelError::Map { name: "LONG6", source })?;
        }
        let mut samples: Array<_, u32> = mapped.map("SAMPLES")?;
        for (number, one_in) in image.samplings.iter().enumerate() {
            let stored = samples.set(number as u32, one_in, 0);
            stored.map_err(|source| KernelError::Map { name: "SAMPLES", source })?;
        }
        let counters = mapped.array::<Counter>("COUNTERS", counters)?;
        let net_memory = mapped.array::<Net>("NET", 1)?;

        let places6 = mapped.map("PLACES6")?;
        let counters_per_cpu = counters_per_cpu as usize;
        let mut object = Self {
            ebpf,
            memory: Memory { roots, blocks: words, hosts4: v4, hosts6: v6, keys6, overflow, long6 },
            moment_words: image.moment_words,
            counters,
            counters_per_cpu,
            epoch: 0,
            net: net_memory,
            places6,
            spare_half: 0,
            map_bytes,
        };
        object.update_net(net)?;
        Ok(object)
    }

    /// Follows the gateway's interfaces, addresses and routes: longer prefixes and new blocks first, the blocks in the half that no root cell points
    /// into, then the root cells one by one.
    ///
    /// # Errors
    /// If there are more routes than the tables hold; what was in force stays.
    pub fn update_net(&mut self, net: &NetImage) -> Result<(), KernelError> {
        let first = self.spare_half * NET_HALF;
        let mut root = net.at(first, NET_HALF)?;
        root.epoch = self.epoch.into();
        let refused = |source| KernelError::Map { name: "PLACES6", source };
        let wanted: Vec<(Key<Words6>, u32)> = net
            .long6()
            .map(|(address, length, value)| {
                let words = [96, 64, 32, 0].map(|shift| ((address >> shift) as u32).to_be());
                (Key::new(u32::from(length), words), value)
            })
            .collect();
        // New ones come before old ones go.
        if wanted.len() > PLACES6 as usize / 2 {
            return Err(NetError::TooManyLong(wanted.len(), PLACES6 as usize / 2).into());
        }
        for (key, value) in &wanted {
            self.places6.insert(key, value, 0).map_err(refused)?;
        }
        let half = first * BLOCK_WORDS..(first + NET_HALF) * BLOCK_WORDS;
        self.net.store_changed(offset_of!(Net, words) + half.start * 4, &root.words[half]);
        let roots: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&*root));
        self.net.store_changed(0, &roots[..offset_of!(Net, words) / 4]);
        self.spare_half ^= 1;
        let same = |a: &Key<Words6>, b: &Key<Words6>| a.prefix_len() == b.prefix_len() && a.data() == b.data();
        let present: Vec<_> = self.places6.keys().filter_map(Result::ok).collect();
        for key in present.iter().filter(|key| !wanted.iter().any(|(wanted, _)| same(wanted, key))) {
            self.places6.remove(key).map_err(refused)?;
        }
        Ok(())
    }

    /// Lets the rules of a moment apply, by its number: one store for each policy, so that a packet meets the old moment or the new.
    pub fn set_moment(&self, moment: usize) {
        for (policy, words) in self.moment_words.iter().enumerate() {
            self.memory.set_moment(policy, words * moment as u32);
        }
    }

    /// The tables in which addresses of names are stored.
    pub const fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The same to look at.
    #[must_use]
    pub const fn tables(&self) -> &Memory {
        &self.memory
    }

    /// The epoch by which packets stamp their destination's cell.
    #[must_use]
    pub const fn epoch(&self) -> u16 {
        self.epoch
    }

    /// Begins the next epoch.
    pub fn advance_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.net.store_changed(offset_of!(Net, epoch), &[self.epoch.into()]);
    }

    /// The programs' events, once.
    ///
    /// # Errors
    /// If they were taken before.
    pub fn events(&mut self) -> Result<Events, KernelError> {
        let mut maps = Take(&mut self.ebpf);
        Ok(Events { ring: maps.map("EVENTS")?, lost: maps.map("LOST")? })
    }

    /// Packets and bytes by counter, summed over CPUs; the last few mean nothing.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        let mut sums = vec![Counter::default(); self.counters_per_cpu];
        for index in 0..self.counters.elements() {
            let counter = self.counters.read(index);
            let sum = &mut sums[index % self.counters_per_cpu];
            sum.packets += counter.packets;
            sum.bytes += counter.bytes;
        }
        sums
    }

    /// Kernel memory of the maps as `fdinfo` and `bpftool` show it, bytes.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// Another map of the object, by name, taken out of it.
    ///
    /// # Errors
    /// If there is none.
    pub fn take_map(&mut self, name: &'static str) -> Result<Map, KernelError> {
        Take(&mut self.ebpf).raw(name)
    }

    /// A loaded XDP program.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn xdp(&mut self, program: &'static str) -> Result<&mut Xdp, KernelError> {
        Self::program(&mut self.ebpf, program)
    }

    /// A loaded XDP program, and the tables to store in while it runs.
    ///
    /// # Errors
    /// If there is none of this name.
    #[cfg(feature = "bench")]
    pub fn beside(&mut self, program: &'static str) -> Result<(&mut Xdp, &mut Memory), KernelError> {
        Ok((Self::program(&mut self.ebpf, program)?, &mut self.memory))
    }

    /// A loaded TC program.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn classifier(&mut self, program: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        Self::program(&mut self.ebpf, program)
    }

    fn program<'a, P>(ebpf: &'a mut Ebpf, program: &'static str) -> Result<&'a mut P, KernelError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        ebpf.program_mut(program)
            .ok_or(ProgramError::NotLoaded)
            .and_then(TryInto::try_into)
            .map_err(|source| KernelError::Program { program: program.to_owned(), source })
    }
}

/// Those that snoop only if they are asked for: no kernel need take what is not used.
fn load_programs(ebpf: &mut Ebpf, snoops: bool) -> Result<(), KernelError> {
    for (name, program) in ebpf.programs_mut().filter(|(name, _)| snoops || !snoop::PROGRAMS.contains(name)) {
        let loaded = match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => Ok(()),
        };
        loaded.map_err(|source| KernelError::Program { program: name.to_owned(), source })?;
    }
    Ok(())
}

/// The product's own maps; the benchmark's object has more.
const MAPS: &[&str] = &[
    "ROOTS",
    "BLOCKS",
    "HOSTS4",
    "HOSTS6",
    "KEYS6",
    "OVERFLOW",
    "LONG6",
    "COUNTERS",
    "NET",
    "PLACES6",
    "FRAGMENTS",
    "REPLIES",
    "EVENTS",
    "QUERIES",
    "ASKERS",
    "ANSWERS",
    "MESSAGE",
    "RESOLVERS",
    "OUTCOMES",
];

/// The `memlock` line of each map's `fdinfo`: what the kernel accounts, overhead included.
fn map_bytes(ebpf: &Ebpf) -> u64 {
    let of = |map: &Map| -> Option<u64> {
        let (Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data)
        | Map::PerCpuArray(data)) = map
        else {
            return None;
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&data.fd().as_fd());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
    };
    ebpf.maps().filter(|(name, _)| MAPS.contains(name)).filter_map(|(_, map)| of(map)).sum()
}
