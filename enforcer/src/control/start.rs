//! A start: what it goes on with, which is a policy and the counts of what an earlier controller has left in force, until its programs are attached.

use std::{
    fs::TryLockError,
    sync::{Arc, Mutex, OnceLock, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::{
    Controller, Options, clients,
    dns::Inside,
    guarding::Guard,
    history::{Current, History},
    hooks::Hooks,
    inforce::InForce,
    learning::Learning,
    predecessor::Predecessor,
    record::Record,
    reload,
    selection::{self, Selection},
    snoop::Snooping,
    state::{State, names_of},
};
use crate::{
    api::policies::Reason,
    clients::{Clock, Store as Clients},
    compile::Image,
    kernel::{
        attach,
        diagnostics::Diagnostics,
        events::Events,
        object::{Extras, Object},
        pins::Pins,
        snoop::Answers,
    },
    names::store::Store,
    net::{self, Facts, NetImage, image::Roles, watch as netlink},
    policy::{Bundle, Dns, Policy},
};

/// A controller whose programs are attached, and what it is to follow.
pub struct Begun {
    pub controller: Arc<Controller>,
    /// The network as it was then.
    pub facts: Facts,
    /// Where names are kept, if they are learned.
    pub store: Option<Store>,
    pub events: Events,
    pub diagnostics: Option<Diagnostics>,
    pub answers: Option<Answers>,
}

/// Takes the place of what an earlier controller has left in force, or is the first.
///
/// # Errors
/// If anything fails; what was in force is so still, and nothing else is attached. Folders that were made are removed, but for the guard's rules nothing is left.
pub async fn begin(options: &Options) -> Result<Begun> {
    let begun = async {
        // First of all: where another controller has them, nothing is touched.
        let pins = Pins::open(&options.pins)?;
        pins.must_be_here()?;
        let folder = &options.state;
        let history = History::open(folder)
            .with_context(|| format!("cannot keep policies in {}; choose another --state", folder.display()))?;
        match history.lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another controller keeps its policies in {}: stop it, or name another folder with --state",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "that no other controller keeps its policies in {} is not known: {error}",
                    folder.display()
                );
            }
        }
        take_over(options, pins, history.clone()).await.inspect_err(|_| history.give_up())
    };
    begun.await.inspect_err(|_| Pins::remove_unused(&options.pins))
}

async fn take_over(options: &Options, pins: Pins, history: History) -> Result<Begun> {
    let (mut in_force, mut image) = in_force(options, &history)?;
    let policy = &in_force.policy;
    if let Some(warning) = unmatched(options, policy) {
        tracing::warn!("{warning}");
    }
    if options.dns_listen.is_empty() && policy.dns != Dns::default() {
        tracing::warn!("[dns] is about questions that enforcer answers, and it answers none: see --dns-listen");
    }
    let facts = netlink::read().await.context("cannot read interfaces and routes")?;
    let roles = roles(options, &facts);
    if let Some(problem) = net::image::problems(&facts, &roles).into_iter().next() {
        return Err(problem.into());
    }
    let net = NetImage::new(&facts, &roles, in_force.words)?;
    net.warnings.iter().for_each(|doubt| tracing::warn!("{doubt}"));
    for map in pins.fit(!options.dns_snoop.is_empty()) {
        tracing::warn!("{map} begins empty: what an earlier controller has left is laid out otherwise");
    }
    let identities = in_force.identities();
    let extras = Extras {
        programs: &attach::usual(options.xdp, !options.wans.is_empty(), !options.dns_snoop.is_empty()),
        pins: Some(&pins),
        identities: &identities,
        diagnose: options.diagnose,
        resolvers: &options.dns_snoop,
    };
    let (mut object, told) = Object::load_with(&image, &net, extras)?;
    let set = object.set();
    let clock = Clock::now();
    let admissions = clients::restore(&Clients::new(&options.state), object.admitted(), &clock)
        .inspect_err(|_| pins.forget_unless_running(set))?;
    object.set_moment(in_force.schedule.moment());
    let (answers, outcomes) = told.answers.unzip();
    let predecessor = predecessor(&pins, &object);
    let now = Instant::now();
    let learning = options.learns().then(|| Learning::new(policy, std::mem::take(&mut image.live), now));
    in_force.number = keep(&history, &in_force);
    let inside = Arc::new(Inside::new(options, &facts));
    let controller = Arc::new(Controller {
        options: options.clone(),
        since: now,
        pins,
        history,
        in_force: RwLock::new(Arc::new(in_force)),
        record: Record::default(),
        state: Mutex::new(State {
            object,
            predecessor,
            hooks: Hooks::default(),
            learning,
            admissions,
            clock,
            interfaces: Arc::new(names_of(&facts)),
            facts: facts.clone(),
            reader: None,
            warnings: Vec::new(),
            doubts: net.warnings,
            pins_lost: false,
            filters_lost: Vec::new(),
            filters_away: Duration::ZERO,
            filters_overtaken: Vec::new(),
            unhooked: Duration::ZERO,
            inside: Arc::clone(&inside),
        }),
        guard: Guard::of(&options.pins),
        applying: tokio::sync::Mutex::default(),
        pending: Mutex::default(),
        admitting: tokio::sync::Mutex::default(),
        reloads: reload::Counts::default(),
        changed: watch::Sender::new(0),
        ended: Notify::new(),
        upstreams: OnceLock::new(),
        forwarder: OnceLock::new(),
        fresh: Notify::new(),
        noted: watch::Sender::new(0),
        pac: Default::default(),
        inside,
        snooping: outcomes.map(|outcomes| Snooping::new(options.dns_snoop.clone(), outcomes)),
    });
    let attached = || -> Result<_> {
        let store = options.learns().then(|| controller.begin_dns(options)).transpose()?;
        controller.state().attach(&controller.pins, options, &facts)?;
        Ok(store)
    };
    let store = attached().inspect_err(|_| controller.pins.forget_unless_running(set))?;
    controller.look_at_guard(false);
    Ok(Begun { controller, facts, store, events: told.events, diagnostics: told.diagnostics, answers })
}

