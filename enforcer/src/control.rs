//! The controller: a policy in force until it is told to stop.

use std::{
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use enforcer_ebpf::abi::{PolicyId, pseudo};
use sha2::{Digest as _, Sha256};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
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
        Facts, NetImage,
        image::{NetError, Words},
        watch as netlink,
    },
    policy::{self, Policy, words},
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

    let text = policy::read(&options.policy)?;
    let policy = Policy::parse(&options.policy.display().to_string(), &text)?;
    let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let image = compile::compile(&policy, &Limits::default(), seed())?;
    let facts = netlink::read().await.context("cannot read interfaces and routes")?;
    check_interfaces(options, &facts)?;
    let net = NetImage::new(&facts, &options.lans, &options.wans, image.words)?;
    let socket = server::bind(&options.socket).context("cannot serve the API")?;

    let (mut object, diagnostics) = if options.diagnose {
        let (object, diagnostics) = Object::load_with_diagnostics(&image, &net)?;
        (object, Some(diagnostics))
    } else {
        (Object::load(&image, &net)?, None)
    };
    let hooks = attach_all(&mut object, options, &facts)?;
    let controller = Arc::new(Controller {
        status: Status {
            version: env!("CARGO_PKG_VERSION").into(),
            policy: options.policy.display().to_string(),
            policy_sha256: sha256,
            uptime_seconds: 0,
            hooks: hooks.iter().map(|(role, hook)| hook_status(role, hook)).collect(),
            services: policy.services.len(),
            rules: policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
            prefixes: image.usage.prefixes4 + image.usage.prefixes6,
            hosts: image.usage.hosts4 + image.usage.hosts6,
            map_bytes: object.map_bytes(),
            warnings: Vec::new(),
        },
        since: Instant::now(),
        names: names(&policy, &image),
        object: Mutex::new(object),
        warning: Mutex::new(None),
    });
    println!(
        "enforcing {} on {} (socket {})",
        options.policy.display(),
        options.lans.join(", "),
        options.socket.display()
    );

    let diagnostics = async {
        match diagnostics {
            Some(diagnostics) => diagnostics.follow().await,
            None => std::future::pending().await,
        }
    };
    let (sender, changes) = watch::channel(facts);
    let netlink = netlink::follow(sender).context("cannot follow changes of interfaces and routes")?;
    tokio::select! {
        () = netlink => bail!("netlink is gone"),
        () = diagnostics => bail!("the kernel programs' diagnostics stopped"),
        () = controller.follow(changes, options, image.words) => bail!("netlink is gone"),
        () = server::serve(&socket, Arc::clone(&controller) as Arc<dyn Source>) => bail!("the API stopped"),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    drop(hooks);
    println!("detached");
    Ok(())
}

/// Keys the host tables, so that nobody can aim at a bucket.
#[must_use]
pub fn seed() -> u32 {
    RandomState::new().hash_one(0) as u32
}

fn check_interfaces(options: &Options, facts: &Facts) -> Result<(), NetError> {
    let missing = options.lans.iter().chain(&options.wans).find(|name| facts.named(name).is_none());
    missing.map_or(Ok(()), |name| {
        let names: Vec<&str> = facts.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        Err(NetError::NoInterface(name.clone(), names.join(", ")))
    })
}

type Hooks = Vec<(&'static str, Attached)>;

fn attach_all(object: &mut Object, options: &Options, facts: &Facts) -> Result<Hooks> {
    let mut hooks = Hooks::new();
    // WANs first: while only they are hooked, the gateway's own packets are judged, and clients' pass as before.
    for name in &options.wans {
        hooks.extend(attach::wan(object, name)?.into_iter().map(|hook| ("wan", hook)));
    }
    for name in &options.lans {
        let layer3 = facts.named(name).is_some_and(|interface| interface.layer3);
        hooks.extend(attach::lan(object, name, layer3, options.xdp)?.into_iter().map(|hook| ("lan", hook)));
    }
    Ok(hooks)
}

fn hook_status(role: &str, hook: &Attached) -> HookStatus {
    HookStatus { interface: hook.interface.clone(), role: role.into(), hook: hook.hook.to_string() }
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
    object: Mutex<Object>,
    /// Why the network's last change is not in the tables.
    warning: Mutex<Option<String>>,
}

impl Controller {
    async fn follow(&self, mut changes: watch::Receiver<Facts>, options: &Options, words: Words) {
        while changes.changed().await.is_ok() {
            let facts = changes.borrow_and_update().clone();
            let updated = NetImage::new(&facts, &options.lans, &options.wans, words)
                .map_err(Into::into)
                .and_then(|net| self.object.lock().unwrap_or_else(PoisonError::into_inner).update_net(&net));
            let warning =
                updated.err().map(|error| format!("a change of addresses or routes is not followed: {error}"));
            *self.warning.lock().unwrap_or_else(PoisonError::into_inner) = warning;
        }
    }
}

impl Source for Controller {
    fn status(&self) -> Status {
        let mut status = self.status.clone();
        status.uptime_seconds = self.since.elapsed().as_secs();
        status.warnings.extend(self.warning.lock().unwrap_or_else(PoisonError::into_inner).clone());
        status
    }

    fn counters(&self) -> Counters {
        let values = self.object.lock().unwrap_or_else(PoisonError::into_inner).counters();
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
