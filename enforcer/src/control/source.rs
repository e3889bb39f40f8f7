//! What the API tells and does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use enforcer_ebpf::abi::pseudo;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::{
    Controller, State,
    learning::{Learning, Listing},
    state::pins_lost,
    tables,
};
use crate::{
    api::{
        policies::{Applied, Apply, History, Reason, Rollback},
        source::Source,
        types::{
            AdmittedClient, Clients, Counters, Event, InterfaceStatus, Names, PseudoCounter, Resolved, RuleCounter,
            Status,
        },
    },
    clients::{Client, MOST},
    compile::Limits,
    dns::Name,
    net::traffic::traffic,
    policy::{Bundle, words},
};

impl Source for Controller {
    fn status(&self) -> Status {
        let state = self.state();
        let in_force = self.in_force();
        let (policy, usage) = (&in_force.policy, in_force.usage);
        let mut tables = tables::of_policy(&usage, &Limits::default());
        tables.extend(state.learning.iter().flat_map(Learning::tables));
        let admitted = policy.portal.as_ref().map(|_| state.admissions.count());
        tables.extend(admitted.map(|count| tables::table("admitted", count, MOST)));
        let mut status = Status {
            admitted: admitted.map(|count| count as u64),
            version: env!("CARGO_PKG_VERSION").into(),
            policy: std::path::absolute(&in_force.bundle.path).unwrap_or_default().display().to_string(),
            policy_sha256: in_force.sha256.clone(),
            pins: self.options.pins.display().to_string(),
            uptime_seconds: self.since.elapsed().as_secs(),
            hooks: state.hooks.status(&state.interfaces),
            services: policy.services.len(),
            rules: policy.lan.rules.len() + policy.router.rules.len() + policy.inbound.rules.len(),
            prefixes: usage.prefixes4 + usage.prefixes6,
            hosts: usage.hosts4 + usage.hosts6,
            map_bytes: state.object.map_bytes(),
            schedules: in_force.schedule.names(),
            events_lost: self.record.lost(),
            warnings: state
                .warnings
                .iter()
                .chain(&state.doubts)
                .chain(&state.filters_lost)
                .chain(&state.filters_overtaken)
                .chain(&in_force.file_problem)
                .cloned()
                .chain(self.guard.problem())
                .chain(state.hooks.weaker())
                .chain(state.pins_lost.then(|| pins_lost(&self.options.pins)))
                .collect(),
            names: self.names_status(&state),
            interfaces: Vec::new(),
            tables,
            programs: state.object.program_times(),
            reloads: self.reloads.read(),
            confirm_seconds: self.confirm_seconds(),
            unhooked_seconds: state.unhooked.as_secs_f64(),
        };
        drop(state);
        let lans = self.options.lans.iter().map(|name| (name, "lan"));
        let wans = self.options.wans.iter().map(|name| (name, "wan"));
        let interface = |(name, role): (&String, &str)| InterfaceStatus {
            interface: name.clone(),
            role: role.into(),
            hooked: status.hooks.iter().any(|hook| hook.interface == *name && hook.role == role),
            traffic: traffic(name),
        };
        status.interfaces = lans.chain(wans).map(interface).collect();
        status
    }

    fn counters(&self) -> Counters {
        let (values, in_force) = {
            let State { object, predecessor, .. } = &*self.state();
            if let Some(predecessor) = predecessor {
                predecessor.carry_to(object.counters());
            }
            (object.counters().sums(), self.in_force())
        };
        let (first, rest) = values.split_at(pseudo::COUNT as usize);
        let verdicts = pseudo::NAMES.iter().zip(&in_force.words.pseudo).zip(first);
        let pseudo = verdicts.map(|((name, verdict), value)| PseudoCounter {
            name: (*name).into(),
            action: words::name(verdict.action()).into(),
            packets: value.packets,
            bytes: value.bytes,
        });
        let rules = in_force.counters.iter().zip(rest).filter_map(|(name, value)| {
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

    fn policy(&self) -> Bundle {
        self.in_force().bundle.clone()
    }

    fn history(&self) -> History {
        self.history()
    }

    fn apply(self: Arc<Self>, Apply { policy, confirm_seconds }: Apply) -> BoxFuture<'static, Result<Applied, String>> {
        let confirm = confirm_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        whole(async move { Self::apply(&self, policy, Reason::Applied, confirm).await })
    }

    fn confirm(self: Arc<Self>) -> BoxFuture<'static, Result<Applied, String>> {
        whole(async move { Self::confirm(&self).await })
    }

    fn roll_back(self: Arc<Self>, rollback: Rollback) -> BoxFuture<'static, Result<Applied, String>> {
        whole(async move { Self::roll_back(&self, rollback).await })
    }

    fn clients(&self) -> Clients {
        self.clients()
    }

    fn admit(self: Arc<Self>, client: Client, seconds: u32) -> BoxFuture<'static, Result<AdmittedClient, String>> {
        whole(async move { Self::admit(&self, client, seconds).await })
    }

    fn expel(self: Arc<Self>, client: Client) -> BoxFuture<'static, Result<(), String>> {
        whole(async move { Self::expel(&self, client).await })
    }

    fn detach(&self) {
        self.ended.notify_one();
    }

    fn names(&self) -> Names {
        let listing = {
            let State { object, learning, .. } = &*self.state();
            learning.as_ref().map(|learning| learning.listing(object, Instant::now()))
        };
        Names { names: listing.map(Listing::names).unwrap_or_default() }
    }
}

/// Work that is done to its end, also when whoever asked for it is gone: a policy to be confirmed may have cut off the operator who applied it.
fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T, String>> {
    Box::pin(async move {
        let done = tokio::spawn(work).await.unwrap_or_else(|error| Err(error.into()));
        done.map_err(|error| format!("{error:#}"))
    })
}
