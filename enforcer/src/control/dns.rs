//! The controller as the LAN's DNS server, and as one who asks for names itself.

use std::{
    collections::BTreeSet,
    future, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use tokio::time::{self, MissedTickBehavior};

use super::{Controller, Options, State, snoop::Snooping};
use crate::{
    api::types::{NamesStatus, UpstreamStatus},
    dns::{
        Answer, Name, Question,
        forwarder::{Config, Decision, Forwarder, Hooks, Limits, counters::Counters, upstream::Upstreams},
        resolver::{self, schedule::Schedule},
    },
    names::{
        How,
        store::{Record, Store},
    },
    policy::Policy,
};

/// Questions a second that are asked ahead of clients.
const RATE: u32 = 100;
/// How often is looked for addresses whose time is over.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the disk is brought up to date.
const SAVE: Duration = Duration::from_secs(5);
/// Where the system's resolvers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What clients' questions and their answers lead to.
pub struct Asking(Weak<Controller>);

impl Hooks for Asking {
    fn decide(&self, _: IpAddr, _: &Question) -> Decision {
        Decision::Forward
    }

    async fn learned(&self, _: IpAddr, answer: &Answer) {
        if let Some(controller) = self.0.upgrade() {
            controller.learn(answer, How::Asked);
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
        let limits = Limits::default();
        let asked = if listen.is_empty() {
            let counters = Arc::new(Counters::new(&upstreams));
            Arc::new(Upstreams::new(upstreams, limits.upstream, counters))
        } else {
            let config = Config { listen, upstreams, limits };
            let forwarder = Forwarder::bind(config, Asking(Arc::downgrade(self)))?;
            self.forwarder.get_or_init(|| forwarder).upstreams()
        };
        self.upstreams.get_or_init(|| asked);
        let folder = &options.state;
        let store = Store::open(folder)
            .with_context(|| format!("cannot keep names' addresses in {}; choose another --state", folder.display()))?;
        match store.load() {
            Ok(records) => {
                let State { object, learning, .. } = &mut *self.state();
                if let Some(learning) = learning {
                    learning.restore(object, records, Instant::now(), today());
                }
            }
            Err(error) => eprintln!("enforcer: {error}"),
        }
        Ok(store)
    }

    /// Serves clients, and asks for the policy's exact names ahead of them, until it is dropped.
    pub async fn serve_dns(&self, policy: &Policy) {
        let Some(upstreams) = self.upstreams.get() else { return future::pending().await };
        let exact = policy.named().flat_map(|(_, service)| &service.names).filter(|name| !name.is_wildcard());
        let exact: BTreeSet<Name> = exact.filter_map(|name| name.to_string().parse().ok()).collect();
        let mut schedule = Schedule::new(exact, RATE, Instant::now());
        let resolving = resolver::run(&mut schedule, upstreams, async |answer| self.learn(answer, How::Resolved));
        let serving = async {
            if let Some(forwarder) = self.forwarder.get() {
                forwarder.run().await;
            }
        };
        tokio::join!(serving, resolving);
    }

    /// Lets addresses end when their time is over, and keeps the disk up to date.
    pub async fn keep_names(&self, store: Option<&Store>) {
        let Some(store) = store else { return future::pending().await };
        let mut interval = time::interval(SWEEP);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saved = Instant::now();
        loop {
            interval.tick().await;
            let now = Instant::now();
            if let State { object, learning: Some(learning), .. } = &mut *self.state() {
                learning.sweep(object, now);
            }
            if now >= saved + SAVE {
                saved = now;
                // A disk may be slow; all else goes on meanwhile.
                let (records, store) = (self.changed(), store.clone());
                let _ = tokio::task::spawn_blocking(move || save(&store, records)).await;
            }
        }
    }

    /// Brings the disk up to date.
    pub fn save(&self, store: &Store) {
        save(store, self.changed());
    }

    fn changed(&self) -> Option<Vec<Record>> {
        self.state().learning.as_mut()?.changed(Instant::now(), today())
    }

    pub fn learn(&self, answer: &Answer, how: How) {
        if let State { object, learning: Some(learning), .. } = &mut *self.state() {
            learning.learn(object, &answer.question.name, how, &answer.addresses, Instant::now());
        }
    }

    /// How names are, and what learns them.
    pub fn names_status(&self, state: &State) -> Option<NamesStatus> {
        let (counts, unplaced) = state.learning.as_ref()?.counts();
        let asked = self.upstreams.get()?;
        let queries = asked.counters();
        let failures = queries.upstream_failures.iter().map(|(_, failures)| *failures);
        let upstreams = asked.well().into_iter().zip(failures);
        let upstreams = upstreams.map(|((address, well), failures)| UpstreamStatus { address, well, failures });
        Some(NamesStatus {
            counts,
            unplaced,
            upstreams: upstreams.collect(),
            queries: self.forwarder.get().map(|_| queries),
            snooped: self.snooping.as_ref().map(Snooping::status),
        })
    }
}

fn save(store: &Store, changed: Option<Vec<Record>>) {
    if let Some(Err(error)) = changed.map(|records| store.save(records)) {
        eprintln!("enforcer: names' addresses are not kept over a restart: {error}");
    }
}

/// The time since 1970.
fn today() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The system's own resolvers, without this server.
fn of_system(listen: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(RESOLV_CONF).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(String::new()),
        _ => Err(error).with_context(|| format!("cannot read {RESOLV_CONF}")),
    })?;
    let found = nameservers(&text, listen);
    if found.is_empty() {
        let but = if listen.is_empty() { "" } else { " but this server itself" };
        bail!("{RESOLV_CONF} names no resolver{but}; name one with --dns-upstream ADDR:53");
    }
    Ok(found)
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
    use super::nameservers;

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
