//! The controller: a policy in force until it is told to stop.

mod clients;
mod disk;
mod dns;
mod guarding;
mod history;
mod hooks;
mod inforce;
mod learning;
mod options;
mod pac;
mod predecessor;
mod record;
mod reload;
mod selection;
mod snoop;
mod source;
mod start;
mod state;
mod tables;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    task::spawn_blocking,
    time,
};

use crate::{
    api::{pac::PacServer, server::Server as Api, source::Source},
    dns::forwarder::{Forwarder, upstream::Upstreams},
    kernel::{
        clsact::{Filter, Place},
        pins::Pins,
    },
    net::watch::{self as netlink, Told},
    service::notify,
};
use dns::{Asking, Inside};
use guarding::Guard;
pub use history::History;
use inforce::InForce;
pub use options::{Fail, OnExit, Options};
use record::Record;
use reload::Pending;
use snoop::Snooping;
use start::Begun;
use state::State;

/// A policy that is being put in force when the controller is told to end is so by then.
const LAST: Duration = Duration::from_secs(60);
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

    let api = Api::bind(&options.socket, options.socket_group, &options.metrics_listen, &options.metrics_hosts)?;
    let pac = PacServer::bind(&options.pac_listen)?;
    let Begun { controller, facts, store, events, diagnostics, answers } = start::begin(options).await?;
    let in_force = controller.in_force();
    start::keep_current(options, &controller.history, &in_force);
    controller.tell(&in_force, events, diagnostics);
    controller.end_predecessor_later();
    tracing::info!(
        "enforcing {} on {} (socket {})",
        in_force.bundle.path.display(),
        options.lans.join(", "),
        options.socket.display()
    );
    notify::ready();

    let (mut on_exit, mut is_detached) = (options.on_exit, false);
    let (sender, changes) = watch::channel(Told { facts, since: controller.since });
    tokio::select! {
        () = follow_netlink(sender) => {}
        () = controller.follow(changes) => {}
        () = controller.keep_time() => {}
        () = controller.keep_guard() => {}
        () = controller.keep_filters() => {}
        () = controller.serve_dns() => {}
        () = controller.end_names() => {}
        () = controller.end_admissions() => {}
        result = controller.snoop(answers) => result?,
        () = controller.keep_names(store.as_ref()) => {}
        () = pac.serve({
            let controller = Arc::clone(&controller);
            Arc::new(move || controller.pac())
        }) => {}
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
        () = controller.ended.notified() => (on_exit, is_detached) = (OnExit::Detach, true),
    }
    notify::stopping();
    // A policy that is being put in force is so before this ends, or not at all; the same goes for an admission.
    let under_way = async { (controller.applying.lock().await, controller.admitting.lock().await) };
    let _none_under_way = time::timeout(LAST, under_way).await;
    controller.note_clients();
    if let Some(store) = &store {
        controller.save(store);
    }
    // After an end by --on-exit, the next start enforces the applied policy again; after
    // `enforcer detach`, it enforces its own file.
    if is_detached && let Err(error) = controller.history.forget_current() {
        tracing::warn!("cannot forget the applied policy, which the next start will enforce: {error}");
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

struct Controller {
    options: Options,
    since: Instant,
    pins: Pins,
    history: History,
    /// Written only while the state is locked: its object and this are of one policy.
    in_force: RwLock<Arc<InForce>>,
    record: Record,
    state: Mutex<State>,
    guard: Guard,
    /// Held while a policy is put in force.
    applying: tokio::sync::Mutex<()>,
    pending: Mutex<Option<Pending>>,
    /// Held while a client is admitted or expelled.
    admitting: tokio::sync::Mutex<()>,
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
    pac: pac::Made,
    inside: Arc<Inside>,
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
            self.guard.renew();
        }
    }

    /// Lets rules apply by their schedules, and sees to links and pins. A look at the clock each second also follows one that is set.
    async fn keep_time(&self) {
        let mut interval = time::interval(Duration::from_secs(1));
        interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        loop {
            interval.tick().await;
            let mut state = self.state();
            state.object.set_moment(self.in_force().schedule.moment());
            state.look_at_pins(&self.options.pins);
            self.pins.sign();
            // Of an interface that was made anew as it was, netlink may tell nothing that is new.
            if state.hooks.are_severed() {
                let told = Told { facts: state.facts.clone(), since: looked };
                state.follow(&self.pins, told, &self.options, &self.in_force());
                self.guard.renew();
            }
            drop(state);
            looked = Instant::now();
        }
    }

    /// Sees to it that programs are in clsact's filters, which others may take away or overtake. Looked is without the lock: netlink may have to wait.
    async fn keep_filters(self: &Arc<Self>) {
        let mut looked = Instant::now();
        loop {
            time::sleep(FILTERS).await;
            let since = looked.elapsed();
            looked = Instant::now();
            let filters: Vec<(String, Filter)> = self
                .state()
                .hooks
                .filters()
                .map(|(interface, filter)| (interface.to_owned(), filter.clone()))
                .collect();
            if filters.is_empty() {
                continue;
            }
            let controller = Arc::clone(self);
            let kept = spawn_blocking(move || {
                let (mut are_there, mut overtaken) = (true, Vec::new());
                for (interface, filter) in &filters {
                    match filter.place() {
                        Ok(Place::Gone) => are_there = false,
                        Ok(Place::Behind(other)) => overtaken.push(filter.overtaken(interface, &other)),
                        // What cannot be told is taken to be well.
                        Ok(Place::First) | Err(_) => {}
                    }
                }
                let mut state = controller.state();
                state.overtaken(overtaken);
                if !are_there || !state.filters_lost.is_empty() {
                    state.put_back(since, &controller.in_force());
                    drop(state);
                    controller.guard.renew();
                }
            });
            let _ = kept.await;
        }
    }

    /// Leaves the kernel to itself, or takes everything off it.
    fn end(&self, on_exit: OnExit) -> Result<()> {
        let mut state = self.state();
        state.end_predecessor(&self.pins);
        self.pins.sign();
        match on_exit {
            OnExit::Keep if state.hooks.are_pinned() => {
                tracing::info!("stopped; the kernel goes on enforcing, until `enforcer detach`");
            }
            OnExit::Keep => {
                // Filters hold their programs by themselves.
                let rest =
                    if state.hooks.filters().next().is_none() { "nothing" } else { "no more than filters of clsact" };
                let folder = self.options.pins.display();
                tracing::error!("stopped; {rest} is enforced any more, as the pins in {folder} are gone");
                if self.options.fail == Fail::Closed {
                    hooks::guard(&self.options, &state.facts, |_| false)?.install()?;
                }
            }
            OnExit::Detach => {
                state.hooks.detach();
                // Whoever looks at the guard asks for the state while it holds that.
                drop(state);
                let guard = self.guard.remove();
                self.pins.remove()?;
                guard?;
                tracing::info!("detached");
            }
        }
        Ok(())
    }
}
