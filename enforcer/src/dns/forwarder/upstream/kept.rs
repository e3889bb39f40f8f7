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
    use std::{
        sync::Mutex,
        time::{Duration, Instant},
    };

    use tokio::{runtime::Runtime, time};

    use super::silence;

    #[test]
    fn silence_begins_with_the_last_answer() {
        const TIME: Duration = Duration::from_millis(300);
        Runtime::new().unwrap().block_on(async {
            let heard = Mutex::new(Instant::now());
            let answers = async {
                for _ in 0..4 {
                    time::sleep(TIME / 2).await;
                    *heard.lock().unwrap() = Instant::now();
                }
                Instant::now()
            };
            let (last, ()) = tokio::join!(answers, silence(&heard, TIME));
            assert!(last.elapsed() >= TIME * 9 / 10, "{:?}", last.elapsed());
        });
    }
}
