//! Schedules: when a rule applies.

use std::ops::Range;

use jiff::tz::TimeZoneDatabase;
use serde_spanned::Spanned;
use toml::de::DeTable;

use super::{
    file::PolicyReader,
    keys,
    model::{Schedule, WEEK},
    words::{self, Wrong},
};

/// From Monday on, as model and files have it.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
pub const DAY: u16 = 24 * 60;

const EXAMPLES: &str = "write \"mon-fri 08:00-16:00\", \"sat,sun\" or \"22:00-06:00\"";

impl PolicyReader<'_> {
    /// Takes the schedules that a file defines.
    pub fn schedules(&mut self, table: &DeTable<'_>) {
        for (span, schedule) in self.reader.tables(table, "schedule") {
            self.reader.known(schedule, keys::SCHEDULE);
            self.comment(schedule);
            let Some(name) = self.reader.name(schedule, &span, "a schedule") else { continue };
            self.claim("schedule", &name, schedule.get("name").map_or(span.clone(), Spanned::span));
            for (key, help) in
                [("zone", "write zone = \"Europe/Berlin\""), ("times", "write times = [\"mon-fri 08:00-16:00\"]")]
            {
                if !schedule.contains_key(key) {
                    self.reader.wrong(span.clone(), format!("schedule {name:?} has no {key}"), help);
                }
            }
            let zone = self.zone(schedule).unwrap_or_default();
            let times = self.times(schedule);
            self.schedules.push(Schedule { name, zone, times });
        }
    }

    fn zone(&mut self, schedule: &DeTable<'_>) -> Option<String> {
        let value = schedule.get("zone")?;
        let word = self.reader.string(value)?;
        match zone(&word) {
            Ok(zone) => Some(zone),
            Err((message, help)) => {
                self.reader.wrong(value.span(), message, help);
                None
            }
        }
    }

    fn times(&mut self, schedule: &DeTable<'_>) -> Vec<Range<u16>> {
        let Some(value) = schedule.get("times") else { return Vec::new() };
        let mut all = Vec::new();
        for (span, word) in self.reader.strings(value, "times", "[\"mon-fri 08:00-16:00\"]") {
            match times(&word) {
                Ok(times) => all.extend(times),
                Err((message, help)) => self.reader.wrong(span, message, help),
            }
        }
        merge(all)
    }
}

/// A time zone by the name that the IANA database gives it. The database is part of the program: a check says the same everywhere.
fn zone(word: &str) -> Result<String, Wrong> {
    let zones = TimeZoneDatabase::bundled();
    if let Ok(zone) = zones.get(word)
        && let Some(name) = zone.iana_name()
    {
        return Ok(name.to_owned());
    }
    // Who knows the city may not know the continent.
    let distance = |zone: &str| {
        let city = zone.rsplit('/').next().unwrap_or(zone);
        [zone, city]
            .map(|known| strsim::damerau_levenshtein(&known.to_lowercase(), &word.to_lowercase()))
            .into_iter()
            .min()
    };
    let letters = word.chars().count();
    let known = zones.available().map(|name| (distance(name.as_str()).unwrap_or(letters), name.to_string()));
    let mut near: Vec<_> = known.filter(|(far, _)| far * 3 < letters).collect();
    near.sort_unstable();
    let near: Vec<String> = near.iter().take(3).map(|(_, name)| format!("{name:?}")).collect();
    let help = match near.as_slice() {
        [] => "write a zone of the IANA time zone database: \"Europe/Berlin\" or \"UTC\"".to_owned(),
        near => format!("did you mean {}?", near.join(" or ")),
    };
    Err((format!("there is no time zone {word:?}"), help))
}

/// The minutes of the week that `mon-fri 08:00-16:00` means; without days every day, without hours the whole day.
fn times(word: &str) -> Result<Vec<Range<u16>>, Wrong> {
    let mut parts = word.split_whitespace();
    let (days, hours) = match (parts.next(), parts.next(), parts.next()) {
        (Some(days), Some(hours), None) => (days, hours),
        (Some(hours), None, None) if hours.contains(':') => ("mon-sun", hours),
        (Some(days), None, None) => (days, "00:00-24:00"),
        _ => return Err((format!("{word:?} is not days and hours"), EXAMPLES.into())),
    };
    let Range { start, end } = self::hours(hours)?;
    let spans = self::days(days)?.into_iter().flat_map(|day| {
        let (start, end) = (day * DAY + start, day * DAY + end);
        // Sunday's night ends on Monday.
        [start..end.min(WEEK), 0..end.saturating_sub(WEEK)]
    });
    Ok(spans.filter(|span| !span.is_empty()).collect())
}

/// Numbers of days: `mon,wed-fri`; a range may begin in one week and end in the next.
fn days(word: &str) -> Result<Vec<u16>, Wrong> {
    let day = |name: &str| {
        DAYS.iter()
            .position(|day| *day == name)
            .ok_or_else(|| (format!("{name:?} is not a day"), format!("days are {}: {EXAMPLES}", DAYS.join(", "))))
    };
    let mut days = Vec::new();
    for part in word.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        days.extend((first..first + count).map(|day| (day % DAYS.len()) as u16));
    }
    Ok(days)
}

