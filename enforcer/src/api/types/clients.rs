//! Clients that the portal has admitted.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;

/// The longest time for which a client is admitted, seconds.
pub const YEAR: u32 = 365 * 24 * 60 * 60;

/// `POST /v1/admit`: who is to be admitted, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Admit {
    /// An address, a prefix, or a MAC with colons, hyphens or dots.
    #[schema(example = "10.1.0.5")]
    pub client: String,
    /// For how long from now on, whatever was said before.
    #[serde(default = "eight_hours", deserialize_with = "integer")]
    #[schema(minimum = 1, maximum = 31_536_000, default = 28_800)]
    pub seconds: u32,
}

const fn eight_hours() -> u32 {
    8 * 60 * 60
}

/// A number as JSON Schema has integers: 28800.0 is one.
fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = f64::deserialize(from)?;
    let is_one = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    is_one.then_some(number as u32).ok_or_else(|| D::Error::custom(format!("{number} is no number of seconds")))
}

/// `POST /v1/expel`: whose admission is taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expel {
    /// An address, a prefix, or a MAC, as it was admitted.
    #[schema(example = "10.1.0.5")]
    pub client: String,
}

/// `GET /v1/clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Clients {
    /// Those that are admitted: addresses and prefixes, then MACs, in order.
    pub clients: Vec<AdmittedClient>,
    /// How many there can be.
    pub capacity: u64,
}

/// A client that is admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdmittedClient {
    /// An address, a prefix, or a MAC.
    #[schema(example = "02:00:5e:10:00:01")]
    pub client: String,
    /// Until when, by RFC 3339.
    pub until: String,
    /// Seconds until then.
    pub seconds_left: u64,
}
