//! What a message asks, and which addresses an answer has for that.

use std::{collections::HashMap, net::IpAddr};

use hickory_proto::{
    op::{Header, MessageType, OpCode, Query, ResponseCode},
    rr::{self, DNSClass, RData, RecordType, rdata::svcb::SvcParamValue},
    serialize::binary::{BinDecodable as _, BinDecoder, DecodeError, Restrict},
};

use super::Name;

/// Links of a chain of aliases; resolvers follow no more than some ten.
const MAX_LINKS: usize = 16;
/// Addresses that are taken from one answer.
const MAX_ADDRESSES: usize = 1000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Whose records.
    pub name: Name,
    /// Which records.
    pub kind: RecordType,
    /// Of which class; the internet's is the only one in use.
    pub class: DNSClass,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// The response code in the header, without the bits that EDNS adds.
    pub rcode: ResponseCode,
    /// Whether there is more that did not fit.
    pub truncated: bool,
    /// Addresses with the seconds for which they are valid: the least along the chain.
    pub addresses: Vec<(IpAddr, u32)>,
    /// How many addresses there were beyond those.
    pub left_out: usize,
    /// The names that the question's name is an alias of, one after the other.
    pub chain: Vec<Name>,
}

/// Why a message cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no DNS message.
    #[error("not a DNS message")]
    Malformed(#[from] DecodeError),
    /// It is a query or another operation than one.
    #[error("not the answer to a query")]
    NotAnAnswer,
    /// It has none or several.
    #[error("{0} questions; a message has one")]
    Questions(u16),
    /// Its aliases lead nowhere.
    #[error("the aliases of {0} go round in a circle, or are more than {MAX_LINKS}")]
    Aliases(Name),
}

impl From<&Query> for Question {
    fn from(query: &Query) -> Self {
        Self { name: Name::from(&query.name), kind: query.query_type, class: query.query_class }
    }
}

impl Question {
    /// Whether an answer's records of a type are what is asked for.
    fn wants(&self, kind: RecordType) -> bool {
        self.class == DNSClass::IN && (self.kind == kind || self.kind == RecordType::ANY)
    }
}

impl Answer {
    /// Reads an answer. Only its answer section counts, and there only what belongs to the question's name, directly or by aliases.
    ///
    /// # Errors
    /// If it is no answer, or its aliases lead nowhere. A single record that makes no sense is left out.
    pub fn read(message: &[u8]) -> Result<Self, Unreadable> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder)?;
        if header.metadata.message_type != MessageType::Response || header.metadata.op_code != OpCode::Query {
            return Err(Unreadable::NotAnAnswer);
        }
        if header.counts.queries != 1 {
            return Err(Unreadable::Questions(header.counts.queries));
        }
        let question = Question::from(&Query::read(&mut decoder)?);
        let mut aliases = HashMap::new();
        let mut found = Vec::new();
        for _ in 0..header.counts.answers {
            let record = Record::read(message, &mut decoder)?;
            match record.data {
                Some(RData::CNAME(target)) => {
                    aliases.entry(record.owner).or_insert((Name::from(&target.0), record.ttl));
                }
                Some(data) if question.wants(record.kind) => {
                    found.extend(addresses(&data).map(|address| (record.owner.clone(), address, record.ttl)));
                }
                _ => {}
            }
        }
        let (chain, ttls) = follow(&question.name, &aliases)?;
        let mut addresses: Vec<(IpAddr, u32)> = found
            .into_iter()
            .filter_map(|(owner, address, ttl)| Some((address, ttl.min(*ttls.get(&owner)?))))
            .collect();
        let left_out = addresses.len().saturating_sub(MAX_ADDRESSES);
        addresses.truncate(MAX_ADDRESSES);
        let (rcode, truncated) = (header.metadata.response_code, header.metadata.truncation);
        Ok(Self { question, rcode, truncated, addresses, left_out, chain })
    }
}

