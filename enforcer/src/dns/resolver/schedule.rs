//! When to ask for which name.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use crate::dns::{Answer, Name};

/// Shorter times are taken for this long: some names have none at all.
const MIN_TTL: Duration = Duration::from_secs(30);
/// Longer times for this long: a mistake in a zone must not stay for days.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// A name without addresses, as many are in IPv6, is looked at again after this long.
const NOTHING_TTL: Duration = Duration::from_secs(300);
/// How long after a first failure to ask again.
const MIN_BACK_OFF: Duration = Duration::from_secs(2);
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// For how much longer than until the next attempt kept addresses are good.
const SPARE: Duration = Duration::from_secs(30);

/// Names, with the last good answer of each and the time to ask again.
pub struct Schedule {
    questions: Vec<Question>,
    /// When to ask which; a question that is being asked is not in here.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Between two questions.
    gap: Duration,
    /// When the next may be asked.
    free: Instant,
}

struct Question {
    name: Name,
    kind: RecordType,
    last: Option<Answer>,
    failures: u32,
}

/// A question by its place in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(usize);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask now.
    Ask(Id, Name, RecordType),
    /// Wait until then.
    Wait(Instant),
    /// Wait for answers: there is nothing else to ask.
    Idle,
}

impl Schedule {
    /// All are asked for their addresses of both families as soon as the rate lets them: so many a second.
    pub fn new(names: impl IntoIterator<Item = Name>, rate: u32, now: Instant) -> Self {
        let both = |name: Name| [RecordType::A, RecordType::AAAA].map(|kind| (name.clone(), kind));
        let question = |(name, kind)| Question { name, kind, last: None, failures: 0 };
        let questions: Vec<Question> = names.into_iter().flat_map(both).map(question).collect();
        let due = (0..questions.len()).map(|which| Reverse((now, which))).collect();
        Self { questions, due, gap: Duration::from_secs(1) / rate.max(1), free: now }
    }

