//! The latest events, and whoever follows them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Result;
use enforcer_ebpf::abi;
use jiff::Timestamp;
use tokio::{sync::broadcast, time};

use super::{Controller, inforce::InForce, reload::GRACE};
use crate::{
    api::types::Event,
    events::{self, Names},
    kernel::{diagnostics::Diagnostics, events::Events},
};

/// Events kept for those who ask later.
const KEPT: usize = 1024;
/// Events that a follower may be behind.
const BEHIND: usize = 8192;

/// What was told lately.
pub struct Record {
    recent: Mutex<VecDeque<Event>>,
    followers: broadcast::Sender<Event>,
    lost: AtomicU64,
}

impl Default for Record {
    fn default() -> Self {
        Self { recent: Mutex::default(), followers: broadcast::channel(BEHIND).0, lost: AtomicU64::new(0) }
    }
}

impl Record {
    /// Adds events, oldest first; `lost` is how many more the kernel has not told.
    pub fn add(&self, events: impl Iterator<Item = Event>, lost: u64) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            // Nobody follows: that is no error.
            let _ = self.followers.send(event.clone());
            if recent.len() == KEPT {
                recent.pop_front();
            }
            recent.push_back(event);
        }
    }

    /// The latest ones, oldest first, and those that come behind them.
    pub fn follow(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.followers.subscribe())
    }

    /// How many were never told.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Controller {
    /// Lets what a set's programs tell be heard, in place of what the set before tells: soon nothing.
    pub fn tell(self: &Arc<Self>, in_force: &Arc<InForce>, events: Events, diagnostics: Option<Diagnostics>) {
        let controller = Arc::clone(self);
        let of = Arc::clone(in_force);
        let reader = tokio::spawn(async move {
            if let Err(error) = controller.record(&of, events).await {
                tracing::warn!("events are not told any more: {error}");
            }
        });
        if let Some(before) = self.state().reader.replace(reader.abort_handle()) {
            tokio::spawn(async move {
                time::sleep(GRACE).await;
                before.abort();
            });
        }
        if let Some(diagnostics) = diagnostics {
            let of = Arc::downgrade(in_force);
            // A flood of messages must not keep the controller from its work.
            thread::spawn(move || diagnostics.follow(|| of.strong_count() > 0));
        }
    }

    /// Takes down the kernel's events, which number rules as a policy does.
    async fn record(&self, in_force: &InForce, events: Events) -> Result<()> {
        let take = |events: &[abi::Event], lost: u64| {
            let interfaces = Arc::clone(&self.state().interfaces);
            let interface = |index: u32| interfaces.get(&index).cloned();
            let called =
                |address| self.state().learning.as_ref().map_or(Vec::new(), |learning| learning.names_of(address));
            let now = (monotonic(), Timestamp::now());
            let names = Names { rules: &in_force.counters, interface: &interface, called: &called, now };
            self.record.add(events.iter().map(|event| events::describe(event, &names)), lost);
        };
        Ok(events.follow(take).await?)
    }
}

/// The kernel's monotonic clock in nanoseconds, which events are stamped by.
fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one that every kernel has, and the pointer is to a value of this function's own.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
