//! One question to route netlink and its answer, for code that must not leave its thread, as programs are attached under a lock.

use std::io;

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// Asks, or orders, over a socket of its own; `flags` beside `NLM_F_REQUEST` must make the kernel answer to its end: `NLM_F_ACK` or `NLM_F_DUMP`. Answers
/// that are not understood, as a stranger's may be, are left out.
pub(super) fn ask(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut question = NetlinkMessage::from(question);
    question.header.flags = NLM_F_REQUEST | flags;
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while let Some((message, behind)) = split(rest) {
            match NetlinkMessage::deserialize(message).map(|message| message.payload) {
                Ok(NetlinkPayload::Done(_)) => return Ok(answers),
                Ok(NetlinkPayload::Error(error)) => {
                    return error.code.map_or(Ok(answers), |_| Err(error.to_io()));
                }
                Ok(NetlinkPayload::InnerMessage(answer)) => answers.push(answer),
                Ok(_) | Err(_) => {}
            }
            rest = behind;
        }
    }
}

/// A datagram's first message, and those behind it; messages begin at multiples of four bytes.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.first_chunk().copied()?) as usize;
    let message = bytes.get(..length).filter(|message| !message.is_empty())?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_datagram_is_split_at_the_lengths_that_it_tells() {
        let message = |length: u32, size: usize| [&length.to_ne_bytes()[..], &vec![0; size - 4]].concat();
        let two = [message(17, 20), message(16, 16)].concat();
        let (first, rest) = split(&two).expect("a message");
        assert_eq!((first.len(), rest.len()), (17, 16));
        assert_eq!(split(rest).map(|(second, rest)| (second.len(), rest.len())), Some((16, 0)));
        for broken in [message(0, 16), message(17, 16), vec![1, 0], Vec::new()] {
            assert_eq!(split(&broken), None, "{broken:?}");
        }
    }
}