/// The names that a name is an alias of, and for how long each name on the way counts.
fn follow(name: &Name, aliases: &HashMap<Name, (Name, u32)>) -> Result<(Vec<Name>, HashMap<Name, u32>), Unreadable> {
    let mut chain = Vec::new();
    let mut ttls = HashMap::from([(name.clone(), u32::MAX)]);
    let (mut last, mut least) = (name, u32::MAX);
    while let Some((target, ttl)) = aliases.get(last) {
        least = least.min(*ttl);
        if chain.len() == MAX_LINKS || ttls.insert(target.clone(), least).is_some() {
            return Err(Unreadable::Aliases(name.clone()));
        }
        chain.push(target.clone());
        last = target;
    }
    Ok((chain, ttls))
}

/// A resource record.
struct Record {
    owner: Name,
    kind: RecordType,
    ttl: u32,
    /// Of the types that have or lead to addresses.
    data: Option<RData>,
}

impl Record {
    fn read(message: &[u8], decoder: &mut BinDecoder<'_>) -> Result<Self, DecodeError> {
        let owner = Name::from(&rr::Name::read(decoder)?);
        let kind = RecordType::read(decoder)?;
        let class = DNSClass::read(decoder)?;
        let ttl = decoder.read_u32()?.unverified();
        let length = decoder.read_u16()?.unverified();
        let start = decoder.index();
        decoder.read_slice(length.into())?;
        let useful =
            matches!(kind, RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::HTTPS | RecordType::SVCB);
        let data = (useful && class == DNSClass::IN).then(|| {
            // A decoder that ends where the record ends.
            let mut decoder = BinDecoder::new(&message[..decoder.index()]);
            decoder.read_slice(start)?;
            RData::read(&mut decoder, kind, Restrict::new(length))
        });
        // A time with its highest bit set is none (RFC 2181, 8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Self { owner, kind, ttl, data: data.and_then(Result::ok) })
    }
}

