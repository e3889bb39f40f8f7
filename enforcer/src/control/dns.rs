//! The controller as the LAN's DNS server, and as one who asks for names itself.

use std::{
    collections::{BTreeSet, HashSet},
    future, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    task::JoinSet,
    time::{self, MissedTickBehavior},
};

use super::{Controller, Options, State, disk::today, learning::exact_names, snoop::Snooping};
use crate::{
    api::types::{NamesStatus, Resolved, ResolvedAddress, UpstreamStatus},
    dns::{
        Answer, Name, Question, RecordType,
        forwarder::{
            Config, Decision, Forwarder, Hooks, Limits, Service, rate,
            upstream::{Condition, Server, Upstreams},
        },
        resolver::{self, schedule::Schedule},
    },
    names::{How, store::Store},
    net::Facts,
};

/// Questions a second that are asked ahead of clients.
const RATE: u32 = 100;
/// How often is looked for addresses whose time is over.
const SWEEP: Duration = Duration::from_secs(1);
/// A resolver that answered so lately is taken to be heard.
const HEARD: Duration = Duration::from_secs(10);
/// Where the system's resolvers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What clients' questions and their answers lead to.
pub struct Asking(Weak<Controller>);

/// The interfaces whose clients are served DNS, by index: LANs, and the gateway's own loopback.
///
/// The gateway's own addresses are inside, too: for a packet that it sends to itself, the kernel
/// names the interface that has the address. An answer to a forged one does not leave the gateway.
pub struct Inside(RwLock<(HashSet<u32>, HashSet<IpAddr>)>);

impl Inside {
    pub fn new(options: &Options, facts: &Facts) -> Self {
        Self(RwLock::new((Self::of(&options.lans, facts), own(facts))))
    }

    /// Follows the network's changes.
    pub fn follow(&self, options: &Options, facts: &Facts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (Self::of(&options.lans, facts), own(facts));
    }

    fn has(&self, interface: Option<u32>) -> bool {
        let (interfaces, _) = &*self.0.read().unwrap_or_else(PoisonError::into_inner);
        interface.is_some_and(|interface| interfaces.contains(&interface))
    }

    fn is_own(&self, client: IpAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.contains(&client)
    }

    /// Sockets receive packets of a bridge's port from the bridge's interface.
    fn of(lans: &[String], facts: &Facts) -> HashSet<u32> {
        let lans = lans.iter().filter_map(|name| facts.named(name));
        let lans = lans.flat_map(|lan| [lan.index, facts.link_of(lan)]);
        lans.chain(facts.named("lo").map(|loopback| loopback.index)).collect()
    }
}

fn own(facts: &Facts) -> HashSet<IpAddr> {
    facts.addresses.iter().map(|address| address.own).collect()
}

impl Hooks for Asking {
    fn serves(&self, client: IpAddr, interface: Option<u32>) -> Service {
        let Some(controller) = self.0.upgrade() else { return Service::None };
        if client.is_loopback() || controller.inside.is_own(client) {
            Service::Gateway
        } else if controller.inside.has(interface) {
            Service::Full
        } else if controller.options.dns_allow.iter().any(|net| net.contains(&client)) {
            Service::Limited
        } else {
            Service::None
        }
    }

    fn decide(&self, client: IpAddr, question: &Question) -> Decision {
        // What the gateway itself asks is no client's.
        if client.is_loopback() {
            return Decision::Forward;
        }
        self.0.upgrade().map_or(Decision::Forward, |controller| {
            let in_force = controller.in_force();
            in_force.answers.decide(client, &question.name, in_force.schedule.now())
        })
    }

    async fn learned(&self, _: IpAddr, answer: &Answer) {
        if let Some(controller) = self.0.upgrade() {
            controller.learn(answer, How::Asked);
            controller.until_noted().await;
        }
    }
}

