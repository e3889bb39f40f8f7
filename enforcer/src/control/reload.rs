//! Another policy takes the place of the one in force: loaded beside it, swapped in link by link, each at once; and back again, if nobody confirms it.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::{
    task::{AbortHandle, spawn_blocking},
    time,
};

use super::{
    Controller, State, clients, history::Current, inforce::InForce, predecessor::Predecessor, start::unmatched,
};
use crate::{
    api::{
        policies::{Applied, History, HistoryEntry, Reason, Rollback},
        types::Reloads,
    },
    compile::{Image, Live},
    kernel::{
        object::{Extras, Object},
        pins::Pins,
    },
    net::{NetImage, image::Words},
    policy::{Bundle, FileError, Policy},
};

/// How long a CPU may still be in a program that was replaced: far longer than any program runs.
pub const GRACE: Duration = Duration::from_secs(1);
const BUSY: &str = "another policy is being put in force: try again when it is";
/// Long enough for any disk.
const FILE: Duration = Duration::from_secs(10);
/// When going back is tried again, should it fail.
const AGAIN: Duration = Duration::from_secs(10);

/// How often another policy was to be put in force.
#[derive(Default)]
pub struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    not_confirmed: AtomicU64,
}

impl Counts {
    fn count<T>(&self, result: &Result<T>) {
        if result.is_err() {
            return self.failed();
        }
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Reloads {
        let [succeeded, failed, rolled_back] =
            [&self.succeeded, &self.failed, &self.not_confirmed].map(|counter| counter.load(Ordering::Relaxed));
        Reloads { succeeded, failed, rolled_back }
    }
}

/// A policy in force that is not confirmed yet.
pub struct Pending {
    /// What is gone back to.
    back_to: Bundle,
    deadline: Instant,
    timer: AbortHandle,
}

impl Controller {
    /// Puts a policy in force; on any error nothing has changed. With `confirm`, the one before comes back after that time, unless this is
    /// [confirmed](Self::confirm).
    pub async fn apply(self: &Arc<Self>, bundle: Bundle, reason: Reason, confirm: Option<Duration>) -> Result<Applied> {
        let _one_at_a_time = self.applying.try_lock().map_err(|_| anyhow!(BUSY))?;
        self.apply_alone(bundle, reason, confirm).await
    }

    async fn apply_alone(
        self: &Arc<Self>,
        bundle: Bundle,
        reason: Reason,
        confirm: Option<Duration>,
    ) -> Result<Applied> {
        let confirmed = self.pending().as_ref().map_or_else(|| self.in_force().bundle.clone(), |p| p.back_to.clone());
        let controller = Arc::clone(self);
        let result = spawn_blocking(move || controller.swap(bundle, reason)).await.context("the swap was cut short")?;
        self.reloads.count(&result);
        let in_force = result?;
        let (number, sha256) = (in_force.number.unwrap_or_default(), in_force.sha256.clone());
        let named =
            format!("policy {number}, {} ({sha256:.12}), is in force: {reason}", in_force.bundle.path.display());
        let mut warnings = match confirm {
            None => {
                tracing::info!("{named}");
                self.note_current(&in_force, self.file_sha256().await)
            }
            Some(time) => {
                tracing::info!("{named}; to be confirmed within {} s", time.as_secs());
                Vec::new()
            }
        };
        if let Some(warning) = unmatched(&self.options, &in_force.policy) {
            tracing::warn!("{warning}");
            warnings.push(warning.into());
        }
        let pending = confirm.map(|time| Pending {
            back_to: confirmed,
            deadline: Instant::now() + time,
            timer: tokio::spawn(Arc::clone(self).go_back_after(time)).abort_handle(),
        });
        let before = std::mem::replace(&mut *self.pending(), pending);
        if let Some(before) = before {
            before.timer.abort();
        }
        self.end_predecessor_later();
        self.changed.send_modify(|count| *count += 1);
        Ok(Applied { number, sha256, confirm_seconds: confirm.map(|time| time.as_secs()), warnings })
    }

    /// When no CPU can be in one of its programs any more.
    pub fn end_predecessor_later(self: &Arc<Self>) {
        let controller = Arc::clone(self);
        let set = self.state().object.set();
        tokio::spawn(async move {
            time::sleep(GRACE).await;
            let mut state = controller.state();
            // Else another one's time has begun.
            if state.object.set() == set {
                state.end_predecessor(&controller.pins);
            }
        });
    }

