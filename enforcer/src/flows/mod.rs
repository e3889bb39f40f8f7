//! Which rule decides about which flows, exactly and for all of them: the analysis behind `diff` and the warnings of `check`.
//!
//! A flow has a destination, a source, a port and a time. Each of these axes is cut into classes of values that lie in the same sets of the rules
//! (`clauses`); a combination of classes has one first match. Destinations come first, as there are the most of them; behind one, the other
//! axes are only cut by the sets that its own clauses name, and equal lists of clauses are looked at once.

mod addresses;
mod axis;
mod clauses;
mod line;
mod ports;
mod shapes;
mod space;
mod times;

pub use addresses::{Block, blocks_text};
pub use clauses::{Clause, Side};
pub use ports::Ports;
pub use space::{Cell, Plane, Space, is_wanted};

/// An analysis that would take too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rules make more than {limit} {what} to look at: name fewer services whose prefixes overlap, or fewer sources, ports and schedules"
)]
pub struct TooMuch {
    what: &'static str,
    limit: usize,
}
