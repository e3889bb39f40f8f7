//! Asking the resolvers behind.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpStream, UdpSocket},
    sync::{OnceCell, Semaphore},
    time,
};

use super::{
    counters::{Counters, Snapshot},
    flights::Flights,
    health::Health,
    query::Query,
    stream,
};
use crate::dns::Question;

/// The largest message.
const MAX_MESSAGE: usize = 65_535;

/// How many datagrams for one question may be under way that differ in the rest, such as in EDNS options. Each opens a port and an id, of which who forges
/// answers need guess only one (the birthday attack of RFC 5452 and VU#457875), and one client can send any number of them.
const FORMS: usize = 4;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One in a datagram.
    Udp,
    /// Many on a connection.
    Tcp,
}

/// The answer to all equal queries, when there is one or none is to come.
type Outcome = OnceCell<Option<Vec<u8>>>;

/// Resolvers, of which any can answer. Should one of them be there to refuse what does not pass DNSSEC, all must: what one cannot answer, the next is asked.
pub struct Upstreams {
    addresses: Vec<SocketAddr>,
    /// One that takes no TCP may still be well by UDP.
    health: [Mutex<Health>; 2],
    flights: Flights<(Transport, Box<[u8]>), Outcome>,
    forms: Flights<Question, Semaphore>,
    patience: Duration,
    counters: Arc<Counters>,
}

impl Upstreams {
    /// Resolvers in the order of preference, and how long each may take to answer.
    pub fn new(addresses: Vec<SocketAddr>, patience: Duration, counters: Arc<Counters>) -> Self {
        let health = [(); 2].map(|()| Mutex::new(Health::new(addresses.len(), patience)));
        let (flights, forms) = (Flights::default(), Flights::default());
        Self { addresses, health, flights, forms, patience, counters }
    }

    /// Each with whether it is asked before those that do not answer by UDP.
    pub fn well(&self) -> Vec<(SocketAddr, bool)> {
        let health = self.health(Transport::Udp);
        let well = |(which, address): (usize, &SocketAddr)| (*address, health.is_well(which, Instant::now()));
        self.addresses.iter().enumerate().map(well).collect()
    }

    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// The first answer that one of them gives, under an id and in a case of its own; if none can answer, what the first says of that; none if all fail.
    /// Equal queries at the same time are one to the upstreams.
    pub async fn ask(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let flight = self.flights.join((transport, query.essence()), Outcome::default);
        if flight.joined {
            self.counters.joined.add();
        }
        // If who asks for all goes away, the next does it.
        let asking = flight.shared.get_or_init(async || {
            let answer = match transport {
                Transport::Udp => self.in_turn(query).await,
                Transport::Tcp => self.ask_each(query, transport).await,
            };
            // An answer is for those who waited for it; this is no cache.
            flight.close();
            answer
        });
        asking.await.clone()
    }

    /// Asks when few others ask for the same question in another form.
    async fn in_turn(&self, query: &Query) -> Option<Vec<u8>> {
        let forms = self.forms.join(query.question.clone(), || Semaphore::new(FORMS));
        let Ok(turn) = time::timeout(self.patience, forms.shared.acquire()).await else {
            self.counters.crowded.add();
            return None;
        };
        let answer = self.ask_each(query, Transport::Udp).await;
        drop(turn);
        answer
    }

    async fn ask_each(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let order = self.health(transport).order(Instant::now());
        let mut at_a_loss = Vec::new();
        let mut kept = None;
        for which in order {
            let asked = Instant::now();
            let answer = async {
                match transport {
                    Transport::Udp => self.by_udp(self.addresses[which], query).await,
                    Transport::Tcp => self.by_tcp(self.addresses[which], query).await,
                }
            };
            match time::timeout(self.patience, answer).await {
                Ok(Ok(answer)) if !is_final(&answer) => {
                    self.counters.at_a_loss.add();
                    at_a_loss.push((which, asked));
                    kept.get_or_insert(answer);
                    continue;
                }
                Ok(Ok(answer)) => {
                    let mut health = self.health(transport);
                    health.answered(which);
                    // That others could not was their fault, not the name's.
                    for (which, asked) in at_a_loss {
                        health.at_a_loss(which, &query.question, asked, Instant::now());
                    }
                    return Some(answer);
                }
                // Refused, unreachable or closed: there is nothing to wait for.
                Ok(Err(_)) => {}
                Err(_) => self.counters.timeouts.add(),
            }
            self.counters.upstream_failures[which].1.add();
            self.health(transport).failed(which, asked, Instant::now());
        }
        kept
    }

