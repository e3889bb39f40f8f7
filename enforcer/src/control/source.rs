//! What the API tells and does.

use std::time::Instant;

use enforcer_ebpf::abi::pseudo;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{Controller, State, learning::Listing};
use crate::{
    api::{
        server::Source,
        types::{Counters, Event, Names, PseudoCounter, Resolved, RuleCounter, Status},
    },
    dns::Name,
    policy::words,
};

impl Source for Controller {
    fn status(&self) -> Status {
        let mut status = self.status.clone();
        status.uptime_seconds = self.since.elapsed().as_secs();
        status.events_lost = self.record.lost();
        status.schedules = self.schedule.names(self.schedule.moments.at(Timestamp::now()));
        let state = self.state();
        status.hooks = state.hooks.status();
        status.warnings.clone_from(&state.warnings);
        status.names = self.names_status(&state);
        status
    }

    fn counters(&self) -> Counters {
        let values = self.state().object.counters();
        let (first, rest) = values.split_at(pseudo::COUNT as usize);
        let verdicts = &self.words.pseudo;
        let pseudo = pseudo::NAMES.iter().zip(verdicts).zip(first).map(|((name, verdict), value)| PseudoCounter {
            name: (*name).into(),
            action: words::name(verdict.action()).into(),
            packets: value.packets,
            bytes: value.bytes,
        });
        let rules = self.names.iter().zip(rest).filter_map(|(name, value)| {
            Some(RuleCounter { packets: value.packets, bytes: value.bytes, ..name.clone()? })
        });
        Counters { rules: rules.collect(), pseudo: pseudo.collect() }
    }

    fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.record.follow()
    }

    fn events_lost(&self) -> u64 {
        self.record.lost()
    }

    fn resolve(&self, name: Name) -> BoxFuture<'_, Result<Resolved, String>> {
        Box::pin(self.resolve(name))
    }

    fn names(&self) -> Names {
        let listing = {
            let State { object, learning, .. } = &*self.state();
            learning.as_ref().map(|learning| learning.listing(object, Instant::now()))
        };
        Names { names: listing.map(Listing::names).unwrap_or_default() }
    }
}
