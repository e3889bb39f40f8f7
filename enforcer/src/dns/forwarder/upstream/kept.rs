//! A connection that is made when it is needed, used by all queries at once, and made anew when it has ended.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::TcpStream,
    sync::{OnceCell, Semaphore},
    task::JoinHandle,
};

use super::{super::query::Query, fault::Fault, lock};

/// Queries on a connection at a time; more wait.
const MOST: usize = 1024;
/// How long a connection is kept on which no answer comes.
const IDLE: Duration = Duration::from_secs(30);
/// What the peer's system does not acknowledge in that time, as when it was restarted unseen, ends the connection. Less than an upstream's patience, so that
/// there is time to ask on a new one; retransmissions are at 0.2, 0.6 and 1.4 s, or later if the way is long.
const UNACKNOWLEDGED: Duration = Duration::from_secs(1);
/// How long a connection that could not be made stands for all who would try again: a handshake is dear.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a query is asked again of a server that ends connections after some answers.
const REPEATS: u32 = 3;
/// A connection that ends so soon after an answer ends because of the number of answers.
const BUSY: Duration = Duration::from_secs(1);
/// How long an upstream's limit of queries per connection is remembered.
const LIMIT_AGE: Duration = Duration::from_secs(60);

/// What reads and writes until a connection ends.
pub type Carrier = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How queries and answers are put on a connection.
pub trait Protocol: Send + Sync {
    /// What queries are handed to. When it goes, its carrier ends.
    type Client: Send + Sync + 'static;

    /// How long a connection may have unanswered queries and no answers until the next queries go to
    /// a new one.
    const STALL: Duration = Duration::MAX;

    /// Begins to speak on a connection.
    fn begin(&self, stream: TcpStream) -> impl Future<Output = Result<(Self::Client, Carrier), Fault>> + Send;

    /// Asks, and waits for the answer.
    fn ask(&self, client: &Self::Client, query: &Query) -> impl Future<Output = Result<Vec<u8>, Failure>> + Send;

    /// Returns how many answers came on a connection; 0 if the server announces the end of one itself.
    fn answered(client: &Self::Client) -> usize;
}

/// Why there was no answer.
#[derive(Debug)]
pub enum Failure {
    /// The connection ended before there was one.
    Ended(Fault),
    /// Another connection would not help.
    Final(Fault),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Ended(fault) | Failure::Final(fault) => fault,
        }
    }
}

/// Connections to one upstream. Queries go to the newest; others end with their last query.
pub struct Kept<P: Protocol> {
    protocol: P,
    address: SocketAddr,
    turns: Semaphore,
    place: Mutex<Arc<Place<P::Client>>>,
    /// How many queries the upstream answers on one connection, and when that was seen.
    limit: Mutex<Option<(usize, Instant)>>,
}

/// A connection, or why there is none, and since when.
struct Place<C> {
    connection: OnceCell<Result<Connection<C>, (Fault, Instant)>>,
    /// Queries that it was given.
    asked: AtomicUsize,
}

struct Connection<C> {
    client: C,
    /// When the last answer came.
    heard: Arc<Mutex<Instant>>,
    waiting: Mutex<Waiting>,
    carrying: JoinHandle<()>,
}

/// Queries without an answer on a connection.
struct Waiting {
    number: usize,
    /// When the first of them was asked.
    since: Instant,
}

/// One of the waiting queries, until it is dropped.
struct Wait<'a>(&'a Mutex<Waiting>);

impl<P: Protocol> Kept<P> {
    /// To an address. No connection is made yet.
    pub fn new(protocol: P, address: SocketAddr) -> Self {
        let turns = Semaphore::new(MOST);
        Self { protocol, address, turns, place: Mutex::default(), limit: Mutex::default() }
    }

    /// The answer to a query. If the connection ends before it comes, the query is asked again: once, or
    /// up to [`REPEATS`] times if the connection brought other answers. Some servers end each connection
    /// after a number of queries (dnsmasq: 100); the next connections get no more than that.
    pub async fn ask(&self, query: &Query) -> Result<Vec<u8>, Fault> {
        // An error would be of a semaphore that is closed; this never is.
        let _turn = self.turns.acquire().await;
        let mut repeats = 0;
        loop {
            let place = self.place();
            let fault = match self.ask_on(&place, query).await {
                Err(Failure::Ended(fault)) => fault,
                outcome => return Ok(outcome?),
            };
            // After a silence, the server's reason is the silence.
            let busy = place.connected().filter(|connection| lock(&connection.heard).elapsed() < BUSY);
            let answered = busy.map_or(0, |connection| P::answered(&connection.client));
            if answered > 0 {
                *lock(&self.limit) = Some((answered, Instant::now()));
            }
            self.leave(&place);
            let most = if answered > 0 { REPEATS } else { 1 };
            if repeats >= most {
                return Err(fault);
            }
            repeats += 1;
        }
    }

