//! What the service manager is told (sd_notify(3)). Where none has asked, nothing is told.

use std::{future, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{self, MissedTickBehavior};

/// The policy is in force: what is ordered behind the service may start.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A new policy is being loaded; [`ready`] ends it.
pub fn reloading() {
    // The time says to which of two requests this is the answer.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The controller ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the watchdog, if there is one, that the controller lives: for as long as this is polled, and `alive` returns. It is called on the main task and is to
/// go where a controller that hangs would hang.
pub async fn watchdog(alive: impl Fn()) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return future::pending().await };
    // Half of the limit, as sd_watchdog_enabled(3) says.
    let mut interval = time::interval((limit / 2).max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        alive();
        tell(&[NotifyState::Watchdog]);
    }
}

/// A manager that cannot be reached is no reason to stop judging packets.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
