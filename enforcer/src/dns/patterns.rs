//! Which patterns a name matches.

use std::{collections::HashMap, iter};

use super::Name;
use crate::catalog::Pattern;

/// Patterns with values. A look-up costs by the name's labels, however many patterns there are.
#[derive(Clone, Debug)]
pub struct Patterns<T> {
    root: Zone<T>,
}

#[derive(Clone, Debug)]
struct Zone<T> {
    /// Values of patterns that are its name.
    exact: Vec<T>,
    /// Values of patterns for all names below it.
    below: Vec<T>,
    /// The zones below it, by the next label.
    zones: HashMap<Box<[u8]>, Zone<T>>,
}

impl<T> Default for Zone<T> {
    fn default() -> Self {
        Self { exact: Vec::new(), below: Vec::new(), zones: HashMap::new() }
    }
}

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self { root: Zone::default() }
    }
}

impl<T> Patterns<T> {
    /// Adds a pattern's value to those that it has already.
    pub fn insert(&mut self, pattern: &Pattern, value: T) {
        let mut zone = &mut self.root;
        for label in pattern.labels() {
            zone = zone.zones.entry(label.as_bytes().into()).or_default();
        }
        if pattern.is_wildcard() { zone.below.push(value) } else { zone.exact.push(value) }
    }

    /// The values of all patterns that a name matches.
    pub fn matches<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a T> {
        self.along(name.labels())
    }

    /// The values of all patterns that match whatever a pattern matches.
    pub fn covering<'a>(&'a self, pattern: &'a Pattern) -> impl Iterator<Item = &'a T> {
        // No label of a pattern is an asterisk: it stands for any name below.
        let below: Option<&[u8]> = pattern.is_wildcard().then_some(b"*");
        self.along(pattern.labels().map(str::as_bytes).chain(below))
    }

    fn along<'a>(&'a self, labels: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a T> {
        let mut next = Some(&self.root);
        let labels = labels.map(Some).chain(iter::once(None));
        let values = labels.map_while(move |label| {
            let zone = next?;
            // While there are labels, the name is below the zone.
            let Some(label) = label else { return Some(&zone.exact) };
            next = zone.zones.get(label);
            Some(&zone.below)
        });
        values.flatten()
    }
}

impl<T> FromIterator<(Pattern, T)> for Patterns<T> {
    fn from_iter<I: IntoIterator<Item = (Pattern, T)>>(patterns: I) -> Self {
        let mut all = Self::default();
        for (pattern, value) in patterns {
            all.insert(&pattern, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Patterns;

    fn matches(patterns: &[&str], name: &str) -> Vec<usize> {
        let numbered = patterns.iter().enumerate().map(|(number, pattern)| (pattern.parse().unwrap(), number));
        let patterns: Patterns<usize> = numbered.collect();
        let mut found: Vec<usize> = patterns.matches(&name.parse().unwrap()).copied().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_wildcard_covers_those_below_it() {
        let all =
            ["*.apple.com", "*.push.apple.com", "push.apple.com"].map(|pattern| (pattern.parse().unwrap(), pattern));
        let patterns: Patterns<&str> = all.into_iter().collect();
        let covering = |pattern: &str| patterns.covering(&pattern.parse().unwrap()).copied().collect::<Vec<_>>();
        assert_eq!(covering("*.push.apple.com"), ["*.apple.com", "*.push.apple.com"]);
        assert_eq!(covering("push.apple.com"), ["*.apple.com", "push.apple.com"]);
        assert_eq!(covering("*.apple.com"), ["*.apple.com"]);
        assert_eq!(covering("*.example.com"), [""; 0]);
    }

    #[test]
    fn a_wildcard_stands_for_what_is_below_at_any_depth() {
        let patterns = ["*.push.apple.com", "push.apple.com", "*.apple.com", "www.apple.com", "*.push.apple.com"];
        assert_eq!(matches(&patterns, "push.apple.com"), [1, 2]);
        assert_eq!(matches(&patterns, "1-courier.push.apple.com"), [0, 2, 4]);
        assert_eq!(matches(&patterns, "a.b.PUSH.apple.com"), [0, 2, 4]);
        assert_eq!(matches(&patterns, "www.apple.com"), [2, 3]);
        assert!(matches(&patterns, "apple.com").is_empty());
        assert!(matches(&patterns, "com").is_empty());
        assert!(matches(&patterns, "xpush.apple.com.example").is_empty());
        assert_eq!(matches(&patterns, "evilpush.apple.com"), [2]);
    }

    /// What the words say, label by label of text.
    fn naive(pattern: &str, name: &str) -> bool {
        match pattern.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix) && name.len() > suffix.len(),
            None => pattern == name,
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_through_all_finds(
            patterns in prop::collection::vec("(\\*\\.)?([ab]{1,2}\\.){1,4}[c-d]", 0..60),
            name in "([ab]{1,2}\\.){0,6}[c-d]",
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let expected: Vec<usize> =
                (0..patterns.len()).filter(|&number| naive(patterns[number], &name)).collect();
            prop_assert_eq!(matches(&patterns, &name), expected);
        }
    }
}
