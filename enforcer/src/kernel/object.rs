//! The loaded object: programs with their maps, sized for one image.

use std::{net::IpAddr, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, LpmTrie, Map, lpm_trie::Key},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
    util::nr_cpus,
};
use enforcer_ebpf::abi::{Block, Bucket, Counter, Keys6, LongKey, Net, OverflowKey, POLICIES, dns, pseudo};

use super::{
    KernelError,
    admitted::Admitted,
    counters::{COUNTERS, Counters, IDENTITIES},
    diagnostics::Diagnostics,
    events::{Events, Lost},
    hosts::Memory,
    load,
    memory::Mapped,
    pins::Pins,
    places::{PLACES6, Places},
    shared,
    snoop::{self, Answers, Outcomes},
    take::{Raw, Take},
};
use crate::{compile::Image, net::image::NetImage};

/// Learned addresses whose buckets are full.
const OVERFLOW: usize = 16_384;
/// Bytes of the events' ring buffer, a power of two: seven thousand events.
const EVENTS: u32 = 1 << 20;

static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/enforcer-programs"));

/// What the programs log, as aya's log crates number it.
#[derive(Clone, Copy)]
enum Level {
    Off = 0,
    Debug = aya_log::Level::Debug as isize,
}

/// A policy in the kernel: its maps, and programs that are not attached. Those are loaded that it was loaded with, and any other when it is asked for.
pub struct Object {
    pub(super) ebpf: Ebpf,
    memory: Memory,
    moment_words: [u32; POLICIES],
    counters: Counters,
    places: Places,
    admitted: Admitted,
    map_bytes: u64,
    /// The set that it is pinned as, if it is.
    set: u32,
    /// Where that is.
    pinned: Option<PathBuf>,
}

/// What is asked of the programs beside judging.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Programs that are about to be attached, which are verified at once.
    pub programs: &'a [&'static str],
    /// Where maps and programs outlive this process. Without, all go with it.
    pub pins: Option<&'a Pins>,
    /// What each counter counts, as a hash; the pseudo rules' come first.
    pub identities: &'a [u64],
    /// That they tell why frames are malformed: each costs time then. All programs are loaded at once, as who reads their
    /// messages takes the map of these along.
    pub diagnose: bool,
    /// That they hand over these resolvers' answers.
    pub resolvers: &'a [IpAddr],
}

/// What the programs tell.
pub struct Told {
    /// Of single packets.
    pub events: Events,
    /// Why frames are malformed.
    pub diagnostics: Option<Diagnostics>,
    /// Resolvers' answers, and what became of others.
    pub answers: Option<(Answers, Outcomes)>,
}

impl Told {
    fn of(ebpf: &mut Ebpf, extras: Extras<'_>) -> Result<Self, KernelError> {
        let diagnostics = extras.diagnose.then(|| Diagnostics::of(ebpf)).transpose()?;
        let snoops = !extras.resolvers.is_empty();
        let answers = snoops.then(|| snoop::begin(ebpf, extras.resolvers)).transpose()?;
        let maps = Take(ebpf);
        let lost = Lost { budgets: maps.map("BUDGETS")?, full: maps.map("LOST")? };
        Ok(Self { events: Events { ring: maps.map("EVENTS")?, lost }, diagnostics, answers })
    }
}

