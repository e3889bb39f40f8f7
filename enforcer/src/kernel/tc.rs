//! What of TC is on an interface: over netlink, and without leaving the thread, as programs are attached under a lock.

use std::{fmt, io};

use rtnetlink::{
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::hook::Hook;

/// A filter that is there, whoever's it is. One without a handle only says that filters of its kind and priority are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its kind, such as `bpf` or `u32`.
    pub kind: String,
    /// Filters are asked in the order of this.
    pub priority: u16,
    /// Its number among those of one priority.
    pub handle: u32,
    /// The packets that it sees: an EtherType.
    pub(super) protocol: u16,
    /// The name that a BPF program was given.
    pub name: Option<String>,
    /// The number of its BPF program.
    pub program: Option<u32>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// The filters at a side of an interface, in the order in which packets meet them; none if it has no such qdisc, or is gone.
///
/// # Errors
/// If netlink refuses.
pub fn filters(index: u32, hook: Hook) -> io::Result<Vec<Found>> {
    let question = RouteNetlinkMessage::GetTrafficFilter(on(index, parent(hook)));
    let told = ask(question, NLM_F_DUMP)?;
    Ok(told.into_iter().filter_map(found).collect())
}

/// Whether nobody has a filter at a side of an interface, in any chain.
pub(super) fn is_empty(index: u32, hook: Hook) -> io::Result<bool> {
    Ok(ask(RouteNetlinkMessage::GetTrafficFilter(on(index, parent(hook))), NLM_F_DUMP)?.is_empty())
}

fn found(message: RouteNetlinkMessage) -> Option<Found> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = message else { return None };
    let info = message.header.info;
    let mut found = Found {
        priority: (info >> 16) as u16,
        protocol: info as u16,
        handle: message.header.handle.into(),
        ..Found::default()
    };
    for attribute in message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => found.kind = kind,
            // Packets meet those of another only where a filter sends them there.
            TcAttribute::Chain(chain) if chain != 0 => return None,
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => found.name = Some(name),
                        TcOption::Bpf(TcFilterBpfOption::ProgId(number)) => found.program = Some(number),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// The kind of the qdisc where clsact is to be, if one is there.
pub(super) fn qdisc(index: u32) -> io::Result<Option<String>> {
    let told = ask(RouteNetlinkMessage::GetQueueDiscipline(on(index, TcHandle::UNSPEC)), NLM_F_DUMP)?;
    Ok(told.into_iter().find_map(|told| {
        let RouteNetlinkMessage::NewQueueDiscipline(told) = told else { return None };
        let is_it = told.header.index == index.cast_signed() && told.header.parent == TcHandle::CLSACT;
        told.attributes.into_iter().filter(|_| is_it).find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind),
            _ => None,
        })
    }))
}

pub(super) fn on(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index.cast_signed());
    message.header.parent = parent;
    message
}

pub(super) fn parent(hook: Hook) -> TcHandle {
    let minor = if hook == Hook::ClsactIngress { TcHandle::MIN_INGRESS } else { TcHandle::MIN_EGRESS };
    TcHandle { major: u16::MAX, minor }
}

/// `ETH_P_ALL`, as netlink has it: in network byte order.
pub(super) const fn all() -> u16 {
    (libc::ETH_P_ALL as u16).to_be()
}

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
                Ok(NetlinkPayload::Done(done)) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
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
    use super::*;

    #[test]
    fn a_filter_is_read_from_what_netlink_tells() {
        let program = [TcFilterBpfOption::ProgName("lan_ingress".into()), TcFilterBpfOption::ProgId(39)];
        let told = |chain| {
            let mut message = on(7, parent(Hook::ClsactIngress));
            message.header.handle = 5.into();
            message.header.info = 3 << 16 | u32::from(all());
            message.attributes = vec![
                TcAttribute::Kind("bpf".into()),
                TcAttribute::Chain(chain),
                TcAttribute::Options(program.clone().map(TcOption::Bpf).into()),
            ];
            found(RouteNetlinkMessage::NewTrafficFilter(message))
        };
        let found = told(0).expect("a filter");
        assert_eq!((found.priority, found.handle, found.protocol, found.program), (3, 5, all(), Some(39)));
        assert_eq!(found.to_string(), "bpf lan_ingress");
        assert_eq!(told(1), None, "packets do not come to other chains by themselves");
    }

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
