//! Schedules and time: which sets of schedules there can be at once, and which one applies now.
//!
//! A policy is compiled for every such set, a *moment*; passing from one to the next is a store of one word.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};

use crate::policy::{Policy, Schedule, ScheduleId, model::WEEK};

/// So many moments there may be: each has source tables of its own.
pub const MOST: usize = 1024;

/// The moments of a policy.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Schedules that rules use, by time zone.
    zones: Vec<(TimeZone, Vec<(ScheduleId, Schedule)>)>,
    /// The sets of schedules that may apply at once, each sorted, by moment.
    sets: Vec<Vec<ScheduleId>>,
}

impl Moments {
    /// Of the schedules that rules use. Clocks of one zone pass through the same week whatever the date; those of different zones are taken as
    /// independent, as their differences change with summer time.
    ///
    /// # Errors
    /// How many there would be, if they are more than [`MOST`].
    pub fn of(policy: &Policy) -> Result<Self, usize> {
        let rules = [&policy.lan, &policy.router, &policy.inbound].into_iter().flat_map(|rules| &rules.rules);
        let mut zones: BTreeMap<&str, BTreeMap<ScheduleId, &Schedule>> = BTreeMap::new();
        for id in rules.filter_map(|rule| rule.when) {
            let schedule = &policy.schedules[id.0 as usize];
            zones.entry(&schedule.zone).or_default().insert(id, schedule);
        }
        let mut sets = vec![Vec::new()];
        for schedules in zones.values() {
            let minutes =
                schedules.values().flat_map(|schedule| &schedule.times).flat_map(|time| [time.start, time.end]);
            let of_zone: BTreeSet<Vec<ScheduleId>> =
                minutes.chain([0]).map(|minute| at(schedules, minute % WEEK)).collect();
            if sets.len() * of_zone.len() > MOST {
                return Err(sets.len() * of_zone.len());
            }
            sets = sets.iter().flat_map(|set: &Vec<_>| of_zone.iter().map(|more| [&set[..], more].concat())).collect();
            sets.iter_mut().for_each(|set| set.sort_unstable());
        }
        sets.sort_unstable();
        let zones = zones
            .into_iter()
            .map(|(zone, schedules)| {
                // A zone that the reader of the policy knew is known here, too.
                let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
                (zone, schedules.into_iter().map(|(id, schedule)| (id, schedule.clone())).collect())
            })
            .collect();
        Ok(Self { zones, sets })
    }

    /// The sets of schedules that may apply at once, each sorted; at least the one that is there without any schedule.
    #[must_use]
    pub fn sets(&self) -> &[Vec<ScheduleId>] {
        &self.sets
    }

    /// The number of the moment that it is at a time.
    #[must_use]
    pub fn at(&self, time: Timestamp) -> usize {
        // Every set that a minute can have was found when the moments were made.
        self.sets.binary_search(&self.set_at(time)).unwrap_or(0)
    }

    fn set_at(&self, time: Timestamp) -> Vec<ScheduleId> {
        let mut set = Vec::new();
        for (zone, schedules) in &self.zones {
            let local = zone.to_datetime(time);
            let days = local.weekday().since(Weekday::Monday) as u16;
            let minute = (days * 24 + local.hour() as u16) * 60 + local.minute() as u16;
            set.extend(at(schedules.iter().map(|(id, schedule)| (id, schedule)), minute));
        }
        set.sort_unstable();
        set
    }
}

/// The schedules that apply in a minute of the week, in order.
fn at<'a, S: std::borrow::Borrow<Schedule> + 'a>(
    schedules: impl IntoIterator<Item = (&'a ScheduleId, &'a S)>,
    minute: u16,
) -> Vec<ScheduleId> {
    let applies = |schedule: &Schedule| schedule.times.iter().any(|time| time.contains(&minute));
    schedules.into_iter().filter(|(_, schedule)| applies((*schedule).borrow())).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::policy::{Action, Rule, Rules};

    /// A policy with a rule for each schedule: zone and minutes of the week.
    fn moments(schedules: &[(&str, &[[u16; 2]])]) -> Moments {
        let schedules: Vec<Schedule> = schedules
            .iter()
            .map(|(zone, times)| Schedule {
                name: (*zone).into(),
                zone: (*zone).into(),
                times: times.iter().map(|[start, end]| *start..*end).collect(),
            })
            .collect();
        let rule = |when| Rule { when: Some(ScheduleId(when)), ..Rule::new(Action::Allow) };
        let lan = Rules { default: Action::Drop, rules: (0..schedules.len() as u32).map(rule).collect() };
        Moments::of(&Policy { lan, schedules, ..Policy::default() }).expect("few")
    }

    fn active(moments: &Moments, time: &str) -> Vec<u32> {
        let time = time.parse().expect("a time");
        moments.sets()[moments.at(time)].iter().map(|id| id.0).collect()
    }

    #[test]
    fn schedules_follow_the_clocks_of_their_zone_into_summer_time_and_out() {
        // Monday 08:00 to 16:00, and all of Sunday.
        let moments = moments(&[("Europe/Berlin", &[[480, 960], [6 * 1440, WEEK]])]);
        for (time, applies) in [
            ("2026-11-23T06:59:59Z", false),
            ("2026-11-23T07:00:00Z", true),
            ("2026-11-23T14:59:59Z", true),
            ("2026-11-23T15:00:00Z", false),
            // In summer, Berlin is two hours ahead.
            ("2026-06-22T05:59:59Z", false),
            ("2026-06-22T06:00:00Z", true),
            ("2026-11-21T22:59:59Z", false),
            ("2026-11-21T23:00:00Z", true),
            ("2026-11-22T22:59:59Z", true),
            ("2026-11-22T23:00:00Z", false),
        ] {
            assert_eq!(active(&moments, time), if applies { vec![0] } else { vec![] }, "{time}");
        }
    }

    #[test]
    fn every_combination_that_clocks_can_show_is_a_moment() {
        // Mornings and days overlap; nights are elsewhere.
        let moments = moments(&[
            ("Europe/Berlin", &[[480, 720]]),
            ("Europe/Berlin", &[[600, 960]]),
            ("America/New_York", &[[0, 360]]),
        ]);
        assert_eq!(moments.sets().len(), 4 * 2);
        assert_eq!(active(&moments, "2026-11-23T09:30:00Z"), [0, 1, 2]);
        let mut time: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        // A year of quarters of an hour, none of which is without its moment.
        for _ in 0..366 * 24 * 4 {
            assert!(moments.sets().contains(&moments.set_at(time)), "{time}");
            time += SignedDuration::from_mins(15);
        }
    }

    #[test]
    fn a_policy_without_schedules_has_one_moment() {
        assert_eq!(moments(&[]).sets(), [vec![]]);
    }
}