impl Controller {
    /// Listens for clients, if it is to, and brings back what was known before. Nothing is served yet.
    pub fn begin_dns(self: &Arc<Self>, options: &Options) -> Result<Store> {
        let listen = options.dns_listen.clone();
        let upstreams = match &options.dns_upstream[..] {
            [] => of_system(&listen)?,
            some => some.to_vec(),
        };
        let ca = options.dns_ca.clone();
        if ca.is_some() && !upstreams.iter().any(Server::is_encrypted) {
            bail!(
                "--dns-ca is for encrypted upstreams, and there is none; name one with --dns-upstream tls://ADDR#NAME"
            );
        }
        let limits = Limits::default();
        let asked = if listen.is_empty() {
            Arc::new(Upstreams::new(upstreams, ca.as_deref(), limits.upstream)?)
        } else {
            let config = Config { listen, upstreams, ca, limits, rate: Some(rate::CLIENT) };
            let forwarder = Forwarder::bind(config, Asking(Arc::downgrade(self)))?;
            self.forwarder.get_or_init(|| forwarder).upstreams()
        };
        self.upstreams.get_or_init(|| asked);
        let folder = &options.state;
        let store = Store::open(folder)
            .with_context(|| format!("cannot keep names' addresses in {}; choose another --state", folder.display()))?;
        let mut records = store.load().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        });
        records.extend(store.noted());
        if let State { object, learning: Some(learning), .. } = &mut *self.state() {
            learning.restore(object, records, Instant::now(), today());
        }
        Ok(store)
    }

    /// Serves clients, and asks for the policy's exact names ahead of them, until it is dropped.
    pub async fn serve_dns(&self) {
        let Some(upstreams) = self.upstreams.get() else { return future::pending().await };
        let mut changed = self.changed.subscribe();
        let resolving = async {
            loop {
                tokio::select! {
                    () = self.ask_ahead(upstreams) => {}
                    _ = changed.changed() => {}
                }
            }
        };
        let serving = async {
            if let Some(forwarder) = self.forwarder.get() {
                forwarder.run().await;
            }
        };
        tokio::join!(serving, resolving);
    }

    /// Asks for the exact names of the policy in force.
    async fn ask_ahead(&self, upstreams: &Arc<Upstreams>) {
        let in_force = self.in_force();
        let policy = &in_force.policy;
        let exact: BTreeSet<Name> = exact_names(policy).collect();
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let counts = seconds(policy.names.floor)..=seconds(policy.names.ceiling);
        let mut schedule = Schedule::new(exact, RATE, counts, Instant::now());
        let learned = async |answer: &Answer, kept| self.learn(answer, if kept { How::Kept } else { How::Resolved });
        resolver::run(&mut schedule, upstreams, learned).await;
    }

    /// Lets addresses end when their time is over.
    pub async fn end_names(&self) {
        let mut interval = time::interval(SWEEP);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking = JoinSet::new();
        loop {
            interval.tick().await;
            let now = Instant::now();
            let upstreams = self.upstreams.get().cloned();
            let asked = upstreams.as_ref().and_then(|upstreams| upstreams.heard());
            let heard = asked.max(self.snooping.as_ref().and_then(Snooping::heard));
            // While no resolver is heard, clients cannot ask again: nothing that they may have ends.
            let deaf = heard.is_none_or(|heard| now >= heard + HEARD);
            let mut due = None;
            if let State { object, learning: Some(learning), .. } = &mut *self.state() {
                due = learning.due(now).filter(|_| deaf);
                learning.sweep(object, now, due.is_some());
            }
            while asking.try_join_next().is_some() {}
            if let (Some(name), Some(upstreams), true) = (due, upstreams, asking.is_empty()) {
                asking.spawn(async move { resolver::ask(&upstreams, &name, RecordType::A).await });
            }
        }
    }

    pub fn learn(&self, answer: &Answer, how: How) {
        let State { object, learning: Some(learning), .. } = &mut *self.state() else { return };
        if learning.learn(object, &answer.question.name, how, &answer.addresses, Instant::now()) {
            self.fresh.notify_one();
        }
    }

    /// Asks for a name's addresses of both families, and learns them. An error says what is wrong.
    pub async fn resolve(&self, name: Name) -> Result<Resolved, String> {
        let Some(upstreams) = self.upstreams.get() else {
            return Err("names are not matched: run with --dns-listen or --dns-snoop".into());
        };
        let ask = |kind| resolver::ask(upstreams, &name, kind);
        let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
        let answers: Vec<Answer> = v4.into_iter().chain(v6).collect();
        let nothing = answers.iter().all(|answer| answer.addresses.is_empty());
        if answers.is_empty() || (answers.len() < 2 && nothing) {
            return Err("no resolver has an answer".into());
        }
        let mut resolved =
            Resolved { name: name.to_string(), services: Vec::new(), aliases: Vec::new(), addresses: Vec::new() };
        for answer in &answers {
            self.learn(answer, How::Resolved);
            let State { object, learning: Some(learning), .. } = &*self.state() else { continue };
            resolved.services = learning.services_of(&name);
            if answer.chain.len() > resolved.aliases.len() {
                resolved.aliases = answer.chain.iter().map(ToString::to_string).collect();
            }
            let address = |&(address, ttl): &(IpAddr, u32)| ResolvedAddress {
                address,
                ttl,
                matched: learning.is_matched(object, &name, address),
            };
            resolved.addresses.extend(answer.addresses.iter().map(address));
        }
        Ok(resolved)
    }

    /// How names are, and what learns them.
    pub fn names_status(&self, state: &State) -> Option<NamesStatus> {
        let (counts, unplaced) = state.learning.as_ref()?.counts();
        let asked = self.upstreams.get()?;
        let queries = asked.counters();
        let failures = queries.upstream_failures.iter().map(|(_, failures)| *failures);
        let upstreams = asked.conditions().into_iter().zip(failures);
        let upstreams = upstreams.map(|(Condition { server, well, error }, failures)| UpstreamStatus {
            address: server.to_string(),
            well,
            failures,
            error,
        });
        Some(NamesStatus {
            counts,
            unplaced,
            upstreams: upstreams.collect(),
            queries: self.forwarder.get().map(|_| queries),
            snooped: self.snooping.as_ref().map(Snooping::status),
        })
    }
}

