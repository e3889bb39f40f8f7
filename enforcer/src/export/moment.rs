//! A policy as it is at a time, for programs that know no schedules.

use jiff::Timestamp;

use super::Refusal;
use crate::{
    moments::Moments,
    policy::{Policy, Rules},
};

/// The policy with the rules that apply at a time, and no schedules. Without a time, a policy that has none.
///
/// # Errors
/// If rules have schedules, and there is no time.
pub fn at(policy: &Policy, time: Option<Timestamp>) -> Result<Policy, Refusal> {
    let mut policy = policy.clone();
    let applying = match time {
        None => Vec::new(),
        Some(time) => {
            let moments = Moments::of(&policy).map_err(Refusal::Moments)?;
            moments.sets()[moments.at(time)].clone()
        }
    };
    let (schedules, lists) = (&policy.schedules, [&mut policy.lan, &mut policy.router, &mut policy.inbound]);
    for Rules { rules, .. } in lists {
        if let (None, Some((rule, when))) = (time, rules.iter().find_map(|rule| Some((rule, rule.when?)))) {
            let schedule = schedules[when.0 as usize].name.clone();
            return Err(Refusal::Scheduled { rule: rule.label(), schedule });
        }
        rules.retain(|rule| rule.when.is_none_or(|when| applying.contains(&when)));
        rules.iter_mut().for_each(|rule| rule.when = None);
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    const LESSONS: &str = "default = \"drop\"\n[[schedule]]\nname = \"lessons\"\nzone = \"Europe/Berlin\"\ntimes = [\"mon-fri 08:00-13:00\"]\n\
                           [[rule]]\nname = \"games\"\naction = \"drop\"\nwhen = \"lessons\"\n[[rule]]\nname = \"rest\"\naction = \"allow\"\n";

    #[test]
    fn rules_of_another_time_are_left_out() {
        let policy = Policy::parse("p", LESSONS, &Catalogs::default()).expect("valid");
        let labels = |time: &str| -> Vec<String> {
            let policy = at(&policy, Some(time.parse().expect("a time"))).expect("there is a time");
            policy.lan.rules.iter().map(|rule| format!("{} {:?}", rule.label(), rule.when)).collect()
        };
        assert_eq!(labels("2026-11-25T07:30:00Z"), ["games None", "rest None"]);
        assert_eq!(labels("2026-11-25T06:30:00Z"), ["rest None"]);
    }

    #[test]
    fn without_a_time_the_first_rule_with_a_schedule_is_named() {
        let policy = Policy::parse("p", LESSONS, &Catalogs::default()).expect("valid");
        let refusal = at(&policy, None).expect_err("there is a schedule");
        assert!(refusal.to_string().contains("\"games\"") && refusal.to_string().contains("\"lessons\""), "{refusal}");
    }
}
