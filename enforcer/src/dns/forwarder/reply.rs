//! Answers of our own.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    op::{Edns, Header, Message, Metadata, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, SOA},
    },
    serialize::binary::BinEncodable as _,
};

use super::{MAX_PAYLOAD, query::Query};

/// How long clients may keep that a name is blocked, in seconds: a policy that changes is felt soon.
const BLOCKED_TTL: u32 = 60;
/// How long they may keep an unspecified address.
const ZERO_TTL: u32 = 10;

/// To a message that cannot be forwarded: a header and nothing else.
pub fn bare(header: &Header, code: ResponseCode) -> Vec<u8> {
    emit(&Message::error_msg(header.metadata.id, header.metadata.op_code, code))
}

/// No upstream answered.
pub fn failure(query: &Query) -> Vec<u8> {
    emit(&to(query, ResponseCode::ServFail))
}

/// The question is not to be asked here.
pub fn refusal(query: &Query) -> Vec<u8> {
    emit(&to(query, ResponseCode::Refused))
}

/// An upstream's answer as it fits into a datagram for the client, or else that it does not, so that the client comes by TCP. The answer's own OPT record
/// stays, but for those that are too long with it.
pub fn fit(query: &Query, mut answer: Vec<u8>) -> Vec<u8> {
    /// What every client takes.
    const SMALL: u16 = 512;
    let edns = || Message::from_vec(query.bytes()).ok()?.edns;
    if answer.len() <= SMALL.into() {
        return answer;
    }
    let room = edns().map_or(SMALL, |edns| edns.max_payload().clamp(SMALL, MAX_PAYLOAD)).into();
    if answer.len() <= room {
        return answer;
    }
    let own = Message::from_vec(&answer).ok().and_then(|answer| answer.edns?.to_bytes().ok());
    query.truncate(&mut answer);
    if let Some(own) = own.filter(|own| answer.len() + own.len() <= room) {
        answer.extend(own);
        // The number of additional records.
        answer[11] = 1;
    }
    answer
}

/// The client is to come by TCP.
pub fn truncated(query: &Query) -> Vec<u8> {
    let mut message = to(query, ResponseCode::NoError);
    message.metadata.truncation = true;
    emit(&message)
}

/// No such name.
pub fn no_such_name(query: &Query) -> Vec<u8> {
    emit(&without_records(query, ResponseCode::NXDomain))
}

/// The unspecified address; of other types, nothing.
pub fn zero(query: &Query) -> Vec<u8> {
    let address = match (query.question.class, query.question.kind) {
        (DNSClass::IN, RecordType::A) => RData::A(A(Ipv4Addr::UNSPECIFIED)),
        (DNSClass::IN, RecordType::AAAA) => RData::AAAA(AAAA(Ipv6Addr::UNSPECIFIED)),
        _ => return emit(&without_records(query, ResponseCode::NoError)),
    };
    let mut message = to(query, ResponseCode::NoError);
    message.add_answer(Record::from_rdata(query.asked.name.clone(), ZERO_TTL, address));
    emit(&message)
}

/// Clients keep for how long there is nothing only if an SOA record says so (RFC 2308).
fn without_records(query: &Query, code: ResponseCode) -> Message {
    let mut message = to(query, code);
    let nobody = Name::from_labels(["enforcer", "invalid"]).unwrap_or_default();
    let soa = SOA::new(nobody.clone(), nobody, 1, 3600, 600, 86_400, BLOCKED_TTL);
    message.add_authority(Record::from_rdata(query.asked.name.clone(), BLOCKED_TTL, RData::SOA(soa)));
    message
}