impl Object {
    /// Creates maps as large as the image needs, and fills them. Nothing is attached, and an error leaves nothing behind.
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
        let told = Told::of(&mut object.ebpf, extras);
        match (told, extras.pins) {
            (Err(error), Some(pins)) => {
                pins.forget(object.set);
                Err(error)
            }
            (told, _) => Ok((object, told?)),
        }
    }

    /// Does what [`Self::load`] does with another ELF object, which must have the product's maps and may have more.
    ///
    /// # Errors
    /// As [`Self::load`]; if the object lacks a map.
    pub fn load_other(object: &[u8], image: &Image, net: &NetImage) -> Result<Self, KernelError> {
        Self::load_bytes(object, image, net, Extras::default())
    }

    fn load_bytes(object: &[u8], image: &Image, net: &NetImage, extras: Extras<'_>) -> Result<Self, KernelError> {
        let Some(pins) = extras.pins else { return Self::load_set(object, image, net, extras, 0) };
        let set = pins.new_set()?;
        Self::load_set(object, image, net, extras, set).inspect_err(|_| pins.forget(set))
    }

    /// Loads what a set is made of, and pins it if it is to be.
    fn load_set(
        object: &[u8],
        image: &Image,
        net: &NetImage,
        extras: Extras<'_>,
        set: u32,
    ) -> Result<Self, KernelError> {
        let level = if extras.diagnose { Level::Debug } else { Level::Off };
        let snoops = !extras.resolvers.is_empty();
        let shapes = shared::shapes(snoops);
        let size = |values: usize| u32::try_from(values).unwrap_or(u32::MAX).max(1);
        let blocks = size(image.blocks.len());
        let hosts4 = size(image.hosts4.len());
        let hosts6 = size(image.hosts6.len());
        // Whole cache lines, so that CPUs share none.
        let counters_per_cpu = size((pseudo::COUNT as usize + image.counters.len()).next_multiple_of(4));
        let cpus = nr_cpus().map_err(|(_, source)| KernelError::Cpus(source))?;
        // And those that are carried over.
        let counters = size(counters_per_cpu as usize * (cpus + 1));
        let mut loader = EbpfLoader::new();
        for shape in &shapes {
            loader.map_max_entries(shape.name, shape.elements);
            if let Some(pins) = extras.pins {
                loader.map_pin_path(shape.name, pins.state().join(shape.name));
            }
        }
        let mut ebpf = loader
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
            .map_max_entries(COUNTERS, counters)
            .map_max_entries(IDENTITIES, counters_per_cpu)
            .map_max_entries("PLACES6", PLACES6)
            .map_max_entries("EVENTS", EVENTS)
            .map_max_entries("RESOLVERS", if snoops { dns::RESOLVERS } else { 1 })
            .load(object)
            .map_err(KernelError::Load)?;
        let map_bytes = load::map_bytes(&ebpf);
        // Before anything is attached.
        load::programs(&mut ebpf, |name| extras.diagnose || extras.programs.contains(&name))?;
        let pinned = extras.pins.map(|pins| pins.set(set));
        if let Some(folder) = &pinned {
            load::pin_maps(&ebpf, folder)?;
            ebpf.programs_mut().try_for_each(|(name, program)| load::pin_program(name, program, folder))?;
        }

        let mapped = Take(&ebpf);
        let mut roots = Mapped::roots(mapped.raw("NET")?)?;
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
        let mut identities = mapped.array::<u64>(IDENTITIES, counters_per_cpu)?;
        identities.fill(extras.identities);
        let counters = Counters::new(mapped.array::<Counter>(COUNTERS, counters)?, identities);
        let mut places = Places {
            net: mapped.array::<Net>("NET", 1)?,
            places6: mapped.map("PLACES6")?,
            spare_half: 0,
            generation: set,
            epoch: 0,
        };
        places.update(net)?;
        let admitted = Admitted::of(&ebpf)?;
        let memory = Memory { roots, blocks: words, hosts4: v4, hosts6: v6, keys6, overflow, long6 };
        Ok(Self { ebpf, memory, moment_words: image.moment_words, counters, places, admitted, map_bytes, set, pinned })
    }

    /// Follows the gateway's interfaces, addresses and routes.
    ///
    /// # Errors
    /// If there are more routes than the tables hold; what was in force stays.
    pub fn update_net(&mut self, net: &NetImage) -> Result<(), KernelError> {
        self.places.update(net)
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

    /// Who the portal has admitted.
    pub const fn admitted(&mut self) -> &mut Admitted {
        &mut self.admitted
    }

    /// The epoch by which packets stamp their destination's cell.
    #[must_use]
    pub const fn epoch(&self) -> u16 {
        self.places.epoch
    }

    /// Begins an epoch: the next one, or the one that another set is in.
    pub fn set_epoch(&mut self, epoch: u16) {
        self.places.set_epoch(epoch);
    }

    /// The number of the set that it is pinned as.
    #[must_use]
    pub const fn set(&self) -> u32 {
        self.set
    }

    /// What packets were counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// These alone, when nothing else of it is needed any more.
    #[must_use]
    pub fn into_counters(self) -> Counters {
        self.counters
    }

    /// Kernel memory of the maps as `fdinfo` and `bpftool` show it, bytes.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// Another map of the object, by name.
    ///
    /// # Errors
    /// If there is none.
    pub fn take_map(&self, name: &'static str) -> Result<Map, KernelError> {
        Take(&self.ebpf).raw(name)
    }

    /// Whether a program is loaded.
    #[must_use]
    pub fn has_loaded(&self, program: &str) -> bool {
        self.ebpf.program(program).is_some_and(|program| program.fd().is_ok())
    }

    /// Loads programs, unless they are.
    ///
    /// # Errors
    /// If the kernel refuses one.
    pub fn load_programs(&mut self, names: &[&'static str]) -> Result<(), KernelError> {
        names.iter().try_for_each(|name| self.load_program(name))
    }

    /// An XDP program.
    ///
    /// # Errors
    /// If there is none of this name, or the kernel refuses it.
    pub fn xdp(&mut self, program: &'static str) -> Result<&mut Xdp, KernelError> {
        self.load_program(program)?;
        Self::program(&mut self.ebpf, program)
    }

    /// An XDP program, and the tables to store in while it runs.
    ///
    /// # Errors
    /// As [`Self::xdp`].
    pub fn beside(&mut self, program: &'static str) -> Result<(&mut Xdp, &mut Memory), KernelError> {
        self.load_program(program)?;
        Ok((Self::program(&mut self.ebpf, program)?, &mut self.memory))
    }

    /// A TC program.
    ///
    /// # Errors
    /// As [`Self::xdp`].
    pub fn classifier(&mut self, program: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        self.load_program(program)?;
        Self::program(&mut self.ebpf, program)
    }

    /// Loads a program, unless it is.
    fn load_program(&mut self, name: &'static str) -> Result<(), KernelError> {
        if self.has_loaded(name) {
            return Ok(());
        }
        let Some(program) = self.ebpf.program_mut(name) else { return Ok(()) };
        load::program(name, program)?;
        let pinned = self.pinned.as_ref().map_or(Ok(()), |folder| load::pin_program(name, program, folder));
        // What is not pinned is not there: the next one who asks for it is to hear of that, too.
        pinned.inspect_err(|_| load::unload(program))
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
