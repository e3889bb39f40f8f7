//! The guard of `--fail closed`, kept as the programs are. nft may take seconds, in which nothing else waits for it.

use std::{
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::spawn_blocking, time};

use super::{Controller, Fail, hooks};
use crate::{
    kernel::guard::{self, GuardError},
    net::image::Roles,
};

/// How often is looked for it: others may flush its rules, as a firewall's reload does.
const LOOK: Duration = Duration::from_secs(5);

/// What is known of the guard.
#[derive(Default)]
pub struct Guard {
    /// Locked while nft runs, and before the state, never the other way.
    kept: Mutex<Kept>,
    /// Programs may be on other interfaces than it knows of.
    due: Notify,
    problem: Mutex<Option<String>>,
}

#[derive(Default)]
struct Kept {
    /// The programs that it knows of.
    roles: Option<Roles>,
    /// It is not to come back.
    removed: bool,
}

impl Guard {
    /// Sees to it soon that it knows of the programs that there are.
    pub fn renew(&self) {
        self.due.notify_one();
    }

    /// Takes it away for good.
    pub fn remove(&self) -> Result<(), GuardError> {
        let mut kept = self.kept();
        kept.removed = true;
        guard::remove()
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

    /// Lets the guard know of the programs that there are; if it is to be looked for, it may be gone.
    pub fn look_at_guard(&self, looks: bool) {
        if self.options.fail == Fail::Open {
            return;
        }
        let mut kept = self.guard.kept();
        if looks && !guard::is_there() {
            tracing::warn!("the guard of --fail closed was gone from nftables, and is put back");
            kept.roles = None;
        }
        let (roles, facts) = {
            let state = self.state();
            (state.hooks.roles(), state.facts.clone())
        };
        if kept.removed || kept.roles.as_ref() == Some(&roles) {
            return;
        }
        // What it was cannot be taken for granted if this fails.
        kept.roles = None;
        let installed = hooks::guard(&self.options, &facts, |index| roles.has(index));
        let problem = installed.map(|()| kept.roles = Some(roles)).err().map(|error| error.to_string());
        let mut known = self.guard.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = problem.as_ref().filter(|_| *known != problem) {
            tracing::error!("{problem}");
        }
        *known = problem;
    }
}
