//! The controller: a policy in force until it is told to stop.

mod disk;
mod dns;
mod hooks;
mod learning;
mod record;
mod snoop;
mod source;
mod tables;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_ebpf::abi::{self, PolicyId};
use jiff::Timestamp;
use nix::unistd::Gid;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    time,
};

use crate::{
    api::{
        server::Server as Api,
        source::Source,
        types::{Reloads, RuleCounter, Status},
    },
    compile::{self, Image, Limits},
    dns::{
        DnsPolicy,
        forwarder::{
            Forwarder,
            upstream::{Server, Upstreams},
        },
    },
    events::{self, Names},
    kernel::{
        attach::XdpMode,
        events::Events,
        object::{Extras, Object, Told},
    },
    moments::Moments,
    net::{
        self, Facts, NetImage,
        image::{NetError, Roles, Words},
        watch as netlink,
    },
    policy::{Dns, Policy, ScheduleId, words},
};
use dns::Asking;
use hooks::Hooks;
use learning::Learning;
use record::Record;
use snoop::Snooping;

/// What `enforcer run` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interfaces that clients are behind.
    pub lans: Vec<String>,
    /// Interfaces that lead outside.
    pub wans: Vec<String>,
    /// The policy's file.
    pub policy: PathBuf,
    /// How to catch frames on LANs.
    pub xdp: XdpMode,
    /// Whether the kernel's programs tell about malformed frames.
    pub diagnose: bool,
    /// Where clients are served DNS.
    pub dns_listen: Vec<SocketAddr>,
    /// Resolvers whose answers to clients are heard. Without any, nor DNS for clients, names are not matched.
    pub dns_snoop: Vec<IpAddr>,
    /// Resolvers to ask; without any, the system's.
    pub dns_upstream: Vec<Server>,
    /// CAs, in PEM, by which encrypted upstreams are known; if none, the system's.
    pub dns_ca: Option<PathBuf>,
    /// Where names' addresses are kept over a restart.
    pub state: PathBuf,
    /// The API's socket.
    pub socket: PathBuf,
    /// Whose group may open it, if not the controller's own.
    pub socket_group: Option<Gid>,
    /// Where metrics, and what else is safe to tell, are served over TCP.
    pub metrics_listen: Vec<SocketAddr>,
}

