//! The controller: a policy in force until it is told to stop.

mod disk;
mod dns;
mod history;
mod hooks;
mod inforce;
mod learning;
mod predecessor;
mod record;
mod reload;
mod snoop;
mod source;
mod start;
mod tables;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_ebpf::abi;
use jiff::Timestamp;
use nix::unistd::Gid;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::AbortHandle,
    time,
};

use crate::{
    api::{server::Server as Api, source::Source},
    dns::forwarder::{
        Forwarder,
        upstream::{Server, Upstreams},
    },
    events::{self, Names},
    kernel::{
        attach::XdpMode,
        diagnostics::Diagnostics,
        events::Events,
        guard,
        object::{Extras, Object},
        pins::Pins,
    },
    net::{
        self, Facts, NetImage,
        image::{NetError, Roles},
        watch::{self as netlink, Told},
    },
    policy::Dns,
    service::notify,
};
use dns::Asking;
use history::History;
use hooks::{Followed, Hooks};
use inforce::InForce;
use learning::Learning;
use predecessor::Predecessor;
use record::Record;
use reload::Pending;
use snoop::Snooping;

/// What becomes of what is enforced when the controller stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum OnExit {
    /// The kernel goes on enforcing.
    #[default]
    Keep,
    /// All programs are taken off their interfaces.
    Detach,
}

/// What becomes of packets of an interface that is there without its programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fail {
    /// They pass, until the programs are on it.
    #[default]
    Open,
    /// They are not forwarded.
    Closed,
}

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
    /// Where policies and names' addresses are kept over a restart.
    pub state: PathBuf,
    /// Where the kernel's programs are kept over a restart: a directory of a BPF file system.
    pub pins: PathBuf,
    /// When the controller stops.
    pub on_exit: OnExit,
    /// Where no program is.
    pub fail: Fail,
    /// The API's socket.
    pub socket: PathBuf,
    /// Whose group may open it, if not the controller's own.
    pub socket_group: Option<Gid>,
    /// Where metrics, and what else is safe to tell, are served over TCP.
    pub metrics_listen: Vec<SocketAddr>,
}

impl Options {
    /// Whether addresses of names become known.
    const fn learns(&self) -> bool {
        !self.dns_listen.is_empty() || !self.dns_snoop.is_empty()
    }
}

/// Puts a policy in force, serves the API and follows the network, until SIGINT or SIGTERM. What an earlier controller has left in force is so until this one's
/// takes its place.
///
/// # Errors
/// If anything of the start fails; what was in force is so still, and nothing else stays attached.
pub async fn run(options: &Options) -> Result<()> {
    // Before anything is attached: from here on, a signal is no abrupt end.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let api = Api::bind(&options.socket, options.socket_group, &options.metrics_listen).await?;
    let pins = Pins::open(&options.pins)?;
    let folder = &options.state;
    let history = History::open(folder)
        .with_context(|| format!("cannot keep policies in {}; choose another --state", folder.display()))?;
    let (mut in_force, mut image) = start::in_force(options, &history)?;
    let policy = &in_force.policy;
    if !options.learns() && policy.named().next().is_some() {
        tracing::warn!(
            "rules speak of names, which are not matched: say where clients ask for them with --dns-listen or --dns-snoop"
        );
    }
    if options.dns_listen.is_empty() && policy.dns != Dns::default() {
        tracing::warn!("[dns] is about questions that enforcer answers, and it answers none: see --dns-listen");
    }
    let facts = netlink::read().await.context("cannot read interfaces and routes")?;
    let roles = roles(options, &facts)?;
    if let Some(problem) = net::image::problems(&facts, &roles).into_iter().next() {
        return Err(problem.into());
    }
    let net = NetImage::new(&facts, &roles, in_force.words)?;
    for map in pins.fit(!options.dns_snoop.is_empty()) {
        tracing::warn!("{map} begins empty: what an earlier controller has left is laid out otherwise");
    }
    let identities = in_force.identities();
    let extras = Extras {
        pins: Some(&pins),
        identities: &identities,
        diagnose: options.diagnose,
        resolvers: &options.dns_snoop,
    };
    let (mut object, told) = Object::load_with(&image, &net, extras)?;
    let set = object.set();
    object.set_moment(in_force.schedule.moment());
    let events = object.events()?;
    let (answers, outcomes) = told.answers.unzip();
    let predecessor = start::predecessor(&pins, &object);
    let now = Instant::now();
    let learning = options.learns().then(|| Learning::new(policy, std::mem::take(&mut image.live), now));
    in_force.number = start::keep(options, &history, &in_force);
    let in_force = Arc::new(in_force);
    let controller = Arc::new(Controller {
        options: options.clone(),
        since: now,
        pins,
        history,
        in_force: RwLock::new(Arc::clone(&in_force)),
        record: Record::default(),
        state: Mutex::new(State {
            object,
            predecessor,
            hooks: Hooks::default(),
            learning,
            interfaces: Arc::new(names_of(&facts)),
            facts: facts.clone(),
            reader: None,
            warnings: Vec::new(),
            pins_lost: false,
            unhooked: Duration::ZERO,
        }),
        applying: tokio::sync::Mutex::default(),
        pending: Mutex::default(),
        reloads: reload::Counts::default(),
        changed: watch::Sender::new(0),
        ended: Notify::new(),
        upstreams: OnceLock::new(),
        forwarder: OnceLock::new(),
        fresh: Notify::new(),
        noted: watch::Sender::new(0),
        snooping: outcomes.map(|outcomes| Snooping::new(options.dns_snoop.clone(), outcomes)),
    });
    let attached = || -> Result<_> {
        let store = options.learns().then(|| controller.begin_dns(options)).transpose()?;
        controller.state().attach(&controller.pins, options, &facts)?;
        Ok(store)
    };
    let store = attached().inspect_err(|_| controller.pins.forget(set))?;
    controller.tell(&in_force, events, told.diagnostics);
    controller.end_predecessor_later();
    tracing::info!(
        "enforcing {} on {} (socket {})",
        in_force.bundle.path.display(),
        options.lans.join(", "),
        options.socket.display()
    );
    notify::ready();

    let mut on_exit = options.on_exit;
    let (sender, changes) = watch::channel(Told { facts, since: now });
    tokio::select! {
        () = follow_netlink(sender) => {}
        () = controller.follow(changes) => {}
        () = controller.keep_time() => {}
        () = controller.serve_dns() => {}
        () = controller.end_names() => {}
        result = controller.snoop(answers) => result?,
        () = controller.keep_names(store.as_ref()) => {}
        () = api.serve(Arc::clone(&controller) as Arc<dyn Source>) => {}
        // Where everything else waits, too.
        () = notify::watchdog(|| drop(controller.state())) => {}
        () = async {
            while hangup.recv().await.is_some() {
                notify::reloading();
                if let Err(error) = controller.reload().await {
                    tracing::error!("the policy in force stays: {error:#}");
                }
                notify::ready();
            }
        } => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = controller.ended.notified() => on_exit = OnExit::Detach,
    }
    notify::stopping();
    if let Some(store) = &store {
        controller.save(store);
    }
    controller.end(on_exit)
}

