//! The controller: a policy in force until it is told to stop.

mod disk;
mod dns;
mod history;
mod hooks;
mod inforce;
mod learning;
mod options;
mod predecessor;
mod record;
mod reload;
mod snoop;
mod source;
mod start;
mod state;
mod tables;

use std::{
    future,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::spawn_blocking,
    time,
};

use crate::{
    api::{server::Server as Api, source::Source},
    dns::forwarder::{Forwarder, upstream::Upstreams},
    kernel::{
        clsact::Filter,
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
use hooks::Hooks;
use inforce::InForce;
use learning::Learning;
pub use options::{Fail, OnExit, Options};
use record::Record;
use reload::Pending;
use snoop::Snooping;
use state::{State, names_of};

/// A policy that is being put in force when the controller is told to end is so by then.
const LAST: Duration = Duration::from_secs(60);
/// How often is looked for the guard.
const GUARD: Duration = Duration::from_secs(5);
/// How often is looked for clsact's filters.
const FILTERS: Duration = Duration::from_secs(1);

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
    let (object, told) = Object::load_with(&image, &net, extras)?;
    let set = object.set();
    object.set_moment(in_force.schedule.moment());
    let (answers, outcomes) = told.answers.unzip();
    let predecessor = start::predecessor(&pins, &object);
    let now = Instant::now();
    let learning = options.learns().then(|| Learning::new(policy, std::mem::take(&mut image.live), now));
    in_force.number = start::keep(&history, &in_force);
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
            guarded: None,
            pins_lost: false,
            filters_lost: Vec::new(),
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
    let store = attached().inspect_err(|_| controller.pins.forget_unless_running(set))?;
    start::keep_current(options, &controller.history, &in_force);
    controller.tell(&in_force, told.events, told.diagnostics);
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
        () = controller.keep_guard() => {}
        () = controller.keep_filters() => {}
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
                let reloading = Arc::clone(&controller);
                let done = tokio::spawn(async move { reloading.reload().await }).await;
                if let Err(error) = done.unwrap_or_else(|error| Err(error.into())) {
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
    // One that is being put in force is so before this ends, or not at all.
    let _none_under_way = time::timeout(LAST, controller.applying.lock()).await;
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

    /// Sees to it that rules of nftables are there that others may flush, as a firewall's reload does.
    async fn keep_guard(self: &Arc<Self>) {
        if self.options.fail == Fail::Open {
            return future::pending().await;
        }
        loop {
            time::sleep(GUARD).await;
            let controller = Arc::clone(self);
            let looked = spawn_blocking(move || {
                let there = guard::is_there();
                controller.state().keep_guard(&controller.options, there);
            });
            let _ = looked.await;
        }
    }

    /// Sees to it that programs are in clsact's filters, which others may take away. Looked is without the lock: netlink may have to wait.
    async fn keep_filters(self: &Arc<Self>) {
        let mut looked = Instant::now();
        loop {
            time::sleep(FILTERS).await;
            let since = looked.elapsed();
            looked = Instant::now();
            let filters: Vec<Filter> = self.state().hooks.filters().cloned().collect();
            let controller = Arc::clone(self);
            let kept = spawn_blocking(move || {
                let there = filters.iter().all(|filter| filter.is_there().unwrap_or(true));
                controller.state().keep_filters(there, since);
            });
            let _ = kept.await;
        }
    }

    /// Leaves the kernel to itself, or takes everything off it.
    fn end(&self, on_exit: OnExit) -> Result<()> {
        let mut state = self.state();
        state.end_predecessor(&self.pins);
        match on_exit {
            OnExit::Keep => tracing::info!("stopped; the kernel goes on enforcing, until `enforcer detach`"),
            OnExit::Detach => {
                state.hooks.detach();
                let guard = guard::remove();
                self.pins.remove()?;
                guard?;
                tracing::info!("detached");
            }
        }
        Ok(())
    }
}