/// Returns the indices of the configured interfaces that exist.
fn roles(options: &Options, facts: &Facts) -> Roles {
    let indices =
        |names: &[String]| names.iter().filter_map(|name| facts.named(name)).map(|interface| interface.index).collect();
    Roles { lans: indices(&options.lans), wans: indices(&options.wans) }
}

/// A warning, if a policy speaks of names that nobody hears of.
pub fn unmatched(options: &Options, policy: &Policy) -> Option<&'static str> {
    let warning =
        "rules speak of names, which are not matched: say where clients ask for them with --dns-listen or --dns-snoop";
    (!options.learns() && policy.named().next().is_some()).then_some(warning)
}

/// Returns the newer of the file of `--policy` and the last confirmed policy, compiled, and logs
/// which one and why. A file with mistakes does not end the enforcement of the last confirmed
/// policy.
pub fn in_force(options: &Options, history: &History) -> Result<(InForce, Image)> {
    let last = history.confirmed();
    let (file, policy) = Bundle::read(&options.disk, &options.policy);
    let Selection { confirmed, reason } = selection::select(&file, policy.is_ok(), last.as_ref());
    let log = |number: Option<u32>, bundle: &Bundle| {
        let sha256 = bundle.sha256();
        tracing::info!(policy = number, file = %bundle.path.display(), sha256 = %&sha256[..12], reason, "policy selected");
    };
    let last = last.filter(|_| confirmed).and_then(|last| Some((last.current.number, last.kept?.1)));
    let Some((number, bundle)) = last else {
        let error = policy.err();
        if error.is_none() {
            log(None, &file);
        }
        return error.map_or_else(|| InForce::new(file, options.learns()), |error| Err(error.into()));
    };
    log(Some(number), &bundle);
    let file_problem = policy.err().map(|error| {
        let problem = "the last confirmed policy is enforced instead of the file of --policy";
        tracing::warn!("{problem}: {error}");
        // Status is also for readers who may not read the file.
        format!("{problem}: {}", error.without_source())
    });
    let (in_force, image) = InForce::new(bundle, options.learns())?;
    Ok((InForce { number: Some(number), file_problem, ..in_force }, image))
}

/// Keeps the policy in the history, if it is not the last one of there, and gives its number. A full disk is no reason not to start.
pub fn keep(history: &History, in_force: &InForce) -> Option<u32> {
    let last = history.entries().last().map(|entry| entry.number);
    let reason = if in_force.number.is_none() {
        let same = |number: &u32| history.bundle(*number).as_ref() == Some(&in_force.bundle);
        if let Some(number) = last.filter(same) {
            return Some(number);
        }
        Reason::Started
    } else if in_force.number == last {
        return last;
    } else {
        tracing::warn!(
            "the policy that was applied last was not confirmed, or not noted as in force, before the controller ended: the one before comes back"
        );
        Reason::NotConfirmed
    };
    let kept = history.add(&in_force.bundle, reason, Timestamp::now());
    let kept =
        kept.inspect_err(|error| tracing::warn!("the policy is not kept on disk, for `enforcer rollback`: {error}"));
    kept.ok().or(in_force.number)
}

/// Lets the next start go on with it, now that it is in force.
pub fn keep_current(options: &Options, history: &History, in_force: &InForce) {
    let Some(number) = in_force.number else { return };
    let (file, policy) = Bundle::read(&options.disk, &options.policy);
    // One that goes on as the file is of no use now has the hash of the file of then.
    let earlier = history.current().filter(|_| policy.is_err());
    let file_sha256 = earlier.map_or_else(|| Some(file.sha256()), |earlier| earlier.file_sha256);
    let current = Current { number, file_sha256, pins: Some(options.pins.clone()) };
    if let Err(error) = history.set_current(&current) {
        tracing::warn!("which policy is in force is not kept on disk: {error}");
    }
}

/// What an earlier controller has left in force, whose counts go on.
pub fn predecessor(pins: &Pins, object: &Object) -> Option<Predecessor> {
    let found = Predecessor::pinned(pins, object);
    let predecessor = found.unwrap_or_else(|error| {
        tracing::warn!("counters begin at zero, as those of the version before cannot be read: {error}");
        None
    })?;
    predecessor.carry_to(object.counters());
    Some(predecessor)
}
