//! The guard of `--fail closed`, kept as the programs are. nft may take seconds, in which nothing else waits for it.

use std::{
    future,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::spawn_blocking, time};

use super::{Controller, Fail, hooks};
use crate::kernel::guard::{self, GuardError, Rules};

/// How often is looked for it: others may flush its rules, as a firewall's reload does.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of the guard.
pub struct Guard {
    guard: guard::Guard,
    /// Locked while nft runs, and before the state, never the other way.
    kept: Mutex<Kept>,
    /// Programs may be on other interfaces than it knows of.
    due: Notify,
    problem: Mutex<Option<String>>,
}

#[derive(Default)]
struct Kept {
    installed: Option<Rules>,
    /// It is not to come back.
    removed: bool,
}

impl Guard {
    /// Nothing is known of it yet.
    pub fn of(pins: &Path) -> Self {
        Self { guard: guard::Guard::of(pins), kept: Mutex::default(), due: Notify::new(), problem: Mutex::default() }
    }

    /// Sees to it soon that it knows of the programs that there are.
    pub fn renew(&self) {
        self.due.notify_one();
    }

    /// Takes it away for good.
    pub fn remove(&self) -> Result<(), GuardError> {
        let mut kept = self.kept();
        kept.removed = true;
        self.guard.remove()
    }

    /// Why it is not as it should be.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// Keeps the guard, where one is wanted, for good.
    pub async fn keep_guard(self: &Arc<Self>) {
        if self.options.fail == Fail::Open {
            return future::pending().await;
        }
        let mut looked = Instant::now();
        loop {
            // Where the network changes all the time, it is looked for, too.
            let _ = time::timeout(LOOK, self.guard.due.notified()).await;
            let looks = looked.elapsed() >= LOOK;
            if looks {
                looked = Instant::now();
            }
            let controller = Arc::clone(self);
            let _ = spawn_blocking(move || controller.look_at_guard(looks)).await;
        }
    }

    /// Lets the guard know of the programs that there are; if it is to be looked for, others may have changed it.
    pub fn look_at_guard(&self, looks: bool) {
        if self.options.fail == Fail::Open {
            return;
        }
        let mut kept = self.guard.kept();
        if kept.removed {
            return;
        }
        let rules = {
            let state = self.state();
            hooks::guard(&self.options, &state.facts, |index| state.hooks.has(index))
        };
        let installed = rules.and_then(|rules| {
            let is_known = kept.installed.as_ref() == Some(&rules);
            let is_lost = is_known && looks && !self.guard.guard.has(&rules);
            if is_lost {
                tracing::warn!("others have removed rules of --fail closed from nftables: they are put back");
            }
            if is_lost || !is_known {
                // What it was cannot be taken for granted if this fails.
                kept.installed = None;
                rules.install()?;
                kept.installed = Some(rules);
            }
            Ok(())
        });
        let problem = installed.err().map(|error| error.to_string());
        let mut known = self.guard.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|_| *known != problem) {
            tracing::error!("{problem}");
        }
        *known = problem;
    }
}
