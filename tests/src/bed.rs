//! The kernel's programs, loaded once and then put under one policy after another: the verifier takes a second, new tables take milliseconds.

use std::{mem::offset_of, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{HashMap, LpmTrie, Map, MapData, MapInfo, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions},
};
use bytemuck::Zeroable as _;
use enforcer::{
    catalog::Catalogs,
    clients::Admissions,
    compile::{self, Addresses, Counted, Image, Limits},
    kernel::{memory::Mapped, object::Object},
    moments::Moments,
    policy::{Policy, RuleId, ServiceId},
};
use enforcer_ebpf::abi::{
    Block, Bucket, Counter, Flow, FlowKey, FragmentHead, FragmentKey, Keys6, LongKey, Net, OverflowKey, PolicyId, Root,
    pseudo,
};
use jiff::Timestamp;

use crate::{
    bench::measure::lab_net,
    oracle::{Hook, LanProgram},
};

/// Blocks, host buckets, long prefixes: far more than random policies need.
const ROOM: usize = 4096;
/// Addresses of names, likewise: two in a bucket.
const LEARNED: usize = 2 * ROOM;
/// Counters of rules, likewise.
const CLAUSES: usize = 500;

/// ABI values as aya takes them.
type Raw<const N: usize> = [u8; N];

/// The loaded programs with their maps.
pub struct Bed {
    object: Object,
    roots: Mapped<Root>,
    blocks: Mapped<Block>,
    hosts4: Mapped<Bucket>,
    hosts6: Mapped<Bucket>,
    keys6: Mapped<Keys6>,
    net: Mapped<Net>,
    counters: Mapped<Counter>,
    overflow: HashMap<MapData, Raw<{ size_of::<OverflowKey>() }>, u32>,
    long6: LpmTrie<MapData, Raw<{ size_of::<LongKey>() }>, u32>,
    fragments: HashMap<MapData, Raw<{ size_of::<FragmentKey>() }>, Raw<{ size_of::<FragmentHead>() }>>,
    replies: HashMap<MapData, Raw<{ size_of::<FlowKey>() }>, Raw<{ size_of::<Flow>() }>>,
    /// What the counters in use are called.
    names: Vec<String>,
}

impl Bed {
    /// Loads the programs with room for any random policy; what they judge by is the policy of one word, `drop`.
    pub fn new() -> Result<Self> {
        let mut image = compile::compile(&Policy::default(), &Limits::default(), 0)?;
        image.blocks.resize(ROOM, Block::zeroed());
        image.hosts4.resize(ROOM, Bucket::zeroed());
        image.hosts6.resize(ROOM, Bucket::zeroed());
        image.keys6.resize(ROOM, Keys6::zeroed());
        image.counters.resize(CLAUSES, (PolicyId::Lan, Counted { rule: RuleId(0), service: None }));
        image.overflow = (0..ROOM as u32).map(|space| (OverflowKey { space, address: [0; 4] }, 0)).collect();
        image.long6 = (0..ROOM as u128)
            .map(|number| (128, LongKey { space: [0; 4], address: number.to_be_bytes() }, 0))
            .collect();
        let mut object = Object::load(&image, &lab_net(image.words)?)?;
        let ids = object.xdp("lan_xdp")?.info()?.map_ids()?.context("the kernel does not tell a program's maps")?;
        let map = |name: &str| -> Result<MapData> {
            let named = |id: &&u32| MapInfo::from_id(**id).is_ok_and(|info| info.name_as_str() == Some(name));
            let id = ids.iter().find(named).with_context(|| format!("lan_xdp has no map {name}"))?;
            Ok(MapData::from_id(*id)?)
        };
        let counters = object.counters().sums().len() * aya::util::nr_cpus().map_err(|(_, error)| error)?;
        Ok(Self {
            roots: Mapped::roots(Map::Array(map("NET")?))?,
            blocks: Mapped::new(Map::Array(map("BLOCKS")?), "BLOCKS", ROOM as u32)?,
            hosts4: Mapped::new(Map::Array(map("HOSTS4")?), "HOSTS4", ROOM as u32)?,
            hosts6: Mapped::new(Map::Array(map("HOSTS6")?), "HOSTS6", ROOM as u32)?,
            keys6: Mapped::new(Map::Array(map("KEYS6")?), "KEYS6", ROOM as u32)?,
            net: Mapped::new(Map::Array(map("NET")?), "NET", 1)?,
            counters: Mapped::new(Map::Array(map("COUNTERS")?), "COUNTERS", counters as u32)?,
            overflow: Map::HashMap(map("OVERFLOW")?).try_into()?,
            long6: Map::LpmTrie(map("LONG6")?).try_into()?,
            fragments: Map::LruHashMap(map("FRAGMENTS")?).try_into()?,
            replies: Map::LruHashMap(map("REPLIES")?).try_into()?,
            names: Vec::new(),
            object,
        })
    }

    /// Puts a policy in force as it is in an hour of the day, UTC, and forgets what happened under the one before.
    pub fn enforce(&mut self, text: &str, hour: u32, seed: u32) -> Result<()> {
        let policy = Policy::parse("random", text, &Catalogs::default())?;
        let mut image = compile::compile(&policy, &Limits::default(), seed)?;
        let moments = Moments::of(&policy).map_err(|count| anyhow::anyhow!("{count} moments"))?;
        image.set_moment(moments.at(Timestamp::from_second(i64::from(hour) * 3600 + 1800)?));
        self.fill(&policy, &image)
    }