    /// The blocking part: all of it but the swap itself is done while the policy before is in force.
    fn swap(self: &Arc<Self>, bundle: Bundle, reason: Reason) -> Result<Arc<InForce>> {
        let learns = self.options.learns();
        let (mut in_force, image) = InForce::new(bundle, learns)?;
        // The same again is no other policy.
        let same = Some(self.in_force()).filter(|before| before.bundle == in_force.bundle);
        in_force.number = same.and_then(|before| before.number);
        if in_force.number.is_some() {
            return self.swap_in(in_force, image);
        }
        match (self.history.add(&in_force.bundle, reason, Timestamp::now()), reason) {
            (Ok(number), _) => {
                in_force.number = Some(number);
                // It is no history if it was never in force.
                self.swap_in(in_force, image).inspect_err(|_| self.history.remove(number))
            }
            // That it comes back is worth more than that this is noted: it is kept already.
            (Err(error), Reason::NotConfirmed) => {
                tracing::warn!("the history is not told of the policy before that comes back: {error}");
                let mut kept = self.history.entries().into_iter();
                in_force.number = kept.rfind(|entry| entry.sha256 == in_force.sha256).map(|entry| entry.number);
                self.swap_in(in_force, image)
            }
            (Err(error), _) => Err(anyhow::Error::from(error).context("the policy cannot be kept on disk")),
        }
    }

    fn swap_in(self: &Arc<Self>, in_force: InForce, image: Image) -> Result<Arc<InForce>> {
        let identities = in_force.identities();
        let (net, programs) = {
            let state = self.state();
            (state.net(in_force.words)?, state.programs())
        };
        let extras = Extras {
            programs: &programs,
            pins: Some(&self.pins),
            identities: &identities,
            diagnose: self.options.diagnose,
            resolvers: &self.options.dns_snoop,
        };
        let (mut object, told) = Object::load_with(&image, &net, extras)?;
        let set = object.set();
        let in_force = Arc::new(in_force);
        let swapped = self.load_late(&mut object);
        let swapped = swapped.and_then(|()| self.state().swap(self, &in_force, object, image.live));
        if let Err(error) = swapped {
            self.pins.forget_unless_running(set);
            return Err(error);
        }
        self.tell(&in_force, told.events, told.diagnostics);
        Ok(in_force)
    }

    /// Loads what interfaces that came meanwhile want, while nobody has to wait for it.
    fn load_late(&self, object: &mut Object) -> Result<()> {
        let wanted = self.state().programs();
        Ok(object.load_programs(&wanted)?)
    }

    /// Lets the policy in force stay.
    pub async fn confirm(&self) -> Result<Applied> {
        // One that is being put in force is not the one that is meant.
        let _one_at_a_time = self.applying.try_lock().map_err(|_| anyhow!(BUSY))?;
        let Some(pending) = self.pending().take() else { bail!("no policy waits to be confirmed") };
        pending.timer.abort();
        let in_force = self.in_force();
        tracing::info!("the policy in force is confirmed");
        Ok(Applied {
            number: in_force.number.unwrap_or_default(),
            sha256: in_force.sha256.clone(),
            confirm_seconds: None,
            warnings: self.note_current(&in_force, self.file_sha256().await),
        })
    }

    /// What a restart goes on with; a warning, if that cannot be noted.
    fn note_current(&self, in_force: &InForce, file_sha256: Option<String>) -> Vec<String> {
        let Some(number) = in_force.number else { return Vec::new() };
        let noted = self.history.set_current(&Current { number, file_sha256, pins: Some(self.options.pins.clone()) });
        let warning = |error| format!("in force, but a restart goes on with the policy before: {error}");
        noted.err().map(warning).into_iter().collect()
    }

    /// Goes back to the policy before this one, or to any that is kept.
    pub async fn roll_back(self: &Arc<Self>, Rollback { to }: Rollback) -> Result<Applied> {
        let _one_at_a_time = self.applying.try_lock().map_err(|_| anyhow!(BUSY))?;
        let pending = self.pending().as_ref().map(|pending| pending.back_to.clone());
        let bundle = match (to, pending) {
            (Some(number), _) => self
                .history
                .bundle(number)
                .with_context(|| format!("no policy {number} is kept: see `enforcer history`"))?,
            (None, Some(before)) => before,
            (None, None) => self.before()?,
        };
        self.apply_alone(bundle, Reason::RolledBack, None).await
    }

    /// The latest that was confirmed and is another one than what is in force.
    fn before(&self) -> Result<Bundle> {
        let in_force = self.in_force();
        let entries = self.history.entries();
        let mut own = entries.iter().filter(|entry| in_force.number.is_none_or(|number| entry.number < number));
        let before = own.rfind(|entry| entry.confirmed && entry.sha256 != in_force.sha256);
        let bundle = before.and_then(|HistoryEntry { number, .. }| self.history.bundle(*number));
        bundle.ok_or_else(|| {
            anyhow!("no other policy was in force before this one, and confirmed: see `enforcer history`")
        })
    }

