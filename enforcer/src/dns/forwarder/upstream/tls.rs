//! DNS over TLS (RFC 7858), and what it has in common with TCP (RFC 7766): many queries on a
//! connection, answers in any order, each found by its id.

use std::{
    collections::HashMap,
    future,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    super::{
        counters::Counters,
        query::{Disguised, Query},
        stream,
    },
    fault::Fault,
    kept::{Carrier, Failure, Protocol},
    lock,
    trust::Handshake,
};

/// The protocol.
pub struct Tls {
    /// What each connection begins with.
    pub handshake: Handshake,
    /// What is counted.
    pub counters: Arc<Counters>,
}

/// A connection's end for those who ask.
pub struct Client {
    waiting: Arc<Waiting>,
    queue: mpsc::Sender<Vec<u8>>,
}

/// Who waits for an answer, by its id.
#[derive(Default)]
struct Waiting {
    by_id: Mutex<ById>,
    /// Answers that somebody waited for.
    answered: AtomicUsize,
}

/// What was sent under an id, and who gets the answer, until it has come. An id is nobody else's until who waited has gone, so that nobody removes another's.
type ById = HashMap<[u8; 2], (Disguised, Option<oneshot::Sender<Vec<u8>>>)>;

/// One who waits, until it is dropped.
struct Wait<'a> {
    waiting: &'a Waiting,
    id: [u8; 2],
    answer: oneshot::Receiver<Vec<u8>>,
}

impl Protocol for Tls {
    type Client = Client;

    async fn begin(&self, stream: TcpStream) -> Result<(Client, Carrier), Fault> {
        Ok(speak(self.handshake.on(stream).await?, Arc::clone(&self.counters)))
    }

    async fn ask(&self, client: &Client, query: &Query) -> Result<Vec<u8>, Failure> {
        client.ask(query).await
    }

    fn answered(client: &Client) -> usize {
        client.answered()
    }
}

impl Client {
    /// Asks, and waits for the answer.
    pub async fn ask(&self, query: &Query) -> Result<Vec<u8>, Failure> {
        let ended = || Failure::Ended(Fault::new("the connection ended before the answer"));
        let (mut wait, message) = self.waiting.enter(query);
        self.queue.send(message).await.map_err(|_| ended())?;
        tokio::select! {
            biased;
            Ok(answer) = &mut wait.answer => Ok(answer),
            () = self.queue.closed() => Err(ended()),
        }
    }

    /// Returns how many answers came.
    pub fn answered(&self) -> usize {
        self.waiting.answered.load(Ordering::Relaxed)
    }
}

/// Begins to put queries and answers on a connection.
pub fn speak(stream: impl AsyncRead + AsyncWrite + Send + 'static, counters: Arc<Counters>) -> (Client, Carrier) {
    let waiting = Arc::<Waiting>::default();
    let (queue, queries) = mpsc::channel(1);
    let carrier = carry(stream, queries, Arc::clone(&waiting), counters);
    (Client { waiting, queue }, Box::pin(carrier))
}