    /// Gives the connection up if nothing came since then.
    pub fn silent_since(&self, asked: Instant) {
        let place = Arc::clone(&lock(&self.place));
        if let Some(connection) = place.connected()
            && *lock(&connection.heard) < asked
        {
            self.leave(&place);
        }
    }

    async fn ask_on(&self, place: &Place<P::Client>, query: &Query) -> Result<Vec<u8>, Failure> {
        // If who connects for all goes away, the next does it.
        let connection =
            place.connection.get_or_init(async || self.connect().await.map_err(|fault| (fault, Instant::now())));
        let connection = connection.await.as_ref().map_err(|(fault, _)| Failure::Final(fault.clone()))?;
        let _wait = Wait::begin(&connection.waiting);
        let answer = self.protocol.ask(&connection.client, query).await?;
        *lock(&connection.heard) = Instant::now();
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection<P::Client>, Fault> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let milliseconds = UNACKNOWLEDGED.as_millis() as u32;
        setsockopt(&stream, sockopt::TcpUserTimeout, &milliseconds).map_err(io::Error::from)?;
        let (client, carrier) = self.protocol.begin(stream).await?;
        let now = Instant::now();
        let heard = Arc::new(Mutex::new(now));
        let last = Arc::clone(&heard);
        let carrying = tokio::spawn(async move {
            tokio::select! {
                () = carrier => {}
                () = silence(&last, IDLE) => {}
            }
        });
        let waiting = Mutex::new(Waiting { number: 0, since: now });
        Ok(Connection { client, heard, waiting, carrying })
    }

    /// The place of the connection that is there, or is being made, for one more query; a new one if it
    /// has ended, stalls, or takes no more queries.
    fn place(&self) -> Arc<Place<P::Client>> {
        let limit = lock(&self.limit).filter(|(_, when)| when.elapsed() < LIMIT_AGE);
        let mut place = lock(&self.place);
        let ended = match place.connection.get() {
            Some(Ok(connection)) => connection.carrying.is_finished() || connection.is_silent_for(P::STALL),
            Some(Err((_, when))) => when.elapsed() >= PAUSE,
            None => false,
        };
        if ended || limit.is_some_and(|(most, _)| place.asked.load(Ordering::Relaxed) >= most) {
            *place = Arc::default();
        }
        place.asked.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&place)
    }

    /// Makes room for a new connection; the old one goes with the last who uses it.
    fn leave(&self, left: &Arc<Place<P::Client>>) {
        let mut place = lock(&self.place);
        // Another may have left it before, and the next be there.
        if Arc::ptr_eq(&place, left) {
            *place = Arc::default();
        }
    }
}

impl<C> Default for Place<C> {
    fn default() -> Self {
        Self { connection: OnceCell::new(), asked: AtomicUsize::new(0) }
    }
}

impl<C> Place<C> {
    fn connected(&self) -> Option<&Connection<C>> {
        self.connection.get()?.as_ref().ok()
    }
}

impl<C> Connection<C> {
    /// Returns whether queries have waited for a time, in which no answer came.
    fn is_silent_for(&self, time: Duration) -> bool {
        let Waiting { number, since } = *lock(&self.waiting);
        number > 0 && since.max(*lock(&self.heard)).elapsed() >= time
    }
}

impl<'a> Wait<'a> {
    fn begin(waiting: &'a Mutex<Waiting>) -> Self {
        let mut now = lock(waiting);
        if now.number == 0 {
            now.since = Instant::now();
        }
        now.number += 1;
        Self(waiting)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        lock(self.0).number -= 1;
    }
}

