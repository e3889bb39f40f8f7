//! The ports of one family in classes, and classes of them as words again.

use std::{
    fmt::{self, Display, Formatter},
    ops::Range,
};

use enforcer_ebpf::{abi::slot, headers::protocol};
use serde::Serialize;

use super::{axis::Axis, line};
use crate::compile::sets::{SetId, Sets};

/// Port words, as in a policy; `other` is every protocol without a word of its own, `proto/2-5` some of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Ports {
    /// What is meant.
    pub ports: Vec<String>,
    /// What of it is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Display for Ports {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, words: &[String], between: &str| {
            /// More are counted, not told.
            const MOST: usize = 12;
            f.write_str(&words[..words.len().min(MOST)].join(between))?;
            if words.len() > MOST { write!(f, " and {} more", words.len() - MOST) } else { Ok(()) }
        };
        list(f, &self.ports, " ")?;
        if self.except.is_empty() {
            return Ok(());
        }
        f.write_str(" except ")?;
        list(f, &self.except, " and ")
    }
}

/// Cells of the port table that packets of a family may have, in order, with their classes.
pub struct PortLine {
    pieces: Vec<(Range<u32>, SetId)>,
}

impl PortLine {
    /// The cells of numbered sets, and the axis that they make.
    pub fn new(v6: bool, sets: &[Vec<Range<u32>>]) -> (Self, Axis) {
        let icmp = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
        let own = [protocol::TCP, protocol::UDP, protocol::SCTP, protocol::UDPLITE, icmp];
        let mut valid: Vec<Range<u32>> = (0..=u8::MAX)
            .filter(|number| !own.contains(number))
            .map(|number| u32::from(number)..u32::from(number) + 1)
            .collect();
        let icmp = if v6 { slot::ICMPV6 } else { slot::ICMP };
        let slots = [slot::TCP, slot::UDP, slot::SCTP, slot::UDPLITE, icmp];
        valid.extend(slots.map(|slot| slot << 16..(slot + 1) << 16));
        let mut classes = Sets::default();
        let pieces = line::cut(&valid, sets, &mut classes);
        let occupied = pieces.iter().map(|(_, class)| *class).collect();
        (Self { pieces }, Axis::new(classes, occupied))
    }

    /// The ports of some classes, sorted: as they are, or as all but some, whichever is shorter.
    pub fn words(&self, classes: &[SetId]) -> Ports {
        let ports = self.ranges(|class| classes.binary_search(&class).is_ok());
        let except = self.ranges(|class| classes.binary_search(&class).is_err());
        if except.len() < ports.len() {
            Ports { ports: vec!["any".into()], except }
        } else {
            Ports { ports, except: Vec::new() }
        }
    }

    /// The words of the pieces that are wanted; neighbours of a protocol are joined, also over numbers that no packet has.
    fn ranges(&self, wanted: impl Fn(SetId) -> bool) -> Vec<String> {
        let slot = |range: &Range<u32>| range.start >> 16;
        let same =
            |a: &(Range<u32>, SetId), b: &(Range<u32>, SetId)| slot(&a.0) == slot(&b.0) && wanted(a.1) == wanted(b.1);
        let runs = self.pieces.chunk_by(same).filter(|run| wanted(run[0].1));
        runs.map(|run| {
            let (first, last) = (run[0].0.start, run[run.len() - 1].0.end - 1);
            // 0 and 255 are protocols without a word of their own: from one to the other there are all of these.
            let top = if first >> 16 == slot::PORTLESS { 0xff } else { 0xffff };
            word(first >> 16, first & 0xffff, last & 0xffff, first & 0xffff == 0 && last & 0xffff == top)
        })
        .collect()
    }
}

/// The word for cells `first..=last` of a slot, or for all of it.
fn word(slot: u32, first: u32, last: u32, whole: bool) -> String {
    let name = match slot {
        slot::TCP => "tcp",
        slot::UDP => "udp",
        slot::SCTP => "sctp",
        slot::UDPLITE => "udplite",
        slot::ICMP => "icmp",
        slot::ICMPV6 => "icmpv6",
        _ if whole => "other",
        _ => "proto",
    };
    let icmp = matches!(slot, slot::ICMP | slot::ICMPV6);
    let one = |cell: u32| if icmp { format!("{}/{}", cell >> 8, cell & 0xff) } else { cell.to_string() };
    if whole {
        name.into()
    } else if icmp && first & 0xff == 0 && last & 0xff == 0xff {
        // Whole types.
        let (first, last) = (first >> 8, last >> 8);
        if first == last { format!("{name}/{first}") } else { format!("{name}/{first}-{last}") }
    } else if first == last {
        format!("{name}/{}", one(first))
    } else {
        format!("{name}/{}-{}", one(first), one(last))
    }
}
