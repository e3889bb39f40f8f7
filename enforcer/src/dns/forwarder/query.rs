//! A client's query as it came, and whether a message answers it.

use hickory_proto::{
    op::{self, Edns, Header, Message, MessageType, OpCode, ResponseCode},
    rr::{self, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder},
};
use sha2::{Digest as _, Sha256};

use super::MAX_PAYLOAD;
use crate::dns::{Name, Question};

/// The question begins behind the header.
pub const HEADER: usize = 12;
/// Its type and class are behind its name.
const KIND: usize = 4;

/// A SHA-256: clients choose the bytes of queries, and must not find two with the same hash.
pub type Essence = [u8; 32];

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

/// A query as an upstream gets it.
pub struct Disguised {
    bytes: Vec<u8>,
    /// Behind the question.
    end: usize,
}

impl Disguised {
    /// The message.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a message answers it: with its id, and its very question.
    pub fn is_answered_by(&self, message: &[u8]) -> bool {
        self.is_answered_in_any_case_by(message) && message[HEADER..self.end] == self.bytes[HEADER..self.end]
    }

    /// The same, but for the case of letters: enough where nobody can forge an answer.
    pub fn is_answered_in_any_case_by(&self, message: &[u8]) -> bool {
        message.len() >= self.end
            && message[..2] == self.bytes[..2]
            // A response to a query with one question.
            && message[2] & 0xf8 == 0x80
            && message[4..6] == [0, 1]
            && message[HEADER..self.end].eq_ignore_ascii_case(&self.bytes[HEADER..self.end])
    }
}

/// Why a message cannot be forwarded.
#[derive(Debug)]
pub enum Fault {
    /// It is no query. An answer to it would only serve whoever forged it.
    Noise,
    /// The client is told a code.
    Told(Header, ResponseCode),
}

impl Fault {
    /// Returns the fault of a message that is too long for a query. Only its header is read.
    pub fn of_too_long(message: &[u8]) -> Self {
        match Header::read(&mut BinDecoder::new(message)) {
            Ok(header) if header.metadata.message_type == MessageType::Query => {
                Self::Told(header, ResponseCode::Refused)
            }
            _ => Self::Noise,
        }
    }
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

    /// The message as an upstream gets it on an encrypted connection, where nobody can forge an answer.
    pub fn under(&self, id: [u8; 2]) -> Disguised {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id);
        Disguised { bytes, end: self.end }
    }

    /// The message as an upstream gets it in clear: with a random id, and each letter of the name in a random case ("0x20"), both of which whoever forges an
    /// answer must guess.
    pub fn disguised(&self) -> Disguised {
        let mut sent = self.under(rand::random());
        // A label's length is under 64, so that it is no letter.
        for letter in sent.bytes[HEADER..self.end - KIND].iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
            *letter ^= if rand::random() { 0x20 } else { 0 };
        }
        sent
    }

    /// Returns a hash of what is the same in all queries that one answer is good for: everything
    /// but the id and the case of the name. Flags and EDNS count, as an upstream may answer by
    /// them.
    pub fn essence(&self) -> Essence {
        let (header, rest) = self.bytes[2..].split_at(HEADER - 2);
        let (name, rest) = rest.split_at(self.end - KIND - HEADER);
        let hash = Sha256::new().chain_update(header).chain_update(name.to_ascii_lowercase());
        hash.chain_update(rest).finalize().into()
    }

    /// What of an answer to it is left in a datagram: header and question, and no records.
    pub(super) fn truncate(&self, answer: &mut Vec<u8>) {
        /// In the third byte of the header.
        const TRUNCATED: u8 = 2;
        answer.truncate(self.end);
        answer[2] |= TRUNCATED;
        answer[6..HEADER].fill(0);
    }

    /// Gives an answer this query's id and the case in which it asked. Names in records are nearly always pointers to the question's; others, such as
    /// those that a DNAME makes, keep the case that the upstream was asked in.
    pub fn claim(&self, answer: &mut [u8]) {
        answer[..2].copy_from_slice(&self.bytes[..2]);
        answer[HEADER..self.end].copy_from_slice(&self.bytes[HEADER..self.end]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
        let sent = query.disguised();
        let mut answer = sent.bytes().to_vec();
        assert!(!sent.is_answered_by(&answer), "the query itself");
        answer[2] = 0x81;
        assert!(sent.is_answered_by(&answer));
        assert!(!sent.is_answered_by(&answer[..28]));
        let others = [(0, !answer[0]), (1, !answer[1]), (2, 0x89), (5, 0), (5, 2), (13, b'v'), (13, answer[13] ^ 0x20)];
        for (at, value) in others.into_iter().chain([(26, 28), (28, 3)]) {
            let mut other = answer.clone();
            other[at] = value;
            assert!(!sent.is_answered_by(&other), "byte {at}");
        }
        query.claim(&mut answer);
        answer[2] = QUERY[2];
        assert_eq!(answer, QUERY);
    }

    #[test]
    fn a_disguise_is_an_id_and_the_case_of_letters() {
        let query = Query::read(QUERY.to_vec()).unwrap();
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let sent = query.disguised();
            let bytes = sent.bytes();
            assert_eq!(bytes[2..13], QUERY[2..13]);
            assert_eq!(bytes[24..], QUERY[24..]);
            assert!(bytes.eq_ignore_ascii_case(&[&bytes[..2], &QUERY[2..]].concat()));
            seen.insert(bytes[12..24].to_vec());
        }
        // Of 1,024 ways to write ten letters, some 640 come up in a thousand.
        assert!((560..720).contains(&seen.len()), "{}", seen.len());
    }

    #[test]
    fn one_answer_is_good_for_queries_that_differ_in_id_and_case() {
        let essence = |bytes: Vec<u8>| Query::read(bytes).unwrap().essence();
        let own = essence(QUERY.to_vec());
        assert_eq!(essence(changed(0, 7)), own);
        assert_eq!(essence(changed(14, b'w')), own);
        // Another flag, name, type, and size of answers.
        for (at, value) in [(2, 0), (3, 0x10), (13, b'x'), (26, 28), (32, 5)] {
            assert_ne!(essence(changed(at, value)), own, "byte {at}");
        }
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
                let _ = (query.disguised().is_answered_by(&message), query.essence());
            }
        }
    }
}
