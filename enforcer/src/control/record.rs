//! The latest events, and whoever follows them.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::broadcast;

use crate::api::types::Event;

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