/// Puts the policy in force, serves the API, follows the network, and detaches on SIGINT or SIGTERM.
///
/// # Errors
/// If anything of the start fails; nothing stays attached then.
pub async fn run(options: &Options) -> Result<()> {
    // Before anything is attached: from here on, a signal detaches what was.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The end of the session that started it is no reason to stop.
    let mut hangup = signal(SignalKind::hangup())?;

    let (policy, sha256) = Policy::load_with_hash(&options.policy)?;
    let learns = !options.dns_listen.is_empty() || !options.dns_snoop.is_empty();
    if !learns && policy.named().next().is_some() {
        eprintln!(
            "enforcer: rules speak of names, which are not matched: say where clients ask for them with --dns-listen or --dns-snoop"
        );
    }
    if options.dns_listen.is_empty() && policy.dns != Dns::default() {
        eprintln!("enforcer: [dns] is about questions that enforcer answers, and it answers none: see --dns-listen");
    }
    let limits = Limits::default();
    let limits = Limits { learned: if learns { limits.learned } else { 0 }, ..limits };
    let mut image = compile::compile(&policy, &limits, seed())?;
    let facts = netlink::read().await.context("cannot read interfaces and routes")?;
    let roles = roles(options, &facts)?;
    if let Some(problem) = net::image::problems(&facts, &roles).into_iter().next() {
        return Err(problem.into());
    }
    let net = NetImage::new(&facts, &roles, image.words)?;
    let api = Api::bind(&options.socket, options.socket_group, &options.metrics_listen).await?;

    let extras = Extras { diagnose: options.diagnose, resolvers: &options.dns_snoop };
    let (mut object, Told { diagnostics, answers }) = Object::load_with(&image, &net, extras)?;
    let (answers, outcomes) = answers.unzip();
    let schedule = Schedule::of(&policy)?;
    object.set_moment(schedule.moments.at(Timestamp::now()));
    let events = object.events()?;
    let learning = learns.then(|| Learning::new(&policy, std::mem::take(&mut image.live), Instant::now()));
    let controller = Arc::new(Controller {
        status: Status {
            version: env!("CARGO_PKG_VERSION").into(),
            policy: std::path::absolute(&options.policy)?.display().to_string(),
            policy_sha256: sha256,
            uptime_seconds: 0,
            hooks: Vec::new(),
            services: policy.services.len(),
            rules: policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
            prefixes: image.usage.prefixes4 + image.usage.prefixes6,
            hosts: image.usage.hosts4 + image.usage.hosts6,
            map_bytes: object.map_bytes(),
            schedules: Vec::new(),
            events_lost: 0,
            warnings: Vec::new(),
            names: None,
            interfaces: Vec::new(),
            tables: tables::of_policy(&image.usage, &limits),
            programs: Vec::new(),
            reloads: Reloads::default(),
        },
        interfaces: [(&options.lans, "lan"), (&options.wans, "wan")]
            .into_iter()
            .flat_map(|(names, role)| names.iter().map(move |name| (name.clone(), role)))
            .collect(),
        since: Instant::now(),
        names: names(&policy, &image),
        words: image.words,
        schedule,
        answers: DnsPolicy::new(&policy),
        record: Record::default(),
        state: Mutex::new(State {
            object,
            hooks: Hooks::default(),
            learning,
            interfaces: Arc::new(names_of(&facts)),
            warnings: Vec::new(),
        }),
        upstreams: OnceLock::new(),
        forwarder: OnceLock::new(),
        fresh: Notify::new(),
        noted: watch::Sender::new(0),
        snooping: outcomes.map(|outcomes| Snooping::new(options.dns_snoop.clone(), outcomes)),
    });
    let store = if learns { Some(controller.begin_dns(options)?) } else { None };
    controller.state().attach(options, &facts)?;
    say(&format!(
        "enforcing {} on {} (socket {})",
        options.policy.display(),
        options.lans.join(", "),
        options.socket.display()
    ));

    if let Some(diagnostics) = diagnostics {
        // A flood of messages must not keep the controller from its work.
        std::thread::spawn(|| diagnostics.follow());
    }
    let (sender, changes) = watch::channel(facts);
    tokio::select! {
        () = follow_netlink(sender) => {}
        () = controller.follow(changes, options) => {}
        () = controller.keep_time() => {}
        result = controller.record(events) => result?,
        () = controller.serve_dns(&policy) => {}
        () = controller.end_names() => {}
        result = controller.snoop(answers) => result?,
        () = controller.keep_names(store.as_ref()) => {}
        () = api.serve(Arc::clone(&controller) as Arc<dyn Source>) => {}
        () = async { while hangup.recv().await.is_some() {} } => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    controller.state().hooks.detach();
    if let Some(store) = &store {
        controller.save(store);
    }
    say("detached");
    Ok(())
}

/// Tells the operator, if somebody is there to read it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Follows the network for good: a socket that fails is opened anew, and all facts are read again.
async fn follow_netlink(sender: watch::Sender<Facts>) {
    loop {
        match netlink::follow(&sender) {
            Ok(following) => following.await,
            Err(error) => eprintln!("enforcer: cannot follow interfaces and routes: {error}"),
        }
        time::sleep(Duration::from_secs(1)).await;
    }
}

/// Keys the host tables, so that nobody can aim at a bucket.
#[must_use]
pub fn seed() -> u32 {
    RandomState::new().hash_one(0) as u32
}

/// The configured interfaces' indices.
fn roles(options: &Options, facts: &Facts) -> Result<Roles, NetError> {
    let index = |name: &String| {
        facts.named(name).map(|interface| interface.index).ok_or_else(|| {
            let names: Vec<&str> = facts.interfaces.iter().map(|interface| interface.name.as_str()).collect();
            NetError::NoInterface(name.clone(), names.join(", "))
        })
    };
    Ok(Roles {
        lans: options.lans.iter().map(index).collect::<Result<_, _>>()?,
        wans: options.wans.iter().map(index).collect::<Result<_, _>>()?,
    })
}

/// The counters of rules, still zero. Inbound rules open flows, they count nothing.
fn names(policy: &Policy, image: &Image) -> Vec<Option<RuleCounter>> {
    let name = |(id, counted): &(PolicyId, compile::Counted)| {
        let (part, rules) = match id {
            PolicyId::Lan => ("lan", &policy.lan),
            PolicyId::Router => ("router", &policy.router),
            PolicyId::Inbound => return None,
        };
        let rule = &rules.rules[counted.rule.0 as usize];
        Some(RuleCounter {
            policy: part.into(),
            rule: rule.label(),
            service: counted.service.map(|id| policy.services[id.0 as usize].name.clone()),
            action: words::name(policy.effect(rule)).into(),
            packets: 0,
            bytes: 0,
        })
    };
    image.counters.iter().map(name).collect()
}

/// Names of interfaces by index.
fn names_of(facts: &Facts) -> HashMap<u32, String> {
    facts.interfaces.iter().map(|interface| (interface.index, interface.name.clone())).collect()
}

/// The policy's schedules and the moments that they make.
struct Schedule {
    moments: Moments,
    names: Vec<String>,
}

impl Schedule {
    fn of(policy: &Policy) -> Result<Self> {
        let moments = Moments::of(policy).map_err(|count| anyhow::anyhow!("{count} combinations of schedules"))?;
        Ok(Self { moments, names: policy.schedules.iter().map(|schedule| schedule.name.clone()).collect() })
    }

    /// Those that apply now.
    fn now(&self) -> &[ScheduleId] {
        &self.moments.sets()[self.moments.at(Timestamp::now())]
    }

    /// The names of those that apply at a moment.
    fn names(&self, moment: usize) -> Vec<String> {
        self.moments.sets()[moment].iter().map(|id| self.names[id.0 as usize].clone()).collect()
    }
}

struct Controller {
    status: Status,
    /// The interfaces that it is to be on, with their roles.
    interfaces: Vec<(String, &'static str)>,
    since: Instant,
    names: Vec<Option<RuleCounter>>,
    words: Words,
    schedule: Schedule,
    /// What clients' questions are answered with.
    answers: DnsPolicy,
    record: Record,
    state: Mutex<State>,
    /// The resolvers that are asked, if names are learned.
    upstreams: OnceLock<Arc<Upstreams>>,
    forwarder: OnceLock<Forwarder<Asking>>,
    /// Something was learned that is not noted on disk.
    fresh: Notify,
    /// How much of what was learned is noted.
    noted: watch::Sender<u64>,
    snooping: Option<Snooping>,
}

struct State {
    object: Object,
    hooks: Hooks,
    /// What names stand for, if they are learned.
    learning: Option<Learning>,
    /// Names of interfaces by index.
    interfaces: Arc<HashMap<u32, String>>,
    /// What of the network's last change could not be followed.
    warnings: Vec<String>,
}

impl Controller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self, mut changes: watch::Receiver<Facts>, options: &Options) {
        while changes.changed().await.is_ok() {
            let facts = changes.borrow_and_update().clone();
            self.state().follow(&facts, options, self.words);
        }
    }

    /// Lets rules apply by their schedules. A look at the clock each second also follows one that is set.
    async fn keep_time(&self) {
        let mut interval = time::interval(Duration::from_secs(1));
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.state().object.set_moment(self.schedule.moments.at(Timestamp::now()));
        }
    }

    /// Takes down the kernel's events.
    async fn record(&self, events: Events) -> Result<()> {
        let take = |events: &[abi::Event], lost: u64| {
            let interfaces = Arc::clone(&self.state().interfaces);
            let interface = |index: u32| interfaces.get(&index).cloned();
            let called =
                |address| self.state().learning.as_ref().map_or(Vec::new(), |learning| learning.names_of(address));
            let now = (monotonic(), Timestamp::now());
            let names = Names { rules: &self.names, interface: &interface, called: &called, now };
            self.record.add(events.iter().map(|event| events::describe(event, &names)), lost);
        };
        Ok(events.follow(take).await?)
    }
}

/// The kernel's monotonic clock in nanoseconds, which events are stamped by.
fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one that every kernel has, and the pointer is to a value of this function's own.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl State {
    /// Attaches the programs to all interfaces, or to none.
    fn attach(&mut self, options: &Options, facts: &Facts) -> Result<()> {
        self.hooks = Hooks::attach(&mut self.object, options, facts)?;
        Ok(())
    }

    /// Programs first, then the tables that trust what they have judged.
    fn follow(&mut self, facts: &Facts, options: &Options, words: Words) {
        self.interfaces = Arc::new(names_of(facts));
        let mut warnings: Vec<String> = Vec::new();
        let problems = self.hooks.follow(&mut self.object, options, facts);
        warnings.extend(problems.iter().map(|problem| format!("{problem:#}")));
        let roles = self.hooks.roles();
        warnings.extend(net::image::problems(facts, &roles).iter().map(ToString::to_string));
        let updated =
            NetImage::new(facts, &roles, words).map_err(Into::into).and_then(|net| self.object.update_net(&net));
        if let Err(error) = updated {
            warnings.push(format!("a change of addresses or routes is not followed: {error}"));
        }
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            eprintln!("enforcer: {warning}");
        }
        self.warnings = warnings;
    }
}