    /// The same for a policy whose first service has a name, with these addresses of it, live or draining. How many found no room in their buckets, by family.
    pub fn enforce_name(&mut self, text: &str, addresses: &[IpAddr], draining: bool) -> Result<[usize; 2]> {
        let policy = Policy::parse("names", text, &Catalogs::default())?;
        let mut image = compile::compile(&policy, &Limits { learned: LEARNED, ..Limits::default() }, 1)?;
        let mut live = std::mem::take(&mut image.live);
        let mut known = Addresses::new(&[]);
        for &address in addresses {
            let stored = known.set(&mut image, &mut live, address, &[ServiceId(0)], draining, 0);
            stored.ok().with_context(|| format!("there is no room for {address}"))?;
        }
        self.fill(&policy, &image)?;
        let full = |v6| image.overflow.iter().filter(|(key, _)| (key.space >= 4) == v6).count();
        Ok([full(false), full(true)])
    }

    fn fill(&mut self, policy: &Policy, image: &Image) -> Result<()> {
        ensure!(
            image.blocks.len() <= ROOM
                && image.counters.len() <= CLAUSES
                && image.hosts4.len().max(image.hosts6.len()) <= ROOM,
            "the policy has no room in the tables of test runs\n{policy}"
        );
        self.roots.fill(&image.roots);
        self.blocks.fill(&image.blocks);
        self.hosts4.fill(&image.hosts4);
        self.hosts6.fill(&image.hosts6);
        self.keys6.fill(&image.keys6);
        self.counters.fill(&vec![Counter::default(); self.counters.elements()]);
        for key in self.overflow.keys().collect::<Result<Vec<_>, _>>()? {
            self.overflow.remove(&key)?;
        }
        for (key, class) in &image.overflow {
            self.overflow.insert(bytemuck::cast::<_, Raw<_>>(*key), class, 0)?;
        }
        for key in self.long6.keys().collect::<Result<Vec<_>, _>>()? {
            self.long6.remove(&key)?;
        }
        for (bits, key, class) in &image.long6 {
            self.long6.insert(&Key::new(32 + bits, bytemuck::cast(*key)), class, 0)?;
        }
        for key in self.fragments.keys().collect::<Result<Vec<_>, _>>()? {
            self.fragments.remove(&key)?;
        }
        for key in self.replies.keys().collect::<Result<Vec<_>, _>>()? {
            self.replies.remove(&key)?;
        }
        self.object.update_net(&lab_net(image.words)?)?;
        self.names = names(policy, image);
        Ok(())
    }

    /// Admits clients in the place of those before, some of whose time is over already.
    pub fn admit(&mut self, clients: impl IntoIterator<Item = (String, bool)>) -> Result<()> {
        let (past, future) = (1, u64::MAX);
        let mut admissions = Admissions::default();
        for (client, lasts) in clients {
            admissions.admit(client.parse()?, if lasts { future } else { past })?;
        }
        let admitted = self.object.admitted();
        for (client, _) in admitted.all()? {
            admitted.set(client, None)?;
        }
        for (client, _) in admissions.iter() {
            admitted.set(client, admissions.lasts(client))?;
        }
        Ok(())
    }

    /// Whether a frame passes at a hook.
    pub fn passes(&mut self, hook: Hook, frame: &[u8]) -> Result<bool> {
        const XDP_PASS: u32 = 2;
        /// `__sk_buff` up to `ingress_ifindex`, which says that the packet came in by another interface than the LAN.
        const FROM_WAN: [u32; 10] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let object = &mut self.object;
        let tc = match hook {
            Hook::Lan(program @ (LanProgram::Xdp | LanProgram::XdpFrags)) => {
                let name = if program == LanProgram::Xdp { "lan_xdp" } else { "lan_xdp_frags" };
                return Ok(object.xdp(name)?.test_run(options)?.return_value == XDP_PASS);
            }
            Hook::Lan(LanProgram::Tc) => "lan_ingress",
            Hook::Router => "wan_egress",
            Hook::Outside => "wan_ingress",
            Hook::Forwarded => {
                options.ctx_in = Some(bytemuck::bytes_of(&FROM_WAN));
                "lan_egress"
            }
        };
        // TC_ACT_UNSPEC: to whatever else is attached there.
        Ok(object.classifier(tc)?.test_run(options)?.return_value == u32::MAX)
    }

    /// The cells of the IPv4 and IPv6 hosts in force.
    pub fn hosts(&self) -> Vec<u64> {
        let cells = |table: &Mapped<Bucket>| (0..table.elements()).flat_map(|at| table.read(at).0).collect::<Vec<_>>();
        [cells(&self.hosts4), cells(&self.hosts6)].concat().into_iter().filter(|cell| *cell != 0).collect()
    }

    /// Begins another epoch.
    pub fn begin_epoch(&self, epoch: u32) {
        self.net.store_changed(offset_of!(Net, epoch), &[epoch]);
    }

    /// What has been counted under the policy in force, by the names that the oracle uses.
    pub fn counted(&self) -> impl Iterator<Item = (&str, u64)> {
        let packets = self.object.counters().sums().into_iter().map(|counter| counter.packets);
        self.names.iter().map(String::as_str).zip(packets)
    }
}

fn names(policy: &Policy, image: &Image) -> Vec<String> {
    let rules = image.counters.iter().map(|(id, counted)| {
        let rules = match id {
            PolicyId::Lan => &policy.lan,
            PolicyId::Router => &policy.router,
            PolicyId::Inbound => &policy.inbound,
        };
        let service = counted.service.map_or("any", |service| &policy.services[service.0 as usize].name);
        format!("{}/{service}", rules.rules[counted.rule.0 as usize].label())
    });
    pseudo::NAMES.iter().map(|&name| name.to_owned()).chain(rules).collect()
}
