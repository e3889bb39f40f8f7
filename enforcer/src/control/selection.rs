//! The policy that a start enforces: the newer of the file of `--policy` and the last confirmed
//! one.

use super::history::Current;
use crate::{api::policies::HistoryEntry, policy::Bundle};

/// The last confirmed policy.
pub struct Confirmed {
    pub current: Current,
    /// Its entry and its files, if they can be read.
    pub kept: Option<(HistoryEntry, Bundle)>,
}

/// The outcome: which of the two, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// Whether it is the last confirmed policy.
    pub confirmed: bool,
    pub reason: String,
}

/// Selects the policy. The file counts as newer if its content has changed since the other policy
/// was confirmed, unless it has mistakes.
pub fn select(file: &Bundle, is_valid: bool, confirmed: Option<&Confirmed>) -> Selection {
    let selection = |confirmed, reason: String| Selection { confirmed, reason };
    let Some(Confirmed { current: Current { number, file_sha256, .. }, kept }) = confirmed else {
        return selection(false, "it is the file of --policy, and no other policy was confirmed before".into());
    };
    let Some((HistoryEntry { reason, time, .. }, bundle)) = kept else {
        return selection(
            false,
            format!("it is the file of --policy; policy {number}, the last confirmed one, cannot be read"),
        );
    };
    if !is_valid {
        return selection(
            true,
            format!("it is the last confirmed one ({reason} at {time}); the file of --policy cannot be used"),
        );
    }
    if bundle == file {
        return selection(true, "it is the file of --policy, unchanged since the last start or apply".into());
    }
    if *file_sha256 == Some(file.sha256()) {
        let reason = format!("it was {reason} at {time}, and the file of --policy has not changed since");
        return selection(true, reason);
    }
    selection(false, format!("it is the file of --policy, which has changed since policy {number} was confirmed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::policies::Reason;

    fn bundle(text: &str) -> Bundle {
        Bundle { path: "p.toml".into(), files: [("p.toml".into(), text.into())].into() }
    }

    #[test]
    fn the_newer_of_file_and_confirmed_policy_is_selected() {
        let entry = HistoryEntry {
            number: 2,
            time: "2026-11-25T09:30:00Z".into(),
            policy: "b.toml".into(),
            sha256: String::new(),
            reason: Reason::Applied,
            confirmed: true,
        };
        let (file, applied) = (bundle("a"), Bundle { path: "b.toml".into(), ..bundle("b") });
        let confirmed = |file: &Bundle, kept: Option<&Bundle>| Confirmed {
            current: Current { number: 2, file_sha256: Some(file.sha256()), pins: None },
            kept: kept.map(|bundle| (entry.clone(), bundle.clone())),
        };
        let then = confirmed(&file, Some(&applied));
        for (now, is_valid, last, is_confirmed, part) in [
            (&file, true, None, false, "no other policy"),
            (
                &file,
                true,
                Some(&then),
                true,
                "applied at 2026-11-25T09:30:00Z, and the file of --policy has not changed",
            ),
            (&bundle("edited"), true, Some(&then), false, "has changed since policy 2"),
            (&bundle("mistaken"), false, Some(&then), true, "cannot be used"),
            (&file, true, Some(&confirmed(&file, Some(&file))), true, "unchanged"),
            (&file, true, Some(&confirmed(&file, None)), false, "cannot be read"),
        ] {
            let Selection { confirmed, reason } = select(now, is_valid, last);
            assert!(confirmed == is_confirmed && reason.contains(part), "{reason}");
        }
    }
}
