//! A client's query as it came, and whether a message answers it.

use hickory_proto::{
    op::{self, Edns, Header, Message, MessageType, OpCode, ResponseCode},
    rr::{self, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};

use super::MAX_PAYLOAD;
use crate::dns::{Name, Question};

/// The question begins behind the header.
const HEADER: usize = 12;

/// A query that can be forwarded.
#[derive(Debug)]
pub struct Query {
    bytes: Vec<u8>,
    /// Behind the question.
    end: usize,
    pub(super) header: Header,
    /// The question in the case in which it was asked.
    pub(super) asked: op::Query,
    /// The question.
    pub question: Question,
}

/// Why a message cannot be forwarded.
#[derive(Debug)]
pub enum Fault {
    /// It is no query. An answer to it would only serve whoever forged it.
    Noise,
    /// The client is told a code.
    Told(Header, ResponseCode),
}

impl Query {
    /// Reads no more than the header and the question: what else a client says is between it and the upstream.
    pub fn read(bytes: Vec<u8>) -> Result<Self, Fault> {
        let mut decoder = BinDecoder::new(&bytes);
        let header = Header::read(&mut decoder).map_err(|_| Fault::Noise)?;
        if header.metadata.message_type != MessageType::Query {
            return Err(Fault::Noise);
        }
        if header.metadata.op_code != OpCode::Query {
            return Err(Fault::Told(header, ResponseCode::NotImp));
        }
        let asked = op::Query::read(&mut decoder);
        let (1, Ok(asked)) = (header.counts.queries, asked) else {
            return Err(Fault::Told(header, ResponseCode::FormErr));
        };
        let question = Question::from(&asked);
        let end = decoder.index();
        // A pointer in the question would lead into the header, and mean another name when the id is another.
        let length: usize = question.name.labels().map(|label| 1 + label.len()).sum();
        if end - HEADER != length + 1 + 4 {
            return Err(Fault::Told(header, ResponseCode::FormErr));
        }
        // Zone transfers are many answers to one query; no client of a resolver asks for them.
        if matches!(question.kind, RecordType::AXFR | RecordType::IXFR) {
            return Err(Fault::Told(header, ResponseCode::Refused));
        }
        Ok(Self { bytes, end, header, asked, question })
    }

    /// A query of our own. Names always make one.
    pub fn new(name: &Name, kind: RecordType) -> Option<Self> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(op::Query::query(rr::Name::from(name), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        message.set_edns(edns);
        Self::read(message.to_vec().ok()?).ok()
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message with another id.
    pub fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    /// Whether a message is an answer to this query under an id: to the same question, in whatever case.
    pub fn is_answered_by(&self, message: &[u8], id: u16) -> bool {
        let (Some(own), Some(other)) = (self.bytes.get(HEADER..self.end), message.get(HEADER..self.end)) else {
            return false;
        };
        let (own_name, own_kind) = own.split_at(own.len() - 4);
        let (other_name, other_kind) = other.split_at(own_name.len());
        let response_to_query = message[2] & 0xf8 == 0x80;
        message[..2] == id.to_be_bytes()
            && response_to_query
            && message[4..6] == [0, 1]
            // A label's length is under 64, so that it is no letter.
            && own_name.eq_ignore_ascii_case(other_name)
            && own_kind == other_kind
    }

    /// Gives an answer this query's id and the case in which it asked.
    pub fn claim(&self, answer: &mut [u8]) {
        answer[..2].copy_from_slice(&self.bytes[..2]);
        answer[HEADER..self.end].copy_from_slice(&self.bytes[HEADER..self.end]);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, ResponseCode},
        rr::RecordType,
    };
    use proptest::prelude::*;

    use super::{Fault, Query};

    /// "wWw.example" A IN, and an empty OPT record.
    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03wWw\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut bytes = QUERY.to_vec();
        bytes[at] = value;
        bytes
    }

    fn told(bytes: Vec<u8>) -> Option<ResponseCode> {
        match Query::read(bytes) {
            Err(Fault::Told(header, code)) => {
                assert_eq!(header.metadata.id, 0x1234);
                Some(code)
            }
            Err(Fault::Noise) => None,
            Ok(query) => panic!("{query:?}"),
        }
    }

    #[test]
    fn a_query_is_read_and_what_is_none_is_told_or_ignored() {
        let query = Query::read(QUERY.to_vec()).unwrap();
        assert_eq!(query.question.name.to_string(), "www.example");
        assert_eq!(told(changed(2, 0x81)), None, "an answer");
        assert_eq!(told(QUERY[..11].to_vec()), None);
        assert_eq!(told(changed(2, 5 << 3)), Some(ResponseCode::NotImp), "an update");
        assert_eq!(told(changed(5, 0)), Some(ResponseCode::FormErr), "no question");
        assert_eq!(told(changed(5, 2)), Some(ResponseCode::FormErr), "two questions");
        assert_eq!(told(QUERY[..20].to_vec()), Some(ResponseCode::FormErr));
        assert_eq!(told(changed(26, 252)), Some(ResponseCode::Refused), "a zone transfer");
        let mut pointer = QUERY[..12].to_vec();
        pointer.extend(b"\x03wWw\xc0\x04\x00\x01\x00\x01");
        assert_eq!(told(pointer), Some(ResponseCode::FormErr));
    }

    #[test]
    fn an_own_query_asks_for_recursion_and_has_room_for_the_answer() {
        let query = Query::new(&"www.example".parse().unwrap(), RecordType::AAAA).unwrap();
        let message = Message::from_vec(query.bytes()).unwrap();
        assert!(message.metadata.recursion_desired && message.edns.is_some_and(|edns| edns.max_payload() == 1232));
        assert_eq!((query.question.name.to_string().as_str(), query.question.kind), ("www.example", RecordType::AAAA));
    }

    #[test]
    fn only_the_same_question_under_the_id_is_answered() {
        let query = Query::read(QUERY.to_vec()).unwrap();
        let mut answer = query.with_id(7);
        assert!(!query.is_answered_by(&answer, 7), "the query itself");
        answer[2] = 0x81;
        assert!(query.is_answered_by(&answer, 7));
        assert!(!query.is_answered_by(&answer, 8));
        assert!(!query.is_answered_by(&answer[..28], 7));
        answer[13..16].copy_from_slice(b"WWW");
        assert!(query.is_answered_by(&answer, 7));
        for (at, value) in [(2, 0x89), (5, 0), (5, 2), (13, b'v'), (26, 28), (28, 3)] {
            let mut other = answer.clone();
            other[at] = value;
            assert!(!query.is_answered_by(&other, 7), "byte {at}");
        }
        query.claim(&mut answer);
        answer[2] = QUERY[2];
        assert_eq!(answer, QUERY);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_query_or_not(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            message in prop::collection::vec(any::<u8>(), 0..80),
            plausible in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if plausible && bytes.len() >= 12 {
                bytes[2..12].copy_from_slice(&QUERY[2..12]);
            }
            if let Ok(query) = Query::read(bytes) {
                let _ = query.is_answered_by(&message, 0);
            }
        }
    }
}
