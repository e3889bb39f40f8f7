//! The times of schedules in classes, and classes of them as words again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{TooMuch, axis::Axis, line};
use crate::{
    compile::sets::{SetId, Sets},
    policy::model::WEEK,
};

/// What clients' admission by a portal is called among zones, and when in its "week" of two minutes they are not admitted. It is behind all zones of the database.
pub const ADMISSION: &str = "~";
pub const UNADMITTED: Range<u32> = 0..1;

/// States of the clocks of all zones together, at most.
const MOST_STATES: usize = 10_000;

/// The weeks of the zones that schedules name. Each zone's clock is taken for itself: a state is a class of each of them, and any state is possible.
pub struct Times {
    zones: Vec<Zone>,
    /// The class of each zone, by state.
    states: Vec<Vec<SetId>>,
}

struct Zone {
    name: String,
    week: Vec<(Range<u32>, SetId)>,
}

impl Times {
    /// The weeks of numbered schedules, and the axis that they make.
    pub fn new(schedules: &[(String, Vec<Range<u32>>)]) -> Result<(Self, Axis), TooMuch> {
        let names: BTreeSet<&String> = schedules.iter().map(|(zone, _)| zone).collect();
        let mut zones = Vec::new();
        let mut states: Vec<(Vec<SetId>, Vec<u32>)> = vec![(Vec::new(), Vec::new())];
        for name in names {
            let own = schedules.iter().map(|(zone, times)| if zone == name { times.clone() } else { Vec::new() });
            let mut classes = Sets::default();
            let whole = 0..if name == ADMISSION { 2 } else { WEEK.into() };
            let week = line::cut(std::slice::from_ref(&whole), &own.collect::<Vec<_>>(), &mut classes);
            if states.len() * classes.len() > MOST_STATES {
                return Err(TooMuch { what: "combinations of times in several zones", limit: MOST_STATES });
            }
            let further = |(zones, sets): &(Vec<SetId>, Vec<u32>)| {
                let all = (0..classes.len() as SetId)
                    .map(|class| ([&zones[..], &[class]].concat(), [&sets[..], classes.get(class)].concat()));
                all.collect::<Vec<_>>()
            };
            states = states.iter().flat_map(further).collect();
            zones.push(Zone { name: name.clone(), week });
        }
        let mut sets = Sets::default();
        let states: Vec<Vec<SetId>> = states
            .into_iter()
            .map(|(state, mut inside)| {
                inside.sort_unstable();
                sets.intern(&inside);
                state
            })
            .collect();
        let classes = (0..states.len() as SetId).collect();
        Ok((Self { zones, states }, Axis::new(sets, classes)))
    }

    /// When the clocks are in one of some states; empty if they always are. Each text is a possibility.
    pub fn words(&self, states: &[SetId]) -> Vec<String> {
        if states.len() == self.states.len() {
            return Vec::new();
        }
        let states: BTreeSet<&[SetId]> = states.iter().map(|&state| &self.states[state as usize][..]).collect();
        possibilities(&self.zones, &states)
    }
}

/// The states as few products of times of each zone; an empty text is any time.
fn possibilities(zones: &[Zone], states: &BTreeSet<&[SetId]>) -> Vec<String> {
    let [zone, further @ ..] = zones else { return vec![String::new()] };
    // Classes of the first zone that the others' states are the same for.
    let mut rest: BTreeMap<SetId, BTreeSet<&[SetId]>> = BTreeMap::new();
    for state in states {
        rest.entry(state[0]).or_default().insert(&state[1..]);
    }
    let mut classes: BTreeMap<BTreeSet<&[SetId]>, Vec<SetId>> = BTreeMap::new();
    for (class, rest) in rest {
        classes.entry(rest).or_default().push(class);
    }
    let mut words = Vec::new();
    for (rest, classes) in classes {
        let own = zone.words(&classes);
        for rest in possibilities(further, &rest) {
            let both = !own.is_empty() && !rest.is_empty();
            words.push(format!("{own}{}{rest}", if both { " and " } else { "" }));
        }
    }
    words
}

impl Zone {
    fn words(&self, classes: &[SetId]) -> String {
        let mut days: Vec<Vec<String>> = vec![Vec::new(); 7];
        let wanted = |piece: &(Range<u32>, SetId)| classes.binary_search(&piece.1).is_ok();
        if self.week.iter().all(wanted) {
            return String::new();
        }
        if self.name == ADMISSION {
            let unadmitted = self.week.iter().any(|piece| piece.0.contains(&UNADMITTED.start) && wanted(piece));
            return if unadmitted { "while not admitted".into() } else { "while admitted".into() };
        }
        const DAY: u32 = 24 * 60;
        for run in self.week.chunk_by(|a, b| wanted(a) == wanted(b)).filter(|run| wanted(&run[0])) {
            let (start, end) = (run[0].0.start, run[run.len() - 1].0.end);
            for (number, day) in days.iter_mut().enumerate() {
                let midnight = number as u32 * DAY;
                let (from, to) = (start.max(midnight), end.min(midnight + DAY));
                if from < to {
                    let clock =
                        |minute: u32| format!("{:02}:{:02}", (minute - midnight) / 60, (minute - midnight) % 60);
                    day.push(format!("{}-{}", clock(from), clock(to)));
                }
            }
        }
        let name = |day: usize| ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][day];
        let mut words = Vec::new();
        let mut first = 0;
        for same in days.chunk_by(|a, b| a == b) {
            let last = first + same.len() - 1;
            let span = if first == last { name(first).into() } else { format!("{}-{}", name(first), name(last)) };
            match &same[0][..] {
                [] => {}
                [whole] if whole == "00:00-24:00" => words.push(span),
                times => words.push(format!("{span} {}", times.join(" "))),
            }
            first = last + 1;
        }
        format!("{} {}", words.join(", "), self.name)
    }
}