/// Follows the network for good: a socket that fails is opened anew, and all facts are read again.
async fn follow_netlink(sender: watch::Sender<Told>) {
    loop {
        match netlink::follow(&sender) {
            Ok(following) => following.await,
            Err(error) => tracing::warn!("cannot follow interfaces and routes: {error}"),
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

/// What is wrong when the BPF file system is gone.
fn pins_lost(pins: &Path) -> String {
    format!(
        "the pins in {} are gone: the kernel enforces only for as long as this controller runs; mount the BPF file system and start it again",
        pins.display()
    )
}

/// Names of interfaces by index.
fn names_of(facts: &Facts) -> HashMap<u32, String> {
    facts.interfaces.iter().map(|interface| (interface.index, interface.name.clone())).collect()
}

struct Controller {
    options: Options,
    since: Instant,
    pins: Pins,
    history: History,
    /// Written only while the state is locked: its object and this are of one policy.
    in_force: RwLock<Arc<InForce>>,
    record: Record,
    state: Mutex<State>,
    /// Held while a policy is put in force.
    applying: tokio::sync::Mutex<()>,
    pending: Mutex<Option<Pending>>,
    reloads: reload::Counts,
    /// How often another policy was put in force.
    changed: watch::Sender<u64>,
    /// Somebody wants the controller to end, and nothing to stay.
    ended: Notify,
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
    /// The set before, for as long as it may still count.
    predecessor: Option<Predecessor>,
    hooks: Hooks,
    /// What names stand for, if they are learned.
    learning: Option<Learning>,
    /// Names of interfaces by index.
    interfaces: Arc<HashMap<u32, String>>,
    /// The network as it was last told.
    facts: Facts,
    /// Who takes down the kernel's events.
    reader: Option<AbortHandle>,
    /// What of the network's last change could not be followed.
    warnings: Vec<String>,
    /// Links are not pinned any more.
    pins_lost: bool,
    /// For how long interfaces that came back were there without programs.
    unhooked: Duration,
}

impl Controller {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_in_force(&self, in_force: &Arc<InForce>) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(in_force);
    }

    async fn follow(&self, mut changes: watch::Receiver<Told>) {
        while changes.changed().await.is_ok() {
            let told = changes.borrow_and_update().clone();
            // Another policy may be put in force meanwhile, behind the lock.
            let mut state = self.state();
            state.follow(&self.pins, told, &self.options, &self.in_force());
        }
    }

    /// Lets rules apply by their schedules. A look at the clock each second also follows one that is set.
    async fn keep_time(&self) {
        let mut interval = time::interval(Duration::from_secs(1));
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let mut state = self.state();
            state.object.set_moment(self.in_force().schedule.moment());
            state.look_at_pins(&self.options.pins);
        }
    }

    /// Lets what a set's programs tell be heard, in place of what the set before tells: soon nothing.
    fn tell(self: &Arc<Self>, in_force: &Arc<InForce>, events: Events, diagnostics: Option<Diagnostics>) {
        let controller = Arc::clone(self);
        let of = Arc::clone(in_force);
        let reader = tokio::spawn(async move {
            if let Err(error) = controller.record(&of, events).await {
                tracing::warn!("events are not told any more: {error}");
            }
        });
        if let Some(before) = self.state().reader.replace(reader.abort_handle()) {
            tokio::spawn(async move {
                time::sleep(reload::GRACE).await;
                before.abort();
            });
        }
        if let Some(diagnostics) = diagnostics {
            let of = Arc::downgrade(in_force);
            // A flood of messages must not keep the controller from its work.
            std::thread::spawn(move || diagnostics.follow(|| of.strong_count() > 0));
        }
    }

    /// Takes down the kernel's events, which number rules as a policy does.
    async fn record(&self, in_force: &InForce, events: Events) -> Result<()> {
        let take = |events: &[abi::Event], lost: u64| {
            let interfaces = Arc::clone(&self.state().interfaces);
            let interface = |index: u32| interfaces.get(&index).cloned();
            let called =
                |address| self.state().learning.as_ref().map_or(Vec::new(), |learning| learning.names_of(address));
            let now = (monotonic(), Timestamp::now());
            let names = Names { rules: &in_force.counters, interface: &interface, called: &called, now };
            self.record.add(events.iter().map(|event| events::describe(event, &names)), lost);
        };
        Ok(events.follow(take).await?)
    }

    /// Leaves the kernel to itself, or takes everything off it.
    fn end(&self, on_exit: OnExit) -> Result<()> {
        let mut state = self.state();
        state.end_predecessor(&self.pins);
        match on_exit {
            OnExit::Keep => tracing::info!("stopped; the kernel goes on enforcing, until `enforcer detach`"),
            OnExit::Detach => {
                state.hooks.detach();
                self.pins.remove()?;
                guard::remove()?;
                tracing::info!("detached");
            }
        }
        Ok(())
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
    fn attach(&mut self, pins: &Pins, options: &Options, facts: &Facts) -> Result<()> {
        let earlier = pins.interfaces();
        match options.fail {
            Fail::Open => guard::remove().unwrap_or_else(|error| tracing::warn!("{error}")),
            Fail::Closed => hooks::guard(options, facts, |index| earlier.contains(&index))?,
        }
        for name in
            options.lans.iter().filter(|name| facts.named(name).is_some_and(|lan| !earlier.contains(&lan.index)))
        {
            if !earlier.is_empty() && options.fail == Fail::Open {
                tracing::warn!(
                    "{name} has come since the controller before: what came from it was not judged until now"
                );
            }
        }
        self.hooks = Hooks::attach(&mut self.object, pins, options, facts)?;
        if options.fail == Fail::Closed {
            self.hooks.guard(options, facts)?;
        }
        Ok(())
    }

    /// Tells once if what is enforced would not outlive this process any more.
    fn look_at_pins(&mut self, pins: &Path) {
        let lost = !self.hooks.are_pinned();
        if lost && !self.pins_lost {
            tracing::warn!("{}", pins_lost(pins));
        }
        self.pins_lost = lost;
    }

    /// Programs first, then the tables that trust what they have judged.
    fn follow(&mut self, pins: &Pins, Told { facts, since }: Told, options: &Options, in_force: &InForce) {
        self.interfaces = Arc::new(names_of(&facts));
        let mut warnings: Vec<String> = Vec::new();
        let before = self.hooks.roles();
        let Followed { attached, problems } = self.hooks.follow(&mut self.object, pins, options, &facts);
        for name in attached {
            let unhooked = since.elapsed();
            self.unhooked += unhooked;
            let what = if options.fail == Fail::Open { "not judged" } else { "not forwarded" };
            tracing::warn!("{name} is back: for {} ms, what came from it was {what}", unhooked.as_millis());
        }
        warnings.extend(problems.iter().map(|problem| format!("{problem:#}")));
        if options.fail == Fail::Closed
            && before != self.hooks.roles()
            && let Err(error) = self.hooks.guard(options, &facts)
        {
            warnings.push(error.to_string());
        }
        let roles = self.hooks.roles();
        warnings.extend(net::image::problems(&facts, &roles).iter().map(ToString::to_string));
        let updated = NetImage::new(&facts, &roles, in_force.words)
            .map_err(Into::into)
            .and_then(|net| self.object.update_net(&net));
        if let Err(error) = updated {
            warnings.push(format!("a change of addresses or routes is not followed: {error}"));
        }
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warnings = warnings;
        self.facts = facts;
    }
}
