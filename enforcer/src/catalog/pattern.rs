//! Names of hosts, exact or with a wildcard in front.

use std::{borrow::Cow, fmt, str::FromStr};

/// A DNS name in lower case, or `*.` and one: that stands for all names below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    wildcard: bool,
    /// Without a dot at its end.
    name: String,
}

/// Why a text is no pattern. What is no name in DNS at all is [`dns::name::NotAName`](crate::dns::name::NotAName): that one takes more, such as a
/// single label and numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names are labels of letters, digits and hyphens with dots between them, such as \"www.apple.com\" or \"*.push.apple.com\""
)]
pub struct NotAPattern;

impl Pattern {
    /// Whether it stands for the names below its name, and not for the name itself.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Its name, or the one that the names are below of.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.name
    }

    /// Its labels from the top-level domain down, without the asterisk.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.name.rsplit('.')
    }
}

impl FromStr for Pattern {
    type Err = NotAPattern;

    /// Names in other scripts become what DNS has for them (IDNA). RFC 1035, 2.3.4: labels of 63 and names of 253 characters; at least two labels, the last one not a number, so that no address is
    /// taken for a name.
    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let (wildcard, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let name = if name.is_ascii() {
            Cow::Borrowed(name)
        } else {
            Cow::Owned(idna::domain_to_ascii(name).map_err(|_| NotAPattern)?)
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        let good = name.len() <= 253
            && name.contains('.')
            && name.split('.').all(label)
            && !last.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| Self { wildcard, name: name.to_ascii_lowercase() }).ok_or(NotAPattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.name)
    }
}
