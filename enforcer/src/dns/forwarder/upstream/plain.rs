//! Asking in clear, by UDP and TCP (RFC 1035).

use std::{
    future, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Notify,
};

use super::{
    super::{counters::Counters, query::Query, reply, stream},
    MAX_MESSAGE,
};

/// A socket for each query has a random port, and takes datagrams from the upstream's address and port alone. Who cannot see the query must guess, while
/// it is open, 16 bits of id, 14.8 of port (Linux gives out 32,768 to 60,999 unless told otherwise), and one for each letter of the name; less the
/// two bits of [`FORMS`](super::FORMS), and one for each further upstream that is asked.
pub async fn by_udp(upstream: SocketAddr, query: &Query, counters: &Counters) -> io::Result<Vec<u8>> {
    let any = if upstream.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
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
                    counters.mismatched.add();
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
        match by_tcp(upstream, query, counters).await {
            Ok(answer) => Ok(reply::fit(query, answer)),
            Err(_) => future::pending().await,
        }
    };
    tokio::select! {
        answer = listening => answer,
        answer = by_tcp => answer,
    }
}

/// On a connection of its own: dnsmasq remembers on one whether there was EDNS, and then gives it to those who asked without.
pub async fn by_tcp(upstream: SocketAddr, query: &Query, counters: &Counters) -> io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(upstream).await?;
    let sent = query.disguised();
    stream::write(&mut connection, sent.bytes()).await?;
    loop {
        let message = stream::read(&mut connection).await?;
        if sent.is_answered_in_any_case_by(&message) {
            return Ok(message);
        }
        counters.mismatched.add();
    }
}
