//! Which upstream to ask first.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crate::dns::Question;

/// What is known of each upstream, by its place in the configuration.
pub struct Health {
    upstreams: Vec<State>,
    /// How long one may take to answer.
    patience: Duration,
    /// When any of them answered last.
    heard: Option<Instant>,
}

#[derive(Clone, Default)]
struct State {
    /// How often it failed since it last answered.
    failures: u32,
    failed: Option<Instant>,
    /// When to ask it again before others.
    again: Option<Instant>,
    /// What others could answer and it could not, since it last answered.
    at_a_loss: HashSet<Question>,
}

/// So many different questions at which it alone is at a loss are the upstream's fault; a few are those of the names, such as signatures that it alone
/// looks at.
const MANY_QUESTIONS: usize = 4;

/// The longest that one which failed comes after all others.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

impl Health {
    /// All are well.
    pub fn new(upstreams: usize, patience: Duration) -> Self {
        Self { upstreams: vec![State::default(); upstreams], patience, heard: None }
    }

    /// All of them: those that are well as they are configured, then those that are soonest to be asked again.
    pub fn order(&mut self, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.upstreams.len()).collect();
        order.sort_by_key(|&which| self.upstreams[which].again.filter(|again| *again > now));
        // One query tries whether it is well again; meanwhile, others go past it.
        if let Some(first) = order.first().map(|&first| &mut self.upstreams[first])
            && first.again.is_some_and(|again| again <= now)
        {
            first.again = Some(now + self.patience);
        }
        order
    }

    /// Whether one is not behind those that answer.
    pub fn is_well(&self, which: usize, now: Instant) -> bool {
        self.upstreams[which].again.is_none_or(|again| again <= now)
    }

    /// It answered.
    pub fn answered(&mut self, which: usize, now: Instant) {
        self.upstreams[which] = State::default();
        self.heard = Some(now);
    }

    /// When any of them answered last.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// It said that it cannot answer what another could then. Who asks the same again and again cannot make it fail.
    pub fn at_a_loss(&mut self, which: usize, question: &Question, asked: Instant, now: Instant) {
        let state = &mut self.upstreams[which];
        if state.at_a_loss.len() < MANY_QUESTIONS {
            state.at_a_loss.insert(question.clone());
        }
        if state.at_a_loss.len() == MANY_QUESTIONS {
            self.failed(which, asked, now);
        }
    }

    /// It did not answer what it was asked at a time. A single failure may be a lost datagram; from the second on, it waits twice as long each time.
    pub fn failed(&mut self, which: usize, asked: Instant, now: Instant) {
        let state = &mut self.upstreams[which];
        // All queries that were on their way when it failed tell of the same failure.
        if state.failed.is_some_and(|failed| asked < failed) {
            return;
        }
        state.failures += 1;
        state.failed = Some(now);
        let doublings = state.failures.checked_sub(2);
        let back_off = doublings.map(|doublings| Duration::from_secs(1 << doublings.min(6)).min(MAX_BACK_OFF));
        state.again = back_off.map(|back_off| now + back_off);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hickory_proto::rr::{DNSClass, RecordType};

    use super::Health;
    use crate::dns::Question;

    const SECOND: Duration = Duration::from_secs(1);

    fn question(number: u32) -> Question {
        let name = format!("n{number}.example").parse().unwrap();
        Question { name, kind: RecordType::A, class: DNSClass::IN }
    }

    #[test]
    fn who_is_at_a_loss_for_one_name_is_well_and_for_many_is_not() {
        let mut now = Instant::now();
        let mut health = Health::new(2, 2 * SECOND);
        let mut lost = |health: &mut Health, number| {
            now += SECOND / 100;
            health.at_a_loss(0, &question(number), now, now);
            health.order(now)
        };
        for number in 0..1000 {
            assert_eq!(lost(&mut health, number % 3), [0, 1]);
        }
        // Any answer makes up for all.
        health.answered(0, Instant::now());
        for number in 3..7 {
            assert_eq!(lost(&mut health, number), [0, 1]);
        }
        assert_eq!(lost(&mut health, 7), [1, 0]);
        health.answered(0, Instant::now());
        assert_eq!(lost(&mut health, 8), [0, 1]);
    }

    #[test]
    fn one_failure_is_forgiven_and_more_are_not() {
        let start = Instant::now();
        let mut health = Health::new(3, 2 * SECOND);
        health.failed(0, start, start);
        assert_eq!(health.order(start), [0, 1, 2]);
        health.failed(0, start, start);
        assert_eq!(health.order(start), [1, 2, 0]);
        // The back-off is over: one query tries it, the others do not wait for that.
        assert_eq!(health.order(start + SECOND), [0, 1, 2]);
        assert_eq!(health.order(start + SECOND), [1, 2, 0]);
        health.failed(0, start + SECOND, start + 3 * SECOND);
        assert_eq!(health.order(start + 4 * SECOND), [1, 2, 0]);
        assert_eq!(health.order(start + 5 * SECOND), [0, 1, 2]);
        health.answered(0, start);
        assert_eq!(health.order(start + 5 * SECOND), [0, 1, 2]);
        assert_eq!(health.order(start + 5 * SECOND), [0, 1, 2]);
    }

    #[test]
    fn a_thousand_queries_at_once_fail_once() {
        let start = Instant::now();
        let mut health = Health::new(2, 2 * SECOND);
        for _ in 0..1000 {
            health.failed(0, start, start + 2 * SECOND);
        }
        assert_eq!(health.order(start + 2 * SECOND), [0, 1]);
    }

    #[test]
    fn back_off_has_an_end_and_all_are_asked_at_last() {
        let start = Instant::now();
        let mut health = Health::new(2, 2 * SECOND);
        for _ in 0..100 {
            health.failed(0, start, start);
        }
        health.failed(1, start, start);
        health.failed(1, start, start);
        assert_eq!(health.order(start), [1, 0]);
        assert_eq!(health.order(start + 60 * SECOND), [0, 1]);
    }
}
