//! A listener's connections: so many at a time. Where there are too many, those go that keep us waiting: clients that are late with their requests or do not
//! read their answers cannot keep out others.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time,
};

use super::serving::{self, Patience};

/// Whose connection it is. Clients of one kind share what is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, by its number if that is known.
    Process(Option<i32>),
    /// A machine, or an IPv6 /64: one alone can take as many addresses from it as it likes.
    Network(IpAddr),
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At a time.
    pub all: usize,
    /// Of a peer.
    pub of_peer: usize,
    /// Bytes of a policy that one may send; 0 where none is taken.
    pub largest_policy: usize,
}

/// A client that has not read for so long is gone.
const STUCK: Duration = Duration::from_secs(60);
/// How often is looked for those.
const LOOK: Duration = Duration::from_secs(5);
/// How often is looked for a place where all clients are being served.
const AGAIN: Duration = Duration::from_millis(20);
/// What a client may take for its request even where others want its place: requests that came many at once are read before that.
const GRACE: Duration = Duration::from_millis(50);

struct Open {
    peer: Peer,
    patience: Arc<Patience>,
    task: AbortHandle,
}

/// Serves what `accept` gives, until it is dropped; connections end with it.
pub async fn serve<S>(mut accept: impl AsyncFnMut() -> io::Result<(S, Peer)>, limits: Limits, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut open: Vec<Open> = Vec::new();
    let mut tasks = JoinSet::new();
    let mut look = time::interval(LOOK);
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next_with_id() => forget(&mut open, ended),
            _ = look.tick() => cut_off_stuck(&mut open),
            accepted = accept() => match accepted {
                Ok((stream, peer)) => {
                    if !make_room_of(&mut open, peer, limits.of_peer) {
                        continue;
                    }
                    while !make_room(&mut open, limits.all) {
                        tokio::select! {
                            Some(ended) = tasks.join_next_with_id() => forget(&mut open, ended),
                            () = time::sleep(AGAIN) => {}
                        }
                    }
                    let patience = Arc::new(Patience::new());
                    let task = tasks.spawn(serving::serve(stream, router.clone(), Arc::clone(&patience), limits.largest_policy));
                    open.push(Open { peer, patience, task });
                }
                // Out of descriptors: accepting again at once would spin.
                Err(_) => time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

fn forget(open: &mut Vec<Open>, ended: Result<(Id, ()), JoinError>) {
    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
    open.retain(|connection| connection.task.id() != id);
}

fn cut_off_stuck(open: &mut Vec<Open>) {
    open.retain(|connection| {
        let stuck = connection.patience.since().is_some_and(|since| since.elapsed() > STUCK);
        if stuck {
            connection.task.abort();
        }
        !stuck
    });
}

/// Whether a peer may have one more connection, if need be for one of its own that waits for it.
fn make_room_of(open: &mut Vec<Open>, peer: Peer, limit: usize) -> bool {
    let own = || open.iter().filter(|connection| connection.peer == peer);
    own().count() < limit || end_longest(open, |other, _| other == peer)
}

/// Whether there is a place, if need be one of those that wait for their clients. Of these, those of a peer with most of them go first, so that who has
/// one is not pushed out by who has many.
fn make_room(open: &mut Vec<Open>, limit: usize) -> bool {
    let most = open.iter().map(|connection| waiting(open, connection.peer)).max();
    open.len() < limit || end_longest(open, |peer, open| Some(waiting(open, peer)) == most)
}

/// How many connections of a peer wait for it.
fn waiting(open: &[Open], peer: Peer) -> usize {
    open.iter().filter(|connection| connection.peer == peer && connection.patience.since().is_some()).count()
}

/// Ends the connection of such a peer that has waited longest; whether there was one.
fn end_longest(open: &mut Vec<Open>, of: impl Fn(Peer, &[Open]) -> bool) -> bool {
    let candidates = open.iter().enumerate().filter(|(_, connection)| of(connection.peer, open));
    let since = |(index, connection): (usize, &Open)| {
        connection.patience.since().filter(|since| since.elapsed() >= GRACE).map(|since| (since, index))
    };
    let Some((_, index)) = candidates.filter_map(since).min() else { return false };
    open.swap_remove(index).task.abort();
    true
}
