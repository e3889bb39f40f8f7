//! Facts from netlink, again whenever something changed.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkMessage, route::RouteType},
};
use tokio::{
    sync::{Notify, watch},
    time,
};

use super::{
    facts::{Address, Facts, Interface},
    messages::{address, hops, interface, own},
};

/// Changes come in bursts (an address brings routes along); they are read together after this silence,
const SILENCE: Duration = Duration::from_millis(200);
/// but no later than this: where routes flap all the time there is no silence.
const PATIENCE: Duration = Duration::from_secs(2);
/// Links and addresses that come and go are not left until then, so many times at once,
const AT_ONCE: u32 = 20;
/// and then one time in this: whoever makes and removes them in a loop does not keep the controller busy.
const PACE: Duration = Duration::from_millis(100);
/// Read again even if nothing was heard: a socket that overflowed has lost messages.
const RESYNC: Duration = Duration::from_secs(60);

/// Longer than a dump takes of the largest routing table.
const DUMP: Duration = Duration::from_secs(30);

/// Reads the facts of this network namespace once.
///
/// # Errors
/// If netlink refuses, or does not answer.
pub async fn read() -> Result<Facts, rtnetlink::Error> {
    asked(async |handle| {
        let (interfaces, addresses) = (interfaces(&handle).await?, addresses(&handle).await?);
        let mut facts = Facts { interfaces, addresses, ..Facts::default() };
        routes(&handle, &mut facts).await?;
        Ok(facts)
    })
    .await
}

/// Asks over a socket of its own: among notifications, an answer could be mistaken.
async fn asked<T>(question: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>) -> Result<T, rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| io(&error))?;
    let connection = tokio::spawn(connection);
    let answer = time::timeout(DUMP, question(handle)).await;
    connection.abort();
    answer.unwrap_or_else(|_| Err(io(&std::io::ErrorKind::TimedOut.into())))
}

/// The facts, and when they were heard to have changed.
#[derive(Clone, Debug)]
pub struct Told {
    /// As they are now.
    pub facts: Facts,
    /// When the first word of the change came.
    pub since: Instant,
}

/// Keeps the facts current in the channel; a link or an address that has come or gone is told of at once. Ends when nobody listens any more, or when the socket for notifications is gone and a new one is needed.
///
/// # Errors
/// If netlink refuses at the start. Facts that cannot be read later are told, and read again at the next change or after a minute.
pub fn follow(current: &watch::Sender<Told>) -> Result<impl Future<Output = ()>, rtnetlink::Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(|error| io(&error))?;
    Ok(async move {
        let connection = tokio::spawn(connection);
        let follower = Follower { current, heard: Notify::new(), links: Cell::new(0) };
        tokio::select! {
            () = current.closed() => {}
            () = follower.links(messages) => {}
            () = follower.all() => {}
        }
        connection.abort();
    })
}

/// Links and addresses are read beside routes, which takes seconds where there are many.
struct Follower<'a> {
    current: &'a watch::Sender<Told>,
    /// A message of whatever kind has come.
    heard: Notify,
    /// How often all but routes was read.
    links: Cell<u64>,
}

impl Follower<'_> {
    /// Reads all facts when a burst is over.
    async fn all(&self) {
        let mut since = Instant::now();
        loop {
            let links = self.links.get();
            match read().await {
                Ok(mut facts) => self.tell(since, |known| {
                    // Those that were read meanwhile are newer.
                    if links != self.links.get() {
                        facts.interfaces.clone_from(&known.interfaces);
                        facts.addresses.clone_from(&known.addresses);
                    }
                    let changed = *known != facts;
                    *known = facts;
                    changed
                }),
                Err(error) => tracing::error!("cannot read interfaces and routes: {error}"),
            }
            let _ = time::timeout(RESYNC, self.heard.notified()).await;
            since = Instant::now();
            let burst = async { while time::timeout(SILENCE, self.heard.notified()).await.is_ok() {} };
            // Cut short or not, the facts are read anew.
            let _ = time::timeout(PATIENCE, burst).await;
        }
    }

    /// Reads links and addresses when a message says something new of one; until there are no messages any more.
    async fn links<A>(&self, mut messages: impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, A)> + Unpin) {
        let mut news: Option<Instant> = None;
        let longest = |now: Instant| now.checked_sub(PACE * AT_ONCE);
        let mut due = longest(Instant::now()).unwrap_or_else(Instant::now);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else { return };
                    self.heard.notify_one();
                    if is_news(&self.current.borrow().facts, &message.payload) {
                        news.get_or_insert_with(Instant::now);
                    }
                }
                () = time::sleep_until(due.into()), if news.is_some() => {
                    let (now, since) = (Instant::now(), news.take());
                    due = longest(now).map_or(due, |longest| due.max(longest)) + PACE;
                    let read = asked(async |handle| Ok((interfaces(&handle).await?, addresses(&handle).await?)));
                    match read.await {
                        Ok((interfaces, addresses)) => {
                            self.links.set(self.links.get() + 1);
                            self.tell(since.unwrap_or(now), |known| {
                                let changed = known.interfaces != interfaces || known.addresses != addresses;
                                let are_here: HashSet<u32> = interfaces.iter().map(|interface| interface.index).collect();
                                // With an interface its routes have gone.
                                known.routes.retain(|route| route.interface.is_none_or(|index| are_here.contains(&index)));
                                (known.interfaces, known.addresses) = (interfaces, addresses);
                                changed
                            });
                        }
                        Err(error) => tracing::error!("cannot read interfaces and addresses: {error}"),
                    }
                }
            }
        }
    }

    /// `update` is whether it has changed anything.
    fn tell(&self, since: Instant, update: impl FnOnce(&mut Facts) -> bool) {
        self.current.send_if_modified(|known| {
            let changed = update(&mut known.facts);
            if changed {
                known.since = since;
            }
            changed
        });
    }
}