/// Id, flags and question as the query has them; EDNS if it has it.
fn to(query: &Query, code: ResponseCode) -> Message {
    let metadata = &query.header.metadata;
    let mut message = Message::response(metadata.id, metadata.op_code);
    message.metadata = Metadata::response_from_request(metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_query(query.asked.clone());
    if let Some(asked) = Message::from_vec(query.bytes()).ok().and_then(|query| query.edns) {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

fn emit(message: &Message) -> Vec<u8> {
    // A question and a record always make a message.
    message.to_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, ResponseCode};
    use proptest::prelude::*;

    use super::{failure, fit, no_such_name, refusal, zero};
    use crate::dns::forwarder::query::Query;

    fn query(kind: u8, edns: bool) -> Query {
        let mut bytes = b"\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x04mAsk\x06icloud\x03com\x00\x00".to_vec();
        bytes.extend([kind, 0, 1]);
        if edns {
            bytes[11] = 1;
            bytes.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00");
        }
        Query::read(bytes).unwrap()
    }

    fn read(bytes: &[u8]) -> Message {
        Message::from_vec(bytes).unwrap()
    }

    #[test]
    fn a_blocked_name_is_kept_as_such() {
        let reply = no_such_name(&query(1, true));
        assert_eq!(reply[12..33], *b"\x04mAsk\x06icloud\x03com\x00\x00\x01\x00\x01");
        let reply = read(&reply);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert!(
            reply.metadata.recursion_available && reply.metadata.recursion_desired && reply.metadata.checking_disabled
        );
        assert_eq!(reply.metadata.id, 0x1234);
        let soa = reply.authorities[0].to_string();
        assert_eq!(soa, "mAsk.icloud.com. 60 IN SOA enforcer.invalid. enforcer.invalid. 1 3600 600 86400 60");
        let edns = reply.edns.unwrap();
        assert!(edns.flags().dnssec_ok && edns.max_payload() == 1232);
    }

    #[test]
    fn zero_has_an_address_of_the_family_and_nothing_of_other_types() {
        let lines = |kind| -> Vec<String> {
            let reply = read(&zero(&query(kind, false)));
            assert_eq!((reply.metadata.response_code, reply.edns.is_none()), (ResponseCode::NoError, true));
            reply.answers.iter().map(ToString::to_string).collect()
        };
        assert_eq!(lines(1), ["mAsk.icloud.com. 10 IN A 0.0.0.0"]);
        assert_eq!(lines(28), ["mAsk.icloud.com. 10 IN AAAA ::"]);
        assert!(lines(65).is_empty());
        assert_eq!(read(&zero(&query(65, false))).authorities.len(), 1);
    }

    #[test]
    fn what_is_too_long_for_a_datagram_says_so() {
        /// A query with room for an answer, or without EDNS, and an answer of a length; with an OPT record, if the query has one.
        fn fitted(room: Option<u16>, length: usize) -> (usize, Message) {
            let mut bytes = query(16, room.is_some()).bytes().to_vec();
            let mut records = Vec::new();
            if let Some(room) = room {
                let opt = bytes.len() - 11;
                bytes[opt + 3..opt + 5].copy_from_slice(&room.to_be_bytes());
                records = bytes.split_off(opt);
            }
            let mut answer = bytes.clone();
            answer[2] |= 0x80;
            answer[7] = 1;
            let text = length - answer.len() - records.len() - 12;
            answer.extend(b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x09");
            answer.extend((text as u16).to_be_bytes());
            for part in vec![b'x'; text].chunks_mut(256) {
                part[0] = (part.len() - 1) as u8;
                answer.extend(&*part);
            }
            answer.extend(&records);
            let query = Query::read([bytes, records].concat()).unwrap();
            let fitted = fit(&query, answer);
            assert_eq!(fitted[12..33], query.bytes()[12..33]);
            (fitted.len(), read(&fitted))
        }
        for (room, most) in [(None, 512), (Some(0), 512), (Some(600), 600), (Some(1232), 1232), (Some(4096), 1232)] {
            let (length, whole) = fitted(room, most);
            assert_eq!((length, whole.metadata.truncation, whole.answers.len()), (most, false, 1), "{room:?}");
            for length in [most + 1, 65_535] {
                let (length, cut) = fitted(room, length);
                assert!(cut.metadata.truncation && cut.answers.is_empty() && length < 512, "{room:?}");
                assert_eq!(cut.edns.map(|edns| edns.flags().dnssec_ok), room.map(|_| true));
            }
        }
    }

    #[test]
    fn failures_and_refusals_say_so() {
        assert_eq!(read(&failure(&query(1, false))).metadata.response_code, ResponseCode::ServFail);
        assert_eq!(read(&refusal(&query(1, false))).metadata.response_code, ResponseCode::Refused);
    }
    proptest! {
        #[test]
        fn every_name_is_echoed_as_it_came(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..8),
            kind in any::<[u8; 4]>(),
        ) {
            let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
            for label in &labels {
                bytes.push(label.len() as u8);
                bytes.extend(label);
            }
            bytes.push(0);
            bytes.extend(kind);
            let long = bytes.len() > 12 + 255 + 4;
            let Ok(query) = Query::read(bytes.clone()) else {
                prop_assert!(long || kind[..2] == [0, 251] || kind[..2] == [0, 252]);
                return Ok(());
            };
            for reply in [failure(&query), refusal(&query), no_such_name(&query), zero(&query)] {
                prop_assert_eq!(reply.get(12..bytes.len()), bytes.get(12..));
                prop_assert!(reply.len() <= 512);
            }
        }
    }
}
