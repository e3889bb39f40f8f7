//! A connection by TLS that is made when it is needed, used by all queries at once, and made anew when it has ended.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::{OnceCell, Semaphore},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

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

/// A connection as a protocol gets it.
pub type Stream = TlsStream<TcpStream>;

/// What reads and writes until a connection ends.
pub type Carrier = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How queries and answers are put on a connection.
pub trait Protocol: Send + Sync {
    /// What queries are handed to. When it goes, its carrier ends.
    type Client: Send + Sync + 'static;

    /// Begins to speak.
    fn begin(&self, stream: Stream) -> impl Future<Output = Result<(Self::Client, Carrier), Fault>> + Send;

    /// Asks, and waits for the answer.
    fn ask(&self, client: &Self::Client, query: &Query) -> impl Future<Output = Result<Vec<u8>, Failure>> + Send;
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

/// Connections to one upstream, one at a time.
pub struct Kept<P: Protocol> {
    protocol: P,
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
    turns: Semaphore,
    place: Mutex<Arc<Place<P>>>,
}

/// A connection, or why there is none, and since when.
type Place<P> = OnceCell<Result<Connection<<P as Protocol>::Client>, (Fault, Instant)>>;

struct Connection<C> {
    client: C,
    /// When the last answer came.
    heard: Arc<Mutex<Instant>>,
    carrying: JoinHandle<()>,
}

impl<P: Protocol> Kept<P> {
    /// To an address whose certificate is for a name. No connection is made yet.
    pub fn new(protocol: P, address: SocketAddr, name: ServerName<'static>, tls: Arc<ClientConfig>) -> Self {
        let (turns, place) = (Semaphore::new(MOST), Mutex::default());
        Self { protocol, address, name, connector: tls.into(), turns, place }
    }

    /// The answer to a query. If the connection ends before it comes, the query is asked again, once.
    pub async fn ask(&self, query: &Query) -> Result<Vec<u8>, Fault> {
        // An error would be of a semaphore that is closed; this never is.
        let _turn = self.turns.acquire().await;
        let place = self.place();
        match self.ask_on(&place, query).await {
            Err(Failure::Ended(_)) => {
                self.leave(&place);
                Ok(self.ask_on(&self.place(), query).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Gives the connection up if nothing came since then.
    pub fn silent_since(&self, asked: Instant) {
        let place = self.place();
        if let Some(Ok(connection)) = place.get()
            && *lock(&connection.heard) < asked
        {
            self.leave(&place);
        }
    }

    async fn ask_on(&self, place: &Place<P>, query: &Query) -> Result<Vec<u8>, Failure> {
        // If who connects for all goes away, the next does it.
        let connection = place.get_or_init(async || self.connect().await.map_err(|fault| (fault, Instant::now())));
        let connection = connection.await.as_ref().map_err(|(fault, _)| Failure::Final(fault.clone()))?;
        let answer = self.protocol.ask(&connection.client, query).await?;
        *lock(&connection.heard) = Instant::now();
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection<P::Client>, Fault> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let milliseconds = UNACKNOWLEDGED.as_millis() as u32;
        setsockopt(&stream, sockopt::TcpUserTimeout, &milliseconds).map_err(io::Error::from)?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let (client, carrier) = self.protocol.begin(stream).await?;
        let heard = Arc::new(Mutex::new(Instant::now()));
        let last = Arc::clone(&heard);
        let carrying = tokio::spawn(async move {
            tokio::select! {
                () = carrier => {}
                () = silence(&last, IDLE) => {}
            }
        });
        Ok(Connection { client, heard, carrying })
    }

    /// The place of the connection that is there, or is being made; a new one if it has ended.
    fn place(&self) -> Arc<Place<P>> {
        let mut place = lock(&self.place);
        let ended = match place.get() {
            Some(Ok(connection)) => connection.carrying.is_finished(),
            Some(Err((_, when))) => when.elapsed() >= PAUSE,
            None => false,
        };
        if ended {
            *place = Arc::default();
        }
        Arc::clone(&place)
    }

    /// Makes room for a new connection; the old one goes with the last who uses it.
    fn leave(&self, left: &Arc<Place<P>>) {
        let mut place = lock(&self.place);
        // Another may have left it before, and the next be there.
        if Arc::ptr_eq(&place, left) {
            *place = Arc::default();
        }
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
        super::{super::stream, tls::Tls, trust::Trust},
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
        let name = "dns.example".try_into().unwrap();
        (Arc::new(Kept::new(Tls { counters: Arc::default() }, address, name, tls)), count)
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
