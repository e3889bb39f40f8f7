//! When to ask for which name.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use crate::dns::{Answer, Name};

/// Longer times are taken for this long: a mistake in a zone must not stay for days.
const MAX_TTL: Duration = Duration::from_secs(3600);
/// Shorter times than this are not asked for, however short they are to count: some names have none at all.
const MIN_TTL: Duration = Duration::from_secs(1);
/// A name without addresses, as many are in IPv6, is looked at again after this long.
const NOTHING_TTL: Duration = Duration::from_secs(300);
/// How long after a first failure to ask again.
const MIN_BACK_OFF: Duration = Duration::from_secs(2);
const MAX_BACK_OFF: Duration = Duration::from_secs(300);
/// For how long a name that had addresses may have none before that is believed.
const EMPTY: Duration = Duration::from_secs(86_400);
/// For how much longer than until the next attempt kept addresses are good.
const SPARE: Duration = Duration::from_secs(30);

/// Names, with the last good answer of each and the time to ask again.
pub struct Schedule {
    questions: Vec<Question>,
    /// When to ask which; a question that is being asked is not in here.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The least and the longest time for which an answer counts.
    counts: RangeInclusive<Duration>,
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
    /// Since when there are no addresses, if there were before.
    empty: Option<Instant>,
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
    /// All are asked for their addresses of both families as soon as the rate lets them: so many a second. `counts` is the least and the longest time for
    /// which answers count.
    pub fn new(
        names: impl IntoIterator<Item = Name>,
        rate: u32,
        counts: RangeInclusive<Duration>,
        now: Instant,
    ) -> Self {
        let both = |name: Name| [RecordType::A, RecordType::AAAA].map(|kind| (name.clone(), kind));
        let question = |(name, kind)| Question { name, kind, last: None, failures: 0, empty: None };
        let questions: Vec<Question> = names.into_iter().flat_map(both).map(question).collect();
        let due = (0..questions.len()).map(|which| Reverse((now, which))).collect();
        Self { questions, due, counts, gap: Duration::from_secs(1) / rate.max(1), free: now }
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

    /// Whether an answer is to be believed: one without addresses, where there were some, only if it has been so for a day.
    pub fn takes(&mut self, Id(which): Id, answer: &Answer, now: Instant) -> bool {
        let question = &mut self.questions[which];
        let had = question.last.as_ref().is_some_and(|last| !last.addresses.is_empty());
        if !answer.addresses.is_empty() || !had {
            question.empty = None;
            return true;
        }
        now >= *question.empty.get_or_insert(now) + EMPTY
    }

    /// There is an answer. It is asked again when 75 to 90 % of its time have gone, by `chance` from 0 to 1, so that what was asked together is not
    /// asked together again.
    pub fn answered(&mut self, Id(which): Id, answer: Answer, now: Instant, chance: f64) {
        let least = answer.addresses.iter().map(|(_, ttl)| Duration::from_secs((*ttl).into())).min();
        let (floor, ceiling) = (*self.counts.start(), *self.counts.end());
        let ttl = least.map_or(NOTHING_TTL, |ttl| ttl.min(ceiling).max(floor).clamp(MIN_TTL, MAX_TTL));
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
        let mut kept = question.last.clone().filter(|last| !last.addresses.is_empty())?;
        let seconds = (back_off + SPARE).as_secs() as u32;
        for (_, ttl) in &mut kept.addresses {
            *ttl = seconds;
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ops::RangeInclusive,
        time::{Duration, Instant},
    };

    use hickory_proto::{
        op::ResponseCode,
        rr::{DNSClass, RecordType},
    };

    use super::{EMPTY, Id, Next, Schedule};
    use crate::dns::{Answer, Name, Question};

    const SECOND: Duration = Duration::from_secs(1);
    const COUNTS: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(86_400);

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
        let mut schedule = Schedule::new([name(0)], 1_000_000, COUNTS, now);
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
    fn an_empty_answer_is_believed_after_a_day_where_there_were_addresses() {
        let start = Instant::now();
        let (mut schedule, a, aaaa) = asked(start);
        assert!(schedule.takes(aaaa, &answer(None), start), "it never had any");
        assert!(schedule.takes(a, &answer(Some(60)), start));
        schedule.answered(a, answer(Some(60)), start, 0.5);
        assert!(!schedule.takes(a, &answer(None), start + SECOND));
        assert!(schedule.failed(a, start + SECOND, 0.5).is_some_and(|kept| !kept.addresses.is_empty()));
        assert!(schedule.takes(a, &answer(Some(60)), start + 2 * SECOND), "it is back");
        assert!(!schedule.takes(a, &answer(None), start + 3 * SECOND));
        // The address in between began the day again.
        assert!(!schedule.takes(a, &answer(None), start + 2 * SECOND + EMPTY));
        assert!(schedule.takes(a, &answer(None), start + 3 * SECOND + EMPTY));
        schedule.answered(a, answer(None), start + 3 * SECOND + EMPTY, 0.5);
        assert_eq!(schedule.failed(a, start + 4 * SECOND + EMPTY, 0.5), None);
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
        let mut schedule = Schedule::new((0..5000).map(name), 100, COUNTS, start);
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