/// Waits until no answer has come for a time.
async fn silence(heard: &Mutex<Instant>, time: Duration) {
    loop {
        let until = *lock(heard) + time;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_proto::rr::RecordType;
    use rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    };
    use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet, time};
    use tokio_rustls::TlsAcceptor;

    use super::{
        super::{
            super::stream,
            tls::Tls,
            trust::{Handshake, Trust},
        },
        *,
    };

    /// What a server does with a connection.
    #[derive(Clone, Copy)]
    enum Manner {
        /// Ends it before the handshake.
        Refuses,
        /// Ends it when a query comes.
        Ends,
        /// Takes queries, and says nothing.
        Listens,
        Answers,
    }
    use Manner::*;

    /// To a server that treats its connections so, one after the other, and all others as the last; and how many there were.
    async fn kept(manners: &'static [Manner]) -> (Arc<Kept<Tls>>, Arc<AtomicUsize>) {
        let signed = rcgen::generate_simple_self_signed(["dns.example".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, signed.cert.pem()).unwrap();
        let tls = Trust::load(Some(&ca)).unwrap().client(None).unwrap();
        let key = PrivateKeyDer::from_pem_slice(signed.signing_key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![signed.cert.into()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&count);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((connection, _)) = listener.accept().await {
                let number = counting.fetch_add(1, Ordering::Relaxed);
                let manner = manners.get(number).or(manners.last()).copied();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Some(Refuses) = manner {
                        return;
                    }
                    let mut connection = acceptor.accept(connection).await.unwrap();
                    while let Ok(mut message) = stream::read(&mut connection).await {
                        message[2] |= 0x80;
                        match manner {
                            Some(Ends) => return,
                            Some(Answers) => stream::write(&mut connection, &message).await.unwrap(),
                            _ => {}
                        }
                    }
                });
            }
        });
        let handshake = Handshake::new("dns.example".try_into().unwrap(), tls);
        let tls = Tls { handshake, counters: Arc::default() };
        (Arc::new(Kept::new(tls, address)), count)
    }

    fn query() -> Query {
        Query::new(&"www.example".parse().unwrap(), RecordType::A).unwrap()
    }

    fn block_on(test: impl Future<Output = ()>) {
        Runtime::new().unwrap().block_on(test);
    }

    #[test]
    fn one_connection_is_enough() {
        block_on(async {
            let (kept, count) = kept(&[Answers]).await;
            let mut asking = JoinSet::new();
            for _ in 0..100 {
                let kept = Arc::clone(&kept);
                asking.spawn(async move { kept.ask(&query()).await.unwrap() });
            }
            assert_eq!(asking.join_all().await.len(), 100);
            kept.ask(&query()).await.unwrap();
            assert_eq!(count.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn when_a_connection_ends_its_queries_are_asked_again_once() {
        block_on(async {
            let (well, count) = kept(&[Ends, Answers]).await;
            assert!(well.ask(&query()).await.is_ok());
            assert_eq!(count.load(Ordering::Relaxed), 2);
            let (ill, count) = kept(&[Ends]).await;
            let fault = ill.ask(&query()).await.unwrap_err();
            assert_eq!(fault.to_string(), "the connection ended before the answer");
            assert_eq!(count.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn a_connection_without_answers_is_given_up() {
        block_on(async {
            let (kept, count) = kept(&[Listens, Answers]).await;
            let mut rounds = 0;
            loop {
                let asked = Instant::now();
                if time::timeout(Duration::from_millis(200), kept.ask(&query())).await.is_ok() {
                    break;
                }
                kept.silent_since(asked);
                rounds += 1;
            }
            // When the first query came, there was no connection yet that could have been silent.
            assert_eq!((rounds, count.load(Ordering::Relaxed)), (2, 2));
        });
    }

    #[test]
    fn a_connection_that_cannot_be_made_is_not_tried_for_each_query() {
        block_on(async {
            let (kept, count) = kept(&[Refuses, Answers]).await;
            for _ in 0..100 {
                assert!(kept.ask(&query()).await.is_err());
            }
            assert_eq!(count.load(Ordering::Relaxed), 1);
            time::sleep(PAUSE).await;
            assert!(kept.ask(&query()).await.is_ok());
        });
    }

    #[test]
    fn silence_begins_with_the_last_answer() {
        const TIME: Duration = Duration::from_millis(300);
        block_on(async {
            let heard = Mutex::new(Instant::now());
            let answers = async {
                for _ in 0..4 {
                    time::sleep(TIME / 2).await;
                    *lock(&heard) = Instant::now();
                }
                Instant::now()
            };
            let (last, ()) = tokio::join!(answers, silence(&heard, TIME));
            assert!(last.elapsed() >= TIME * 9 / 10, "{:?}", last.elapsed());
        });
    }
}