/// Whether a message is of a link that is not known, by that name or in that bridge, of an address that is not known, or of one that is no more; or whether
/// messages were lost. Of the rest there is no end: carriers that come and go, what programs do that are attached, addresses that are used for longer.
fn is_news(known: &Facts, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) if is_of_link(link) => {
            let told = interface(link);
            known.indexed(told.index).is_none_or(|known| (&known.name, known.master) != (&told.name, told.master))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) if is_of_link(link) => {
            known.indexed(link.header.index).is_some()
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(told)) => {
            address(told).is_some_and(|told| !known.addresses.contains(&told))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(told)) => {
            address(told).is_some_and(|told| known.addresses.contains(&told))
        }
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

/// Not of what a bridge knows of its port, which ends before the link does.
fn is_of_link(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

pub(super) fn io(error: &std::io::Error) -> rtnetlink::Error {
    rtnetlink::Error::NamespaceError(error.to_string())
}

async fn interfaces(handle: &Handle) -> Result<Vec<Interface>, rtnetlink::Error> {
    let mut interfaces = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let interface = interface(&link);
        interfaces.insert(interface.index, interface);
    }
    Ok(interfaces.into_values().collect())
}

async fn addresses(handle: &Handle) -> Result<Vec<Address>, rtnetlink::Error> {
    let addresses = handle.address().get().execute();
    addresses.try_filter_map(async |message| Ok(address(&message))).try_collect().await
}

/// Routes, and what is the gateway's own by them.
async fn routes(handle: &Handle, facts: &mut Facts) -> Result<(), rtnetlink::Error> {
    for message in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
        let mut dumped = handle.route().get(message).execute();
        while let Some(message) = dumped.try_next().await? {
            match message.header.kind {
                RouteType::Local | RouteType::Broadcast | RouteType::Anycast => facts.own.extend(own(&message)),
                _ => facts.routes.extend(hops(&message)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::LinkAttribute,
    };

    use super::*;

    fn link(index: u32, name: &str, more: &[LinkAttribute]) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = [&[LinkAttribute::IfName(name.into())], more].concat();
        link
    }

    #[test]
    fn only_what_is_new_of_a_link_or_an_address_is_news() {
        let interface =
            |index, name: &str, master| Interface { index, name: name.into(), master, ..Interface::default() };
        let interfaces = vec![interface(2, "lan0", None), interface(3, "port0", Some(4))];
        let own = |last| {
            let mut message = AddressMessage::default();
            (message.header.index, message.header.prefix_len) = (2, 24);
            message.attributes.push(AddressAttribute::Address([10, 1, 0, last].into()));
            message
        };
        let known = Facts { interfaces, addresses: address(&own(1)).into_iter().collect(), ..Facts::default() };
        let come = |link| is_news(&known, &NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)));
        let gone = |link| is_news(&known, &NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)));
        assert!(come(link(5, "lan1", &[])), "it has come");
        assert!(come(link(2, "lan1", &[])), "it is called otherwise");
        assert!(come(link(2, "lan0", &[LinkAttribute::Controller(4)])), "it is a port now");
        assert!(come(link(3, "port0", &[])), "it is a port no more");
        assert!(gone(link(2, "lan0", &[])), "it is gone");
        assert!(is_news(&known, &NetlinkPayload::Overrun(Vec::new())), "messages were lost");
        let addressed = |message| is_news(&known, &NetlinkPayload::InnerMessage(message));
        assert!(addressed(RouteNetlinkMessage::NewAddress(own(2))), "it has come");
        assert!(addressed(RouteNetlinkMessage::DelAddress(own(1))), "it is gone");
        assert!(!addressed(RouteNetlinkMessage::NewAddress(own(1))), "it is valid for longer");
        assert!(!addressed(RouteNetlinkMessage::DelAddress(own(2))), "it never was");
        assert!(!come(link(2, "lan0", &[LinkAttribute::Carrier(0)])), "its cable");
        assert!(!come(link(3, "port0", &[LinkAttribute::Controller(4)])), "nothing");
        assert!(!gone(link(5, "lan1", &[])), "it never was");
        let mut port = link(3, "port0", &[LinkAttribute::Controller(4)]);
        port.header.interface_family = AddressFamily::Bridge;
        assert!(!gone(port), "the link stays when the port goes");
    }
}
