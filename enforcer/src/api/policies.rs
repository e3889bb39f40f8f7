//! What is said of policies over the socket, as JSON: which were in force, and which is to be.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::policy::Bundle;

/// Where policies are sent to.
pub const APPLY: &str = "/v1/apply";

/// Why a policy was put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The controller started with its file.
    Started,
    /// It was applied.
    Applied,
    /// SIGHUP: its file was read again.
    Reloaded,
    /// Somebody went back to it.
    RolledBack,
    /// The one behind it was not confirmed in time.
    NotConfirmed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Applied => "applied",
            Self::Reloaded => "reloaded",
            Self::RolledBack => "rolled back",
            Self::NotConfirmed => "not confirmed",
        })
    }
}

/// A policy that was put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// The later, the higher.
    pub number: u32,
    /// When, by RFC 3339.
    pub time: String,
    /// The policy's file.
    pub policy: String,
    /// SHA-256 of its text, and behind it those of its other files.
    pub sha256: String,
    /// Why.
    pub reason: Reason,
    /// Whether it was to stay: what nobody confirmed was not, nor is gone back to unless it is asked for by its number.
    #[serde(default = "confirmed")]
    pub confirmed: bool,
}

/// Before this was noted, all were.
const fn confirmed() -> bool {
    true
}

/// `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The earliest first.
    pub policies: Vec<HistoryEntry>,
    /// The number of the one in force, if it is kept.
    pub in_force: Option<u32>,
    /// The number of the one that a restart goes on with, if it is kept.
    pub confirmed: Option<u32>,
}

/// `POST /v1/apply`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The policy.
    pub policy: Bundle,
    /// Go back to the one before, unless it is confirmed within so many seconds, of which a day has the most.
    #[schema(minimum = 1, maximum = 86_400)]
    pub confirm_seconds: Option<u32>,
}

/// `POST /v1/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// To the policy with this number; without, to the confirmed one before the one in force.
    pub to: Option<u32>,
}

/// What a policy was put in force as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Its number in the history.
    pub number: u32,
    /// As [`HistoryEntry::sha256`].
    pub sha256: String,
    /// Seconds that are left to confirm it, if that is waited for.
    pub confirm_seconds: Option<u64>,
    /// What does not stop it from being in force.
    pub warnings: Vec<String>,
}