    /// Reads the policy's file again.
    pub async fn reload(self: &Arc<Self>) -> Result<Applied> {
        let read = async {
            let (bundle, policy) = self.file().await?;
            policy?;
            anyhow::Ok(bundle)
        };
        // What is wrong with the file is a reload that failed, too.
        let bundle = read.await.inspect_err(|_| self.reloads.failed())?;
        self.apply(bundle, Reason::Reloaded, None).await
    }

    /// What [`Self::apply`] begins, and is part of: boxed, as a future cannot contain itself.
    fn go_back_after(self: Arc<Self>, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            time::sleep(time).await;
            loop {
                let one_at_a_time = self.applying.lock().await;
                // Taken, so that it is not this task's own timer that is stopped.
                let Some(pending) = self.pending().take() else { return };
                tracing::warn!("nobody confirmed the policy: the one before comes back");
                match self.apply_alone(pending.back_to.clone(), Reason::NotConfirmed, None).await {
                    Ok(_) => {
                        self.reloads.not_confirmed.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    Err(error) => {
                        tracing::warn!("the policy before does not come back, and is tried again: {error:#}");
                    }
                }
                *self.pending() = Some(pending);
                drop(one_at_a_time);
                time::sleep(AGAIN).await;
            }
        })
    }

    /// Seconds until the policy before comes back.
    pub fn confirm_seconds(&self) -> Option<u64> {
        let pending = self.pending();
        Some(pending.as_ref()?.deadline.saturating_duration_since(Instant::now()).as_secs())
    }

    pub fn history(&self) -> History {
        History {
            policies: self.history.entries(),
            in_force: self.in_force().number,
            confirmed: self.history.current().map(|current| current.number),
        }
    }

    pub fn pending(&self) -> std::sync::MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy's file as it is now, whatever is in force.
    async fn file(&self) -> Result<(Bundle, Result<Policy, FileError>)> {
        let (disk, path) = (self.options.disk.clone(), self.options.policy.clone());
        let reading = spawn_blocking(move || Bundle::read(&disk, &path));
        // A pipe, or a disk that is elsewhere, may never answer.
        Ok(time::timeout(FILE, reading).await.context("the policy's file cannot be read in time")??)
    }

    async fn file_sha256(&self) -> Option<String> {
        Some(self.file().await.ok()?.0.sha256())
    }
}

impl State {
    /// The network's facts for another set of tables.
    fn net(&self, words: Words) -> Result<NetImage> {
        Ok(NetImage::new(&self.facts, &self.hooks.roles(), words)?)
    }

    /// Programs that [`Self::swap`] attaches.
    fn programs(&self) -> Vec<&'static str> {
        self.hooks.programs(&self.object)
    }

    /// Puts another set in the place of the one in force: with all that is known of names, the moment, and the counts. On an error, nothing has changed.
    fn swap(
        &mut self,
        controller: &Controller,
        in_force: &Arc<InForce>,
        mut object: Object,
        live: Vec<Live>,
    ) -> Result<()> {
        let policy = &in_force.policy;
        // It may have changed since the set was loaded.
        object.update_net(&self.net(in_force.words)?)?;
        object.set_moment(in_force.schedule.moment());
        let learning =
            self.learning.as_ref().map(|old| old.under(policy, live, &self.object, &mut object, Instant::now()));
        if !object.admitted().is(self.object.admitted()) {
            clients::fill(&self.admissions, object.admitted())?;
        }
        self.end_predecessor(&controller.pins);
        let same = object.counters().same(self.object.counters());
        object.counters().carry(self.object.counters(), &same);
        self.hooks.replace(&mut self.object, &mut object)?;
        let old = std::mem::replace(&mut self.object, object);
        self.predecessor = Some(Predecessor::of(old, same));
        self.learning = learning;
        controller.set_in_force(in_force);
        Ok(())
    }

    /// Takes the last counts of the set before, in which a CPU may have been until now, and removes the pins of all before the one in force.
    pub fn end_predecessor(&mut self, pins: &Pins) {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.carry_to(self.object.counters());
        }
        pins.sets().into_iter().filter(|&set| set < self.object.set()).for_each(|set| pins.forget(set));
        for version in pins.forget_other_states() {
            tracing::warn!(
                "connections from outside and DNS queries that were under way are forgotten: the controller before kept them by layout {version}"
            );
        }
    }
}
