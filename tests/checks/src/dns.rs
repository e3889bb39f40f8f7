//! Any bytes as an answer and as a query: what is read of an answer is bounded, and a query knows its own answer and no other.
use enforcer::dns::{Answer, forwarder::query::Query};

/// Checks one input.
///
/// # Panics
/// If the input shows a fault.
pub fn check(bytes: &[u8]) {
    if let Ok(answer) = Answer::read(bytes) {
        // A record of an address takes more than ten bytes, and an alias as much.
        assert!(answer.addresses.len() <= bytes.len() / 10 && answer.addresses.len() <= 1000);
        assert!(answer.chain.len() <= bytes.len() / 10 && answer.chain.len() <= 16);
    }
    let Ok(query) = Query::read(bytes.to_vec()) else { return };
    let sent = query.disguised();
    let mut answer = sent.bytes().to_vec();
    assert!(!sent.is_answered_by(&answer), "a query is no answer");
    answer[2] |= 0x80;
    assert!(sent.is_answered_by(&answer));
    // Whatever it is read as, it is of the same question.
    if let Ok(read) = Answer::read(&answer) {
        assert_eq!(read.question, query.question);
    }
    for changed in [0, 1, 12] {
        let mut other = answer.clone();
        other[changed] ^= 1;
        assert!(!sent.is_answered_by(&other), "byte {changed}");
    }
    query.claim(&mut answer);
    answer[2] &= 0x7f;
    assert_eq!(answer, query.bytes());
}
