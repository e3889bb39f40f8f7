use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Runtime,
    task::JoinSet,
    time,
};

use super::{FORMS, Transport, Upstreams};
use crate::dns::forwarder::{counters::Counters, query::Query, stream};

const PATIENCE: Duration = Duration::from_secs(5);

fn upstreams(addresses: &[SocketAddr]) -> (Arc<Upstreams>, Arc<Counters>) {
    let servers = addresses.iter().map(|&address| address.into()).collect();
    let upstreams = Upstreams::new(servers, None, PATIENCE).unwrap();
    let counters = Arc::clone(&upstreams.counters);
    (Arc::new(upstreams), counters)
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
fn one_question_in_many_forms_has_few_datagrams_under_way_and_nobody_waits() {
    const DELAY: Duration = Duration::from_millis(200);
    Runtime::new().unwrap().block_on(async {
        let (address, counts) = server(DELAY, |_| 0).await;
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let message = stream::read(&mut stream).await.unwrap();
                    time::sleep(DELAY).await;
                    stream::write(&mut stream, &answer(&message, 3)).await.unwrap();
                });
            }
        });
        let (upstreams, counters) = upstreams(&[address]);
        let mut asking = JoinSet::new();
        for number in 0..40 {
            let upstreams = Arc::clone(&upstreams);
            let query = query(number, "www.example", Some(number));
            asking.spawn(async move { upstreams.ask(&query, Transport::Udp).await.unwrap()[3] & 15 });
        }
        let codes = asking.join_all().await;
        let by_tcp = codes.iter().filter(|code| **code == 3).count();
        assert_eq!((count(&counts), counts[2].load(Ordering::Relaxed), by_tcp), (FORMS, FORMS, 40 - FORMS));
        assert_eq!(counters.snapshot().crowded, by_tcp as u64);
    });
}

#[test]
fn a_resolver_that_loses_the_case_of_questions_is_asked_by_tcp() {
    Runtime::new().unwrap().block_on(async {
        let lower = |message: &[u8]| {
            let mut message = answer(message, 0);
            message[12..].make_ascii_lowercase();
            message
        };
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                socket.send_to(&lower(&buffer[..length]), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let message = stream::read(&mut stream).await.unwrap();
                stream::write(&mut stream, &lower(&message)).await.unwrap();
            }
        });
        let (upstreams, _) = upstreams(&[address]);
        // Letters enough that one of them is in upper case.
        let query = query(1, "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example", None);
        for transport in [Transport::Udp, Transport::Tcp] {
            let mut got = upstreams.ask(&query, transport).await.unwrap();
            query.claim(&mut got);
            assert_eq!(got, answer(query.bytes(), 0), "{transport:?}");
        }
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

/// A server by TCP that counts its connections, and ends each after a number of answers. It answers the
/// queries of a connection one after the other, and never those for names that begin with "slow".
async fn server_by_tcp(most: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                for _ in 0..most {
                    let Ok(message) = stream::read(&mut stream).await else { return };
                    if message[13..17].eq_ignore_ascii_case(b"slow") {
                        return std::future::pending().await;
                    }
                    stream::write(&mut stream, &answer(&message, 0)).await.unwrap();
                }
            });
        }
    });
    (address, connections)
}

/// Asks for different names by TCP, all at once; how many got an answer.
async fn answered_by_tcp(upstreams: &Arc<Upstreams>, count: u16) -> usize {
    let mut asking = JoinSet::new();
    for number in 0..count {
        let upstreams = Arc::clone(upstreams);
        let query = query(number, &format!("n{number}xx.example"), None);
        asking.spawn(async move { upstreams.ask(&query, Transport::Tcp).await });
    }
    asking.join_all().await.into_iter().flatten().filter(|answer| answer[3] & 15 == 0).count()
}

#[test]
fn tcp_queries_share_a_connection() {
    Runtime::new().unwrap().block_on(async {
        let (address, connections) = server_by_tcp(usize::MAX).await;
        let (upstreams, counters) = upstreams(&[address]);
        for _ in 0..3 {
            assert_eq!(answered_by_tcp(&upstreams, 500).await, 500);
        }
        assert_eq!((connections.load(Ordering::Relaxed), counters.snapshot().mismatched), (1, 0));
    });
}

#[test]
fn tcp_connections_that_end_early_lose_no_queries() {
    Runtime::new().unwrap().block_on(async {
        for (most, connections_at_most) in [(1, 700), (100, 14)] {
            let (address, connections) = server_by_tcp(most).await;
            let (upstreams, counters) = upstreams(&[address]);
            assert_eq!(answered_by_tcp(&upstreams, 300).await, 300, "{most} answers per connection");
            assert_eq!(answered_by_tcp(&upstreams, 300).await, 300, "{most} answers per connection");
            assert_eq!(counters.snapshot().upstream_failures[0].1, 0);
            let connections = connections.load(Ordering::Relaxed);
            assert!(connections <= connections_at_most, "{connections} for {most} answers each");
        }
    });
}

#[test]
fn slow_names_hold_up_no_others_by_tcp() {
    Runtime::new().unwrap().block_on(async {
        let (address, connections) = server_by_tcp(usize::MAX).await;
        let (upstreams, counters) = upstreams(&[address]);
        let slow = (0..4).map(|number| {
            let upstreams = Arc::clone(&upstreams);
            let query = query(number, &format!("slow{number}.example"), None);
            tokio::spawn(async move { upstreams.ask(&query, Transport::Tcp).await })
        });
        let slow: Vec<_> = slow.collect();
        time::sleep(Duration::from_millis(300)).await;
        assert_eq!(answered_by_tcp(&upstreams, 300).await, 300);
        assert_eq!((connections.load(Ordering::Relaxed), counters.snapshot().timeouts), (2, 0));
        slow.into_iter().for_each(|slow| slow.abort());
    });
}
