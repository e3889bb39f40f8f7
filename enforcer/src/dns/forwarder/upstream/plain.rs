//! Asking in clear, by UDP and TCP (RFC 1035).

use std::{
    future, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::op::Message;
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Notify,
};

use super::{
    super::{counters::Counters, query::Query, reply},
    MAX_MESSAGE,
    fault::Fault,
    kept::{Carrier, Failure, Kept, Protocol},
    tls::{self, Client},
};

/// The ways to one upstream.
pub struct Plain {
    address: SocketAddr,
    /// Connections, by [`kind`].
    kept: [Kept<Tcp>; KINDS],
    counters: Arc<Counters>,
}

/// DNS over TCP (RFC 7766).
struct Tcp {
    counters: Arc<Counters>,
}

impl Protocol for Tcp {
    type Client = Client;

    /// Some servers (dnsmasq) resolve the queries of a connection one after the other: a slow one would
    /// hold up all others.
    const STALL: Duration = Duration::from_millis(200);

    async fn begin(&self, stream: TcpStream) -> Result<(Client, Carrier), Fault> {
        Ok(tls::speak(stream, Arc::clone(&self.counters)))
    }

    async fn ask(&self, client: &Client, query: &Query) -> Result<Vec<u8>, Failure> {
        client.ask(query).await
    }

    fn answered(client: &Client) -> usize {
        client.answered()
    }
}

const KINDS: usize = 4;

/// Returns which queries share connections. dnsmasq applies EDNS and its DO flag to all later queries of
/// a connection, and a query that cannot be read may end it.
fn kind(query: &Query) -> usize {
    match Message::from_vec(query.bytes()).map(|query| query.edns) {
        Ok(None) => 0,
        Ok(Some(edns)) if edns.flags().dnssec_ok => 1,
        Ok(Some(_)) => 2,
        Err(_) => 3,
    }
}

impl Plain {
    /// To an address. No connection is made yet.
    pub fn new(address: SocketAddr, counters: Arc<Counters>) -> Self {
        let kept = [(); KINDS].map(|()| Kept::new(Tcp { counters: Arc::clone(&counters) }, address));
        Self { address, kept, counters }
    }

    /// A socket for each query has a random port, and takes datagrams from the upstream's address and port alone. Who cannot see the query must guess, while
    /// it is open, 16 bits of id, 14.8 of port (Linux gives out 32,768 to 60,999 unless told otherwise), and one for each letter of the name; less the
    /// two bits of [`FORMS`](super::FORMS), and one for each further upstream that is asked.
    pub async fn by_udp(&self, query: &Query) -> io::Result<Vec<u8>> {
        let is_ipv4 = self.address.is_ipv4();
        let any = if is_ipv4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.address).await?;
        let sent = query.disguised();
        socket.send(sent.bytes()).await?;
        let folded = Notify::new();
        let listening = async {
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
                    Ok(_) => {
                        self.counters.mismatched.add();
                        if sent.is_answered_in_any_case_by(&message) {
                            folded.notify_one();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        // Some resolvers lose the case of letters: by TCP, it need not be kept.
        let by_tcp = async {
            folded.notified().await;
            match self.by_tcp(query).await {
                Ok(answer) => Ok(reply::fit(query, answer)),
                Err(_) => future::pending().await,
            }
        };
        tokio::select! {
            answer = listening => answer,
            answer = by_tcp => answer,
        }
    }

    /// On a connection that others use, too.
    pub async fn by_tcp(&self, query: &Query) -> Result<Vec<u8>, Fault> {
        self.kept[kind(query)].ask(query).await
    }

    /// Gives up the connection of such queries if nothing came since then.
    pub fn silent_since(&self, query: &Query, asked: Instant) {
        self.kept[kind(query)].silent_since(asked);
    }
}
