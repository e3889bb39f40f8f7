//! Connections of clients: queries one behind the other, answers as they come (RFC 7766).

use std::{io, net::SocketAddr, sync::Arc};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time, try_join,
};

use super::{Hooks, MAX_TCP_QUERY, Shared, query::HEADER, stream, upstream::Transport};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;

/// Listens on an address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 may be another listener's.
        socket.set_only_v6(true)?;
    }
    // What is left of connections before a restart does not count.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves a connection until the client ends it, says nothing for too long, or does not take its answers.
pub(super) async fn serve<H: Hooks>(shared: Arc<Shared<H>>, mut connection: TcpStream, client: SocketAddr) {
    // Answers are whole messages; waiting for more to send with them only costs time.
    let _ = connection.set_nodelay(true);
    let idle = shared.limits.idle;
    let (mut reader, mut writer) = connection.split();
    let (answers, mut queue) = mpsc::channel::<Vec<u8>>(1);
    let reading = async move {
        while let Ok(Ok(message)) = time::timeout(idle, stream::read_bounded(&mut reader, MAX_TCP_QUERY, HEADER)).await
        {
            // Over the limit, the client's next queries stay in its own buffers.
            let Some(place) = shared.queries.take(client.ip()).await else { break };
            let (shared, answers) = (Arc::clone(&shared), answers.clone());
            tokio::spawn(async move {
                if let Some(answer) = shared.answer(client.ip(), message, Transport::Tcp).await {
                    // The connection may be gone.
                    let _ = answers.send(answer).await;
                }
                drop(place);
            });
        }
        // Answers that are still to come are written before the end.
        io::Result::Ok(())
    };
    let writing = async {
        while let Some(answer) = queue.recv().await {
            time::timeout(idle, stream::write(&mut writer, &answer)).await??;
        }
        Ok(())
    };
    // How a client's connection ends is the client's affair.
    let _ = try_join!(reading, writing);
}