async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    mut queries: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<Waiting>,
    counters: Arc<Counters>,
) {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    let writing = async {
        while let Some(message) = queries.recv().await {
            if stream::write(&mut writer, &message).await.is_err() {
                // Answers from before the end are still to be read.
                return future::pending().await;
            }
        }
    };
    let reading = async {
        while let Ok(message) = stream::read(&mut reader).await {
            if !waiting.give(message) {
                counters.mismatched.add();
            }
        }
    };
    // How it ends is of no use: whoever waits asks anew.
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

impl Waiting {
    /// Waits under a random id that nobody has, of which there are many more than queries at a time; and the message to send.
    fn enter(&self, query: &Query) -> (Wait<'_>, Vec<u8>) {
        let mut waiting = self.lock();
        let id = loop {
            let id = rand::random();
            if !waiting.contains_key(&id) {
                break id;
            }
        };
        let sent = query.under(id);
        let message = sent.bytes().to_vec();
        let (giver, answer) = oneshot::channel();
        waiting.insert(id, (sent, Some(giver)));
        (Wait { waiting: self, id, answer }, message)
    }

    /// Whether somebody waits for a message.
    fn give(&self, message: Vec<u8>) -> bool {
        let Some(id) = message.first_chunk() else { return false };
        let mut waiting = self.lock();
        let Some((_, giver)) = waiting.get_mut(id).filter(|(sent, _)| sent.is_answered_in_any_case_by(&message)) else {
            return false;
        };
        let Some(giver) = giver.take() else { return false };
        self.answered.fetch_add(1, Ordering::Relaxed);
        giver.send(message).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, ById> {
        lock(&self.by_id)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;
    use tokio::runtime::Runtime;

    use super::{super::super::stream, Arc, Counters, Failure, Query, Waiting, speak};

    fn query(name: &str) -> Query {
        Query::new(&name.parse().unwrap(), RecordType::A).unwrap()
    }

    #[test]
    fn who_still_waits_when_the_connection_ends_is_told() {
        Runtime::new().unwrap().block_on(async {
            let (near, mut far) = tokio::io::duplex(4096);
            let counters = Arc::<Counters>::default();
            let (client, carrier) = speak(near, Arc::clone(&counters));
            tokio::spawn(carrier);
            let (first, second) = (query("a.example"), query("b.example"));
            let serving = async {
                let mut one = stream::read(&mut far).await.unwrap();
                let other = stream::read(&mut far).await.unwrap();
                one[2] |= 0x80;
                // Another's question, then its own, and then the end.
                let forged = [&one[..2], &other[2..]].concat();
                stream::write(&mut far, &forged).await.unwrap();
                stream::write(&mut far, &one).await.unwrap();
                drop(far);
            };
            let asking = async { tokio::join!(biased; client.ask(&first), client.ask(&second)) };
            let ((answered, ended), ()) = tokio::join!(asking, serving);
            assert_eq!(answered.unwrap()[2..12], [0x81, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            assert!(matches!(ended, Err(Failure::Ended(_))));
            assert!(matches!(client.ask(&first).await, Err(Failure::Ended(_))));
            assert_eq!((client.answered(), counters.snapshot().mismatched), (1, 1));
        });
    }

    #[test]
    fn an_id_is_free_when_who_waited_has_gone() {
        let waiting = Waiting::default();
        let query = query("www.example");
        let enter = || (0..20_000).map(|_| waiting.enter(&query)).collect::<Vec<_>>();
        let give = |message: &[u8]| {
            let mut answer = message.to_vec();
            answer[2] |= 0x80;
            waiting.give(answer)
        };
        let first = enter();
        assert!(first.iter().all(|(_, message)| give(message)));
        let second = enter();
        drop(first);
        assert!(second.iter().all(|(_, message)| give(message)));
    }

    #[test]
    fn answers_find_who_asked_in_any_order_and_others_nobody() {
        let waiting = Waiting::default();
        let queries: Vec<Query> = (0..1000).map(|number| query(&format!("n{number}.example"))).collect();
        let mut waits: Vec<_> = queries.iter().map(|query| waiting.enter(query)).collect();
        let answer = |message: &[u8]| {
            let mut answer = message.to_vec();
            answer[2] = 0x81;
            answer
        };
        assert!(!waiting.give(Vec::new()) && !waiting.give(vec![0; 11]));
        let (_, first) = &waits[0];
        let (_, second) = &waits[1];
        // Another question's answer under one's id, and the query itself.
        assert!(!waiting.give([&first[..2], &answer(second)[2..]].concat()));
        assert!(!waiting.give(first.clone()));
        let (gone, message) = waits.swap_remove(500);
        drop(gone);
        assert!(!waiting.give(answer(&message)));
        for (wait, message) in waits.iter_mut().rev() {
            assert!(waiting.give(answer(message)));
            assert!(!waiting.give(answer(message)), "it was given already");
            assert_eq!(wait.answer.try_recv().unwrap(), answer(message));
        }
        drop(waits);
        assert!(waiting.lock().is_empty());
    }
}
