//! Names as DNS compares them.

use std::{fmt, iter, str::FromStr, sync::Arc};

use hickory_proto::rr;
use idna::AsciiDenyList;

/// A DNS name with its ASCII letters in lower case. Cheap to clone, and ordered by zones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(
    /// Its labels from the top-level domain down, each behind its length: a walk through zones reads forward.
    Arc<[u8]>,
);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is labels of at most 63 characters with dots between them, at most 253 in all, such as \"www.apple.com\""
)]
pub struct NotAName;

impl Name {
    /// Its labels, from the top-level domain down; the root has none.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        iter::from_fn(move || {
            let (&length, labels) = rest.split_first()?;
            let (label, behind) = labels.split_at_checked(length.into())?;
            rest = behind;
            Some(label)
        })
    }

    /// From labels of at most 63 bytes, the top-level domain first.
    fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::with_capacity(255);
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        Self(bytes.into())
    }
}

impl From<&rr::Name> for Name {
    fn from(name: &rr::Name) -> Self {
        Self::from_labels(name.iter().rev())
    }
}

impl From<&Name> for rr::Name {
    fn from(name: &Name) -> Self {
        let labels: Vec<&[u8]> = name.labels().collect();
        // Labels that made a name make one again.
        let mut name = Self::from_labels(labels.into_iter().rev()).unwrap_or_default();
        name.set_fqdn(true);
        name
    }
}

impl FromStr for Name {
    type Err = NotAName;

    /// As people write it: with or without a dot at its end, in any script (IDNA, UTS 46).
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let ascii = idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::URL).map_err(|_| NotAName)?;
        let good = ascii.len() <= 253 && ascii.split('.').all(|label| (1..=63).contains(&label.len()));
        good.then(|| Self::from_labels(ascii.rsplit('.').map(str::as_bytes))).ok_or(NotAName)
    }
}

impl fmt::Display for Name {
    /// As in zone files (RFC 1035, 5.1), without the dot at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&[u8]> = self.labels().collect();
        if labels.is_empty() {
            return f.write_str(".");
        }
        for (position, label) in labels.iter().rev().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            for &byte in *label {
                match byte {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr;
    use proptest::prelude::*;

    use super::{Name, NotAName};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn case_the_last_dot_and_script_make_no_difference() {
        assert_eq!(name("WWW.Apple.com."), name("www.apple.com"));
        assert_eq!(name("bücher.example"), name("xn--bcher-kva.example"));
        assert_eq!(name("BÜCHER。example").to_string(), "xn--bcher-kva.example");
        assert_eq!(name("_dns.resolver.arpa").to_string(), "_dns.resolver.arpa");
        assert_ne!(name("www.apple.com"), name("wwww.apple.com"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = ["a".repeat(64), "a.".repeat(127) + "a"];
        for text in ["", ".", "a..b", ".a", "a b", "a/b", "xn--a", long[0].as_str(), long[1].as_str()] {
            assert_eq!(text.parse::<Name>(), Err(NotAName), "{text:?}");
        }
        assert!(("a.".repeat(126) + "a").parse::<Name>().is_ok());
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let wire = rr::Name::from_labels([&b"a.b\\"[..], b"\x00\xffC d", b"com"]).unwrap();
        assert_eq!(Name::from(&wire).to_string(), r"a\.b\\.\000\255c\032d.com");
        assert_eq!(Name::from(&rr::Name::root()).to_string(), ".");
    }

    #[test]
    fn a_zone_comes_before_its_names() {
        let mut names = [name("b.example"), name("a.other"), name("example"), name("z.b.example")];
        names.sort();
        assert_eq!(format!("{names:?}"), "[a.other, example, b.example, z.b.example]");
    }

    proptest! {
        #[test]
        fn text_and_wire_agree(labels in prop::collection::vec("[a-zA-Z0-9_]{1,20}", 1..6)) {
            let text = labels.join(".");
            let wire = rr::Name::from_labels(labels.iter().map(String::as_bytes)).unwrap();
            // Labels that only look like IDNA's are refused in text.
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(&name, &Name::from(&wire));
                prop_assert_eq!(name.to_string(), text.to_ascii_lowercase());
                prop_assert_eq!(rr::Name::from(&name), wire);
            }
        }
    }
}
