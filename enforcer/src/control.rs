//! The controller: a policy in force until it is told to stop.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_ebpf::abi::{PolicyId, pseudo};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time,
};

use crate::{
    api::{
        server::{self, Source},
        types::{Counters, HookStatus, PseudoCounter, RuleCounter, Status},
    },
    compile::{self, Image, Limits, Usage},
    kernel::{
        attach::{self, Attached, XdpMode},
        object::Object,
    },
    net::{
        self, Facts, NetImage,
        image::{NetError, Roles, Words},
        watch as netlink,
    },
    policy::{Policy, words},
};

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
    /// The API's socket.
    pub socket: PathBuf,
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
    warn_of_names(&policy);
    let image = compile::compile(&policy, &Limits::default(), seed())?;
    let facts = netlink::read().await.context("cannot read interfaces and routes")?;
    let roles = roles(options, &facts)?;
    if let Some(problem) = net::image::problems(&facts, &roles).into_iter().next() {
        return Err(problem.into());
    }
    let net = NetImage::new(&facts, &roles, image.words)?;
    let socket = server::bind(&options.socket)
        .with_context(|| format!("cannot serve the API on {}", options.socket.display()))?;

    let (mut object, diagnostics) = if options.diagnose {
        let (object, diagnostics) = Object::load_with_diagnostics(&image, &net)?;
        (object, Some(diagnostics))
    } else {
        (Object::load(&image, &net)?, None)
    };
    let hooks = Hooks::attach(&mut object, options, &facts)?;
    let controller = Arc::new(Controller {
        status: Status {
            version: env!("CARGO_PKG_VERSION").into(),
            policy: options.policy.display().to_string(),
            policy_sha256: sha256,
            uptime_seconds: 0,
            hooks: Vec::new(),
            services: policy.services.len(),
            rules: policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
            prefixes: image.usage.prefixes4 + image.usage.prefixes6,
            hosts: image.usage.hosts4 + image.usage.hosts6,
            map_bytes: object.map_bytes(),
            warnings: Vec::new(),
        },
        since: Instant::now(),
        names: names(&policy, &image),
        words: image.words,
        state: Mutex::new(State { object, hooks, warnings: Vec::new() }),
    });
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
        () = server::serve(&socket, Arc::clone(&controller) as Arc<dyn Source>) => {}
        () = async { while hangup.recv().await.is_some() {} } => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    controller.state().hooks.detach();
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

/// Programs on the configured interfaces, by the index that the interface had when they were attached.
struct Hooks {
    lans: BTreeMap<u32, Vec<Attached>>,
    wans: BTreeMap<u32, Vec<Attached>>,
}

impl Hooks {
    /// On all of them, or on none.
    fn attach(object: &mut Object, options: &Options, facts: &Facts) -> Result<Self> {
        let mut hooks = Self { lans: BTreeMap::new(), wans: BTreeMap::new() };
        hooks.follow(object, options, facts).into_iter().next().map_or(Ok(hooks), Err)
    }

    /// Attaches to interfaces that have come, or come back under another index, and forgets those that are gone. Gives what could not be done.
    fn follow(&mut self, object: &mut Object, options: &Options, facts: &Facts) -> Vec<anyhow::Error> {
        let mut problems = Vec::new();
        self.lans.retain(|&index, _| facts.indexed(index).is_some());
        self.wans.retain(|&index, _| facts.indexed(index).is_some());
        // WANs first: while only they are hooked, the gateway's own packets are judged, and clients' pass as before.
        for (names, is_lan) in [(&options.wans, false), (&options.lans, true)] {
            for name in names {
                let hooks = if is_lan { &mut self.lans } else { &mut self.wans };
                let Some(interface) = facts.named(name) else {
                    // Renamed is not gone.
                    if !hooks.values().flatten().any(|hook| hook.interface == *name) {
                        problems.push(anyhow::anyhow!(
                            "{name} is gone: its programs are attached again when it comes back"
                        ));
                    }
                    continue;
                };
                if hooks.contains_key(&interface.index) {
                    continue;
                }
                let attached = match is_lan {
                    true => attach::lan(object, name, interface.layer3, options.xdp),
                    false => attach::wan(object, name),
                };
                match attached {
                    Ok(attached) => drop(hooks.insert(interface.index, attached)),
                    Err(error) => problems.push(error.into()),
                }
            }
        }
        problems
    }

    fn roles(&self) -> Roles {
        Roles { lans: self.lans.keys().copied().collect(), wans: self.wans.keys().copied().collect() }
    }

    fn status(&self) -> Vec<HookStatus> {
        let wans = self.wans.values().flatten().map(|hook| ("wan", hook));
        let lans = self.lans.values().flatten().map(|hook| ("lan", hook));
        wans.chain(lans)
            .map(|(role, hook)| HookStatus {
                interface: hook.interface.clone(),
                role: role.into(),
                hook: hook.hook.to_string(),
            })
            .collect()
    }

    fn detach(&mut self) {
        self.lans.clear();
        self.wans.clear();
    }
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
            action: words::name(rule.action).into(),
            packets: 0,
            bytes: 0,
        })
    };
    image.counters.iter().map(name).collect()
}

struct Controller {
    status: Status,
    since: Instant,
    names: Vec<Option<RuleCounter>>,
    words: Words,
    state: Mutex<State>,
}

struct State {
    object: Object,
    hooks: Hooks,
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
}

impl State {
    /// Programs first, then the tables that trust what they have judged.
    fn follow(&mut self, facts: &Facts, options: &Options, words: Words) {
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

impl Source for Controller {
    fn status(&self) -> Status {
        let mut status = self.status.clone();
        status.uptime_seconds = self.since.elapsed().as_secs();
        let state = self.state();
        status.hooks = state.hooks.status();
        status.warnings.clone_from(&state.warnings);
        status
    }

    fn counters(&self) -> Counters {
        let values = self.state().object.counters();
        let (first, rest) = values.split_at(pseudo::COUNT as usize);
        let pseudo = pseudo::NAMES.iter().zip(first).map(|(name, value)| PseudoCounter {
            name: (*name).into(),
            packets: value.packets,
            bytes: value.bytes,
        });
        let rules = self.names.iter().zip(rest).filter_map(|(name, value)| {
            Some(RuleCounter { packets: value.packets, bytes: value.bytes, ..name.clone()? })
        });
        Counters { rules: rules.collect(), pseudo: pseudo.collect() }
    }
}

/// Tells which services are not or not wholly reached, as they have names that no addresses are known of.
fn warn_of_names(policy: &Policy) {
    for (service, names) in &policy.unresolved {
        eprintln!("enforcer: {service}: {} names are no addresses yet and are not matched", names.len());
    }
}

/// What `enforcer check` says of a policy.
#[must_use]
pub fn summary(policy: &Policy, usage: &Usage) -> String {
    format!(
        "{} services, {} rules; {} IPv4 and {} IPv6 prefixes, {} hosts; tables of {:.1} MB",
        policy.services.len(),
        policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
        usage.prefixes4,
        usage.prefixes6,
        usage.hosts4 + usage.hosts6,
        usage.bytes as f64 / 1e6
    )
}