    /// A socket for each query has a random port, and takes datagrams from the upstream's address and port alone. Who cannot see the query must guess, while
    /// it is open, 16 bits of id, 14.8 of port (Linux gives out 32,768 to 60,999 unless told otherwise), and one for each letter of the name; less the
    /// two bits of [`FORMS`], and one for each further upstream that is asked.
    async fn by_udp(&self, upstream: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
        let any = if upstream.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(upstream).await?;
        let sent = query.disguised();
        socket.send(sent.bytes()).await?;
        loop {
            // Thousands may wait; only who has something to read takes memory for it.
            socket.readable().await?;
            let mut message = Vec::with_capacity(MAX_MESSAGE);
            match socket.try_recv_buf(&mut message) {
                Ok(_) if sent.is_answered_by(&message) => {
                    message.shrink_to_fit();
                    return Ok(message);
                }
                // The true answer may still come.
                Ok(_) => self.counters.mismatched.add(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// On a connection of its own: dnsmasq remembers on one whether there was EDNS, and then gives it to those who asked without.
    async fn by_tcp(&self, upstream: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect(upstream).await?;
        let sent = query.disguised();
        stream::write(&mut connection, sent.bytes()).await?;
        loop {
            let message = stream::read(&mut connection).await?;
            if sent.is_answered_by(&message) {
                return Ok(message);
            }
            self.counters.mismatched.add();
        }
    }

    fn health(&self, transport: Transport) -> MutexGuard<'_, Health> {
        self.health[transport as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an answer says how things are (NOERROR, NXDOMAIN, YXDOMAIN), and not that the upstream cannot say.
fn is_final(answer: &[u8]) -> bool {
    matches!(answer[3] & 15, 0 | 3 | 6)
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::{net::UdpSocket, runtime::Runtime, task::JoinSet, time};

    use super::{FORMS, Transport, Upstreams};
    use crate::dns::forwarder::{counters::Counters, query::Query};

    const PATIENCE: Duration = Duration::from_secs(5);

    fn upstreams(addresses: &[SocketAddr]) -> (Arc<Upstreams>, Arc<Counters>) {
        let counters = Arc::new(Counters::new(addresses));
        (Arc::new(Upstreams::new(addresses.to_vec(), PATIENCE, Arc::clone(&counters))), counters)
    }

    /// For the addresses of a name, with an EDNS option that says nothing but a number.
    fn query(id: u16, name: &str, option: Option<u16>) -> Query {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, option.is_some().into()]);
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        if let Some(number) = option {
            bytes.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\xfd\xe9\x00\x02");
            bytes.extend(number.to_be_bytes());
        }
        Query::read(bytes).unwrap()
    }

    /// An answer without records.
    fn answer(query: &[u8], code: u8) -> Vec<u8> {
        let mut bytes = query.to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80 | code]);
        bytes
    }

    /// A server whose answers have the code that is made of its queries, after a time. It counts them, and the most at a time.
    async fn server(delay: Duration, code: fn(&[u8]) -> u8) -> (SocketAddr, Arc<[AtomicUsize; 3]>) {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let counts: Arc<[AtomicUsize; 3]> = Arc::default();
        let seen = Arc::clone(&counts);
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let message = buffer[..length].to_vec();
                seen[0].fetch_add(1, Ordering::Relaxed);
                let now = seen[1].fetch_add(1, Ordering::Relaxed) + 1;
                seen[2].fetch_max(now, Ordering::Relaxed);
                let (socket, seen) = (Arc::clone(&socket), Arc::clone(&seen));
                tokio::spawn(async move {
                    time::sleep(delay).await;
                    seen[1].fetch_sub(1, Ordering::Relaxed);
                    let _ = socket.send_to(&answer(&message, code(&message)), from).await;
                });
            }
        });
        (address, counts)
    }

    fn count(counts: &[AtomicUsize; 3]) -> usize {
        counts[0].load(Ordering::Relaxed)
    }

    #[test]
    fn equal_questions_at_a_time_are_one_to_the_upstream() {
        Runtime::new().unwrap().block_on(async {
            let (address, counts) = server(Duration::from_millis(300), |_| 0).await;
            let (upstreams, counters) = upstreams(&[address]);
            let mut asking = JoinSet::new();
            for id in 0..64 {
                let upstreams = Arc::clone(&upstreams);
                asking.spawn(async move {
                    let query = query(id, if id % 2 == 0 { "wWw.example" } else { "www.EXAMPLE" }, None);
                    let mut got = upstreams.ask(&query, Transport::Udp).await.unwrap();
                    query.claim(&mut got);
                    assert_eq!(got, answer(query.bytes(), 0));
                });
            }
            asking.join_all().await;
            assert_eq!((count(&counts), counters.snapshot().joined), (1, 63));
            // It is no cache.
            upstreams.ask(&query(1, "www.example", None), Transport::Udp).await.unwrap();
            assert_eq!(count(&counts), 2);
        });
    }

    #[test]
    fn if_who_asks_for_others_goes_away_they_still_get_the_answer() {
        Runtime::new().unwrap().block_on(async {
            let (address, _) = server(Duration::from_millis(300), |_| 0).await;
            let (upstreams, _) = upstreams(&[address]);
            let ask = || {
                let upstreams = Arc::clone(&upstreams);
                tokio::spawn(async move { upstreams.ask(&query(1, "www.example", None), Transport::Udp).await })
            };
            let first = ask();
            time::sleep(Duration::from_millis(50)).await;
            let second = ask();
            time::sleep(Duration::from_millis(50)).await;
            first.abort();
            assert!(second.await.unwrap().is_some());
        });
    }

    #[test]
    fn one_question_in_many_forms_has_few_under_way() {
        Runtime::new().unwrap().block_on(async {
            let (address, counts) = server(Duration::from_millis(50), |_| 0).await;
            let (upstreams, _) = upstreams(&[address]);
            let mut asking = JoinSet::new();
            for number in 0..40 {
                let upstreams = Arc::clone(&upstreams);
                let query = query(number, "www.example", Some(number));
                asking.spawn(async move { upstreams.ask(&query, Transport::Udp).await.unwrap() });
            }
            asking.join_all().await;
            assert_eq!((count(&counts), counts[2].load(Ordering::Relaxed)), (40, FORMS));
        });
    }

    #[test]
    fn who_cannot_answer_is_passed_over() {
        Runtime::new().unwrap().block_on(async {
            for code in [1, 2, 4, 5] {
                let codes: [fn(&[u8]) -> u8; 6] = [|_| 0, |_| 1, |_| 2, |_| 3, |_| 4, |_| 5];
                let (broken, asked) = server(Duration::ZERO, codes[code]).await;
                let (good, _) = server(Duration::ZERO, codes[3]).await;
                let (upstreams, counters) = upstreams(&[broken, good]);
                for number in 0..30 {
                    let query = query(1, &format!("n{number}.example"), None);
                    assert_eq!(upstreams.ask(&query, Transport::Udp).await.unwrap()[3] & 15, 3, "{code}");
                }
                // After a while, it is asked no more than now and then.
                assert!((5..10).contains(&count(&asked)), "{code}: {asked:?}");
                assert_eq!(counters.snapshot().at_a_loss, count(&asked) as u64);
            }
        });
    }

    #[test]
    fn a_name_that_nobody_can_answer_is_no_ones_fault() {
        Runtime::new().unwrap().block_on(async {
            fn unless_good(query: &[u8], code: u8) -> u8 {
                if query[13..17].eq_ignore_ascii_case(b"good") { 0 } else { code }
            }
            let (first, asked) = server(Duration::ZERO, |query| unless_good(query, 2)).await;
            let (second, spare) = server(Duration::ZERO, |query| unless_good(query, 5)).await;
            let (upstreams, _) = upstreams(&[first, second]);
            for number in 0..30 {
                let query = query(1, &format!("n{number}xx.example"), None);
                assert_eq!(upstreams.ask(&query, Transport::Udp).await.unwrap()[3] & 15, 2);
            }
            let good = query(1, "good.example", None);
            assert_eq!(upstreams.ask(&good, Transport::Udp).await.unwrap()[3] & 15, 0);
            assert_eq!((count(&asked), count(&spare)), (31, 30));
        });
    }
}