    /// What to do at a time.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(&Reverse((due, which))) = self.due.peek() else { return Next::Idle };
        let time = due.max(self.free);
        if time > now {
            return Next::Wait(time);
        }
        self.due.pop();
        self.free = now + self.gap;
        let question = &self.questions[which];
        Next::Ask(Id(which), question.name.clone(), question.kind)
    }

    /// There is an answer. It is asked again when 75 to 90 % of its time have gone, by `chance` from 0 to 1, so that what was asked together is not
    /// asked together again.
    pub fn answered(&mut self, Id(which): Id, answer: Answer, now: Instant, chance: f64) {
        let least = answer.addresses.iter().map(|(_, ttl)| Duration::from_secs((*ttl).into())).min();
        let ttl = least.map_or(NOTHING_TTL, |ttl| ttl.clamp(MIN_TTL, MAX_TTL));
        let question = &mut self.questions[which];
        question.failures = 0;
        question.last = Some(answer);
        self.due.push(Reverse((now + ttl.mul_f64(0.75 + 0.15 * chance), which)));
    }

    /// Nobody has an answer. The last one that there was is good until a while after the next attempt, which comes later each time.
    pub fn failed(&mut self, Id(which): Id, now: Instant, chance: f64) -> Option<Answer> {
        let question = &mut self.questions[which];
        let back_off = (MIN_BACK_OFF * (1 << question.failures.min(16))).min(MAX_BACK_OFF).mul_f64(0.75 + 0.5 * chance);
        question.failures += 1;
        self.due.push(Reverse((now + back_off, which)));
        let mut kept = question.last.clone()?;
        let seconds = (back_off + SPARE).as_secs() as u32;
        for (_, ttl) in &mut kept.addresses {
            *ttl = seconds;
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hickory_proto::{
        op::ResponseCode,
        rr::{DNSClass, RecordType},
    };

    use super::{Id, Next, Schedule};
    use crate::dns::{Answer, Name, Question};

    const SECOND: Duration = Duration::from_secs(1);

    fn name(number: usize) -> Name {
        format!("n{number}.example").parse().unwrap()
    }

    fn answer(ttl: Option<u32>) -> Answer {
        Answer {
            question: Question { name: name(0), kind: RecordType::A, class: DNSClass::IN },
            rcode: ResponseCode::NoError,
            truncated: false,
            addresses: ttl
                .into_iter()
                .flat_map(|ttl| [([203, 0, 113, 1].into(), ttl), ([203, 0, 113, 2].into(), ttl + 7)])
                .collect(),
            left_out: 0,
            chain: Vec::new(),
        }
    }

    /// The schedule of one name, asked for both families.
    fn asked(now: Instant) -> (Schedule, Id, Id) {
        let mut schedule = Schedule::new([name(0)], 1_000_000, now);
        let mut ask = |after: u32| match schedule.next(now + after * Duration::from_micros(1)) {
            Next::Ask(id, asked, kind) => {
                assert_eq!(asked, name(0));
                (id, kind)
            }
            other => panic!("{other:?}"),
        };
        let ((a, v4), (aaaa, v6)) = (ask(0), ask(1));
        assert_eq!((v4, v6), (RecordType::A, RecordType::AAAA));
        assert_eq!(schedule.next(now + SECOND), Next::Idle);
        (schedule, a, aaaa)
    }

    /// How long after an answer it is asked again.
    fn pause(ttl: Option<u32>, chance: f64) -> Duration {
        let now = Instant::now();
        let (mut schedule, a, _) = asked(now);
        schedule.answered(a, answer(ttl), now + SECOND, chance);
        match schedule.next(now + SECOND) {
            Next::Wait(until) => until - now - SECOND,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_asks_again_before_the_time_is_over() {
        assert_eq!(pause(Some(100), 0.0), 75 * SECOND);
        assert_eq!(pause(Some(100), 1.0), 90 * SECOND);
        assert_eq!(pause(Some(0), 0.0), SECOND * 45 / 2);
        assert_eq!(pause(Some(1_000_000), 1.0), 54 * 60 * SECOND);
        assert_eq!(pause(None, 0.0), 225 * SECOND);
    }

    #[test]
    fn failures_keep_the_last_good_answer_and_wait_longer() {
        let start = Instant::now();
        let (mut schedule, a, aaaa) = asked(start);
        assert_eq!(schedule.failed(aaaa, start, 0.5), None);
        schedule.answered(a, answer(Some(60)), start, 0.0);
        let mut now = start;
        let mut pauses = Vec::new();
        while pauses.len() < 20 {
            now = match schedule.next(now) {
                Next::Wait(until) => until,
                Next::Ask(id, ..) if id == a => {
                    let kept = schedule.failed(a, now, 0.5).unwrap();
                    let Next::Wait(until) = schedule.next(now) else { panic!("asked at once") };
                    let good =
                        Duration::from_secs(kept.addresses.iter().map(|(_, ttl)| u64::from(*ttl)).min().unwrap());
                    assert!(good > until - now, "its addresses end before it is asked again");
                    pauses.push((until - now).as_secs());
                    until
                }
                // IPv6 is left aside.
                Next::Ask(..) => now,
                Next::Idle => panic!("nothing to ask"),
            };
        }
        assert_eq!(pauses[..9], [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pauses[19], 300);
        assert!(matches!(schedule.next(now), Next::Ask(id, ..) if id == a));
        schedule.answered(a, answer(Some(60)), now, 0.0);
        assert_eq!(schedule.next(now), Next::Wait(now + 45 * SECOND));
    }

    #[test]
    fn thousands_of_names_make_no_burst() {
        let start = Instant::now();
        let mut schedule = Schedule::new((0..5000).map(name), 100, start);
        let mut now = start;
        let mut asked = Vec::new();
        while now < start + 200 * SECOND {
            match schedule.next(now) {
                Next::Ask(id, ..) => {
                    asked.push(now);
                    schedule.answered(id, answer(Some(600)), now, 0.5);
                }
                Next::Wait(until) => now = until,
                Next::Idle => panic!("nothing to ask"),
            }
        }
        assert_eq!(asked.len(), 10_000);
        assert!(asked.windows(101).all(|pair| pair[100] - pair[0] >= SECOND));
    }
}
