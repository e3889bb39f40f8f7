//! Which upstream to ask first.

use std::time::{Duration, Instant};

/// What is known of each upstream, by its place in the configuration.
pub struct Health {
    upstreams: Vec<State>,
    /// How long one may take to answer.
    patience: Duration,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// How often it failed since it last answered.
    failures: u32,
    failed: Option<Instant>,
    /// When to ask it again before others.
    again: Option<Instant>,
}

/// The longest that one which failed comes after all others.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

impl Health {
    /// All are well.
    pub fn new(upstreams: usize, patience: Duration) -> Self {
        Self { upstreams: vec![State::default(); upstreams], patience }
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
    pub fn answered(&mut self, which: usize) {
        self.upstreams[which] = State::default();
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

    use super::Health;

    const SECOND: Duration = Duration::from_secs(1);

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
        health.answered(0);
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