/// Minutes from midnight on: `22:00-06:00` ends on the next day.
fn hours(word: &str) -> Result<Range<u16>, Wrong> {
    let minute = |clock: &str| {
        let (hour, minute) = clock.split_once(':')?;
        let (hour, minute) = (words::number::<u16>(hour)?, words::number::<u16>(minute).filter(|_| minute.len() == 2)?);
        (hour < 24 && minute < 60 || (hour, minute) == (24, 0)).then_some(hour * 60 + minute)
    };
    let ends =
        word.split_once('-').and_then(|(start, end)| Some((minute(start).filter(|&start| start < DAY)?, minute(end)?)));
    match ends {
        None => Err((
            format!("{word:?} is not a time of the day"),
            "hours are 00:00 to 23:59, and 24:00 as an end: \"08:00-16:30\"".into(),
        )),
        Some((start, end)) if start == end => {
            Err((format!("{word:?} ends where it starts"), "leave the hours out for whole days".into()))
        }
        Some((start, end)) if start < end => Ok(start..end),
        Some((start, end)) => Ok(start..end + DAY),
    }
}

/// Sorted, and joined where they touch or overlap.
fn merge(mut spans: Vec<Range<u16>>) -> Vec<Range<u16>> {
    spans.sort_unstable_by_key(|span| span.start);
    let mut merged: Vec<Range<u16>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The minutes of a list, as `from-to` by day and hour.
    fn read(words: &[&str]) -> Result<String, Wrong> {
        let clock = |minute: u16| {
            format!(
                "{} {:02}:{:02}",
                DAYS.get(usize::from(minute / DAY)).unwrap_or(&"end"),
                minute % DAY / 60,
                minute % 60
            )
        };
        let all = words.iter().map(|word| times(word)).collect::<Result<Vec<_>, _>>()?.concat();
        let spans = merge(all).into_iter().map(|span| format!("{}-{}", clock(span.start), clock(span.end)));
        Ok(spans.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn times_are_minutes_of_the_week() {
        let cases: &[(&[&str], &str)] = &[
            (&["mon 08:00-16:30"], "mon 08:00-mon 16:30"),
            (&["mon,wed 8:00-9:00"], "mon 08:00-mon 09:00; wed 08:00-wed 09:00"),
            (&["tue-wed 23:00-24:00"], "tue 23:00-wed 00:00; wed 23:00-thu 00:00"),
            (&["sat"], "sat 00:00-sun 00:00"),
            (&["sat,sun"], "sat 00:00-end 00:00"),
            (&["sat-mon"], "mon 00:00-tue 00:00; sat 00:00-end 00:00"),
            (&["mon-sun"], "mon 00:00-end 00:00"),
            (&["00:00-24:00"], "mon 00:00-end 00:00"),
            (&["fri 22:00-06:00"], "fri 22:00-sat 06:00"),
            (&["sun 22:00-06:00"], "mon 00:00-mon 06:00; sun 22:00-end 00:00"),
            (&["sun 22:00-00:00"], "sun 22:00-end 00:00"),
            (&["mon 08:00-10:00", "mon 09:00-12:00", "mon 12:00-13:00"], "mon 08:00-mon 13:00"),
            (&["wed", "mon 10:00-11:00", "tue 20:00-00:00"], "mon 10:00-mon 11:00; tue 20:00-thu 00:00"),
        ];
        for (words, wanted) in cases {
            assert_eq!(read(words).as_deref(), Ok(*wanted), "{words:?}");
        }
        let night =
            times("22:00-06:00").map(merge).map(|spans| spans.iter().map(ExactSizeIterator::len).collect::<Vec<_>>());
        assert_eq!(night, Ok(vec![360, 480, 480, 480, 480, 480, 480, 120]));
    }

    #[test]
    fn what_is_no_time_is_told() {
        let cases = [
            ("", "not days and hours", "mon-fri"),
            ("mon 08:00 - 16:00", "not days and hours", "mon-fri"),
            ("monday", "\"monday\" is not a day", "mon, tue"),
            ("mon,,tue", "\"\" is not a day", "mon, tue"),
            ("mon-", "\"\" is not a day", "mon, tue"),
            ("08:00", "not a time of the day", "08:00-16:30"),
            ("mon 8-16", "not a time of the day", "08:00-16:30"),
            ("mon 24:00-08:00", "not a time of the day", "24:00 as an end"),
            ("mon 08:00-24:01", "not a time of the day", "24:00 as an end"),
            ("mon 08:00-16:60", "not a time of the day", "08:00-16:30"),
            ("mon 08:00-16:5", "not a time of the day", "08:00-16:30"),
            ("mon 99999:00-08:00", "not a time of the day", "08:00-16:30"),
            ("mon 08:00-08:00", "ends where it starts", "whole days"),
        ];
        for (word, message, help) in cases {
            let (said, advice) = times(word).expect_err(word);
            assert!(said.contains(message) && advice.contains(help), "{word}: {said}, {advice}");
        }
    }

    #[test]
    fn zones_are_those_of_the_database() {
        assert_eq!(zone("europe/berlin"), Ok("Europe/Berlin".into()));
        assert_eq!(zone("UTC"), Ok("UTC".into()));
        for (word, near) in
            [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("Middle/Earth", "IANA"), ("", "IANA")]
        {
            let (_, help) = zone(word).expect_err(word);
            assert!(help.contains(near), "{word}: {help}");
        }
    }
}