/// The system's own resolvers, without this server.
fn of_system(listen: &[SocketAddr]) -> Result<Vec<Server>> {
    let text = std::fs::read_to_string(RESOLV_CONF).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error).with_context(|| format!("cannot read {RESOLV_CONF}")),
    })?;
    let found = nameservers(&text, listen);
    if found.is_empty() {
        let but = if listen.is_empty() { "" } else { " but this server itself" };
        bail!("{RESOLV_CONF} names no resolver{but}; name one with --dns-upstream ADDR:53");
    }
    Ok(found.into_iter().map(Server::from).collect())
}

/// The resolvers that a file in the form of resolv.conf(5) names, but those that are the listeners.
fn nameservers(text: &str, listen: &[SocketAddr]) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next())??.parse::<IpAddr>().ok()
    };
    let is_own = |upstream: &SocketAddr| {
        listen.iter().any(|own| {
            let everywhere = own.ip().is_unspecified() && upstream.ip().is_loopback();
            own.port() == upstream.port() && (own.ip() == upstream.ip() || everywhere)
        })
    };
    text.lines().filter_map(address).map(|address| SocketAddr::new(address, 53)).filter(|own| !is_own(own)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::facts::Interface;

    #[test]
    fn lans_their_bridges_and_the_loopback_are_inside() {
        let interface = |index, name: &str, master, joins| Interface {
            index,
            name: name.into(),
            master,
            joins,
            ..Interface::default()
        };
        let mut facts = Facts {
            interfaces: vec![
                interface(1, "lo", None, false),
                interface(2, "wan0", None, false),
                interface(3, "br0", None, true),
                interface(4, "port0", Some(3), false),
                interface(5, "lan0", None, false),
            ],
            ..Facts::default()
        };
        let lans = ["port0", "lan0", "gone0"].map(String::from).to_vec();
        let of = |facts: &Facts| {
            let mut inside: Vec<u32> = Inside::of(&lans, facts).into_iter().collect();
            inside.sort_unstable();
            inside
        };
        assert_eq!(of(&facts), [1, 3, 4, 5]);
        facts.interfaces[4].index = 9;
        assert_eq!(of(&facts), [1, 3, 4, 9]);
    }

    #[test]
    fn the_systems_resolvers_are_asked_but_not_this_server() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 127.0.0.1\n nameserver\t2001:db8::1 \nnameserver 10.1.0.1\nnameserver x\n";
        let of = |listen: &str| {
            let found = nameservers(text, &[listen.parse().unwrap()]);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("10.1.0.1:53"), "127.0.0.1:53 [2001:db8::1]:53");
        assert_eq!(of("0.0.0.0:53"), "[2001:db8::1]:53 10.1.0.1:53");
        assert_eq!(of("10.1.0.1:5353"), "127.0.0.1:53 [2001:db8::1]:53 10.1.0.1:53");
    }
}