/// A record's addresses. Those of HTTPS and SVCB records are hints, which clients use without asking further.
fn addresses(data: &RData) -> impl Iterator<Item = IpAddr> {
    let parameters = match data {
        RData::HTTPS(record) => &*record.0.svc_params,
        RData::SVCB(record) => &*record.svc_params,
        _ => &[],
    };
    let own = match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let hints = parameters.iter().flat_map(|(_, value)| match value {
        SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|hint| IpAddr::V4(hint.0)).collect(),
        SvcParamValue::Ipv6Hint(hints) => hints.0.iter().map(|hint| IpAddr::V6(hint.0)).collect(),
        _ => Vec::new(),
    });
    own.into_iter().chain(hints)
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Message, OpCode, Query, ResponseCode},
        rr::{
            DNSClass, Name, RData, Record, RecordType,
            rdata::{
                A, AAAA, CNAME, HTTPS, NULL, SVCB,
                svcb::{IpHint, SvcParamKey, SvcParamValue},
            },
        },
    };
    use proptest::prelude::*;

    use super::{Answer, MAX_ADDRESSES, MAX_LINKS, Unreadable};

    fn record(owner: &str, ttl: u32, data: RData) -> Record {
        Record::from_rdata(Name::from_ascii(owner).unwrap(), ttl, data)
    }

    fn a(owner: &str, ttl: u32, address: &str) -> Record {
        record(owner, ttl, RData::A(A(address.parse().unwrap())))
    }

    fn aaaa(owner: &str, ttl: u32, address: &str) -> Record {
        record(owner, ttl, RData::AAAA(AAAA(address.parse().unwrap())))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        record(owner, ttl, RData::CNAME(CNAME(Name::from_ascii(target).unwrap())))
    }

    fn message(name: &str, kind: RecordType, answers: Vec<Record>) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind)).add_answers(answers);
        message
    }

    fn read(name: &str, kind: RecordType, answers: Vec<Record>) -> Result<Answer, Unreadable> {
        Answer::read(&message(name, kind, answers).to_vec().unwrap())
    }

    /// What of an answer's records is taken, as text.
    fn taken(name: &str, kind: RecordType, answers: Vec<Record>) -> String {
        let addresses = read(name, kind, answers).unwrap().addresses;
        let words: Vec<String> = addresses.iter().map(|(address, ttl)| format!("{address}/{ttl}")).collect();
        words.join(" ")
    }

    /// A name of the catalogue's, on a shared network, in the order in which some servers send it.
    fn shared() -> Vec<Record> {
        vec![
            a("e1.cdn.example.", 20, "203.0.113.1"),
            alias("x.CDN.example.", 300, "E1.cdn.example."),
            alias("www.apple.com.", 60, "x.cdn.example."),
            a("E1.cdn.example.", 90, "203.0.113.2"),
        ]
    }

    #[test]
    fn aliases_are_followed_and_the_least_time_counts() {
        let answer = read("WWW.apple.com.", RecordType::A, shared()).unwrap();
        assert_eq!(answer.question.name.to_string(), "www.apple.com");
        assert_eq!(format!("{:?}", answer.chain), "[x.cdn.example, e1.cdn.example]");
        assert_eq!(format!("{:?}", answer.addresses), "[(203.0.113.1, 20), (203.0.113.2, 60)]");
        assert_eq!((answer.rcode, answer.truncated, answer.left_out), (ResponseCode::NoError, false, 0));
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let both = || vec![a("n.example.", 5, "192.0.2.1"), aaaa("n.example.", 6, "2001:db8::1")];
        assert_eq!(taken("n.example.", RecordType::A, both()), "192.0.2.1/5");
        assert_eq!(taken("n.example.", RecordType::AAAA, both()), "2001:db8::1/6");
        assert_eq!(taken("n.example.", RecordType::ANY, both()), "192.0.2.1/5 2001:db8::1/6");
        assert_eq!(taken("n.example.", RecordType::TXT, both()), "");
        assert_eq!(taken("other.example.", RecordType::A, both()), "");
        assert_eq!(taken("n.example.", RecordType::A, vec![a("n.example.", 1 << 31, "192.0.2.1")]), "192.0.2.1/0");
        let mut chaos = a("n.example.", 5, "192.0.2.1");
        chaos.dns_class = DNSClass::CH;
        assert_eq!(taken("n.example.", RecordType::A, vec![chaos]), "");
        let mut elsewhere = message("n.example.", RecordType::A, Vec::new());
        elsewhere.add_additional(a("n.example.", 5, "192.0.2.1")).add_authority(a("n.example.", 5, "192.0.2.2"));
        assert!(Answer::read(&elsewhere.to_vec().unwrap()).unwrap().addresses.is_empty());
    }

    #[test]
    fn hints_of_service_records_are_addresses() {
        let hints = vec![
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A("192.0.2.1".parse().unwrap())]))),
            (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA("2001:db8::1".parse().unwrap())]))),
        ];
        let service = SVCB::new(1, Name::root(), hints);
        let answers = || {
            vec![alias("n.example.", 9, "m.example."), record("m.example.", 30, RData::HTTPS(HTTPS(service.clone())))]
        };
        assert_eq!(taken("n.example.", RecordType::HTTPS, answers()), "192.0.2.1/9 2001:db8::1/9");
        assert_eq!(taken("n.example.", RecordType::SVCB, answers()), "");
        let service = record("n.example.", 30, RData::SVCB(service));
        assert_eq!(taken("n.example.", RecordType::SVCB, vec![service]), "192.0.2.1/30 2001:db8::1/30");
    }

    #[test]
    fn aliases_that_lead_nowhere_are_refused() {
        let circle = vec![alias("a.example.", 5, "b.example."), alias("b.example.", 5, "a.example.")];
        assert!(matches!(read("a.example.", RecordType::A, circle), Err(Unreadable::Aliases(_))));
        let itself = vec![alias("a.example.", 5, "A.example.")];
        assert!(matches!(read("a.example.", RecordType::A, itself), Err(Unreadable::Aliases(_))));
        let chain = |links: usize| {
            let mut records: Vec<Record> =
                (0..links).map(|link| alias(&format!("n{link}."), 5, &format!("n{}.", link + 1))).collect();
            records.push(a(&format!("n{links}."), 5, "192.0.2.1"));
            read("n0.", RecordType::A, records)
        };
        assert_eq!(chain(MAX_LINKS).unwrap().addresses.len(), 1);
        assert!(matches!(chain(MAX_LINKS + 1), Err(Unreadable::Aliases(_))));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let good = message("n.example.", RecordType::A, vec![a("n.example.", 5, "192.0.2.1")]).to_vec().unwrap();
        assert!(Answer::read(&good).is_ok());
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Answer::read(&bytes)
        };
        assert!(matches!(changed(2, 0), Err(Unreadable::NotAnAnswer)), "a query");
        assert!(matches!(changed(2, 0x80 | 5 << 3), Err(Unreadable::NotAnAnswer)), "an update");
        assert!(matches!(changed(5, 0), Err(Unreadable::Questions(0))));
        assert!(matches!(changed(5, 2), Err(Unreadable::Questions(2)),));
        assert!(matches!(changed(7, 2), Err(Unreadable::Malformed(_))), "more records than there are");
        assert!(Answer::read(&[]).is_err());
    }

    #[test]
    fn pointers_in_circles_end() {
        let question = b"\x01n\x00\x00\x01\x00\x01";
        for owner in
            [&b"\xc0\x13"[..], b"\xc0\x15", b"\xc0\x15\xc0\x13", b"\x01a\xc0\x13", b"\xff\xff", b"\xc0\x0c\xc0\x13"]
        {
            let mut bytes = b"\x00\x07\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00".to_vec();
            bytes.extend(question);
            bytes.extend(owner);
            bytes.extend(b"\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc0\x00\x02\x01");
            let addresses = Answer::read(&bytes).map(|answer| answer.addresses).unwrap_or_default();
            assert!(addresses.is_empty(), "{owner:?}");
        }
    }

    #[test]
    fn a_record_that_makes_no_sense_is_left_out() {
        let mut bytes = message("n.example.", RecordType::A, Vec::new()).to_vec().unwrap();
        bytes[7] = 3;
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x03\xc0\x00\x02");
        bytes.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\xff");
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc0\x00\x02\x01");
        assert_eq!(format!("{:?}", Answer::read(&bytes).unwrap().addresses), "[(192.0.2.1, 5)]");
    }

    #[test]
    fn no_more_than_a_thousand_addresses_are_taken() {
        let mut bytes = message("n.example.", RecordType::A, Vec::new()).to_vec().unwrap();
        bytes[6..8].copy_from_slice(&10_000_u16.to_be_bytes());
        for number in 0..10_000_u32 {
            bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04");
            bytes.extend((0x1100_0000 + number).to_be_bytes());
        }
        let answer = Answer::read(&bytes).unwrap();
        assert_eq!((answer.addresses.len(), answer.left_out), (MAX_ADDRESSES, 9000));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Answer::read(&bytes);
        }

        #[test]
        fn a_changed_answer_is_an_answer_or_refused(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            length in any::<prop::sample::Index>(),
            cut in any::<bool>(),
        ) {
            let mut records = shared();
            records.push(record("www.apple.com.", 5, RData::Unknown { code: RecordType::Unknown(65), rdata: NULL::with(vec![0, 1, 0, 0, 4]) }));
            let mut bytes = message("www.apple.com.", RecordType::A, records).to_vec().unwrap();
            for (index, value) in changes {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
            if let Ok(answer) = Answer::read(&bytes) {
                prop_assert!(answer.addresses.len() <= 2 && answer.chain.len() <= 2);
            }
        }
    }
}
