//! DNS over TLS (RFC 7858): many queries on a connection, answers in any order, each found by its id.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    super::{
        counters::Counters,
        query::{Disguised, Query},
        stream,
    },
    fault::Fault,
    kept::{Carrier, Failure, Protocol, Stream},
    lock,
};

/// The protocol.
pub struct Tls {
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
struct Waiting(Mutex<HashMap<[u8; 2], (Disguised, oneshot::Sender<Vec<u8>>)>>);

/// One who waits, until it is dropped.
struct Wait<'a> {
    waiting: &'a Waiting,
    id: [u8; 2],
    answer: oneshot::Receiver<Vec<u8>>,
}

impl Protocol for Tls {
    type Client = Client;

    async fn begin(&self, stream: Stream) -> Result<(Client, Carrier), Fault> {
        let waiting = Arc::<Waiting>::default();
        let (queue, queries) = mpsc::channel(1);
        let carrier = carry(stream, queries, Arc::clone(&waiting), Arc::clone(&self.counters));
        // How it ended is of no use: whoever waits asks anew.
        let carrier = async { carrier.await.unwrap_or_default() };
        Ok((Client { waiting, queue }, Box::pin(carrier)))
    }

    async fn ask(&self, client: &Client, query: &Query) -> Result<Vec<u8>, Failure> {
        let ended = || Failure::Ended(Fault::new("the connection ended before the answer"));
        let (mut wait, message) = client.waiting.enter(query);
        client.queue.send(message).await.map_err(|_| ended())?;
        tokio::select! {
            biased;
            Ok(answer) = &mut wait.answer => Ok(answer),
            () = client.queue.closed() => Err(ended()),
        }
    }
}

async fn carry(
    stream: Stream,
    mut queries: mpsc::Receiver<Vec<u8>>,
    waiting: Arc<Waiting>,
    counters: Arc<Counters>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        while let Some(message) = queries.recv().await {
            stream::write(&mut writer, &message).await?;
        }
        Ok(())
    };
    let reading = async {
        loop {
            if !waiting.give(stream::read(&mut reader).await?) {
                counters.mismatched.add();
            }
        }
    };
    tokio::select! {
        end = writing => end,
        end = reading => end,
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
        waiting.insert(id, (sent, giver));
        (Wait { waiting: self, id, answer }, message)
    }

    /// Whether somebody waits for a message.
    fn give(&self, message: Vec<u8>) -> bool {
        let Some(id) = message.first_chunk() else { return false };
        let mut waiting = self.lock();
        if waiting.get(id).is_none_or(|(sent, _)| !sent.is_answered_by(&message)) {
            return false;
        }
        waiting.remove(id).is_some_and(|(_, giver)| giver.send(message).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 2], (Disguised, oneshot::Sender<Vec<u8>>)>> {
        lock(&self.0)
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

    use super::{Query, Waiting};

    #[test]
    fn answers_find_who_asked_in_any_order_and_others_nobody() {
        let waiting = Waiting::default();
        let queries: Vec<Query> = (0..1000)
            .map(|number| Query::new(&format!("n{number}.example").parse().unwrap(), RecordType::A).unwrap())
            .collect();
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
