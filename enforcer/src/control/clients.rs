//! Clients that the portal admits: on disk first, then in the kernel, which ends each admission by its own clock.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tokio::{task::spawn_blocking, time};

use super::{Controller, State};
use crate::{
    api::types::{AdmittedClient, Clients},
    clients::{Admissions, Client, MOST, Store},
    kernel::{KernelError, admitted::Admitted},
    policy::Portal,
};

/// How often is looked for admissions that have ended, which the kernel does not count by then.
const SWEEP: Duration = Duration::from_secs(1);

impl Controller {
    /// Admits a client for a time from now on.
    pub async fn admit(self: &Arc<Self>, client: Client, seconds: u32) -> Result<AdmittedClient> {
        let _one_at_a_time = self.admitting.lock().await;
        let in_force = self.in_force();
        let Some(portal) = &in_force.policy.portal else {
            bail!("the policy in force has no portal: write [portal] with services, and apply it")
        };
        if let Client::Net(net) = client
            && !concerns(portal, net)
        {
            bail!("{client} needs no admission: it is no client of the portal ([portal] has other addresses in `from`)")
        }
        let mut admissions = self.state().admissions.clone();
        let until = Timestamp::now() + SignedDuration::from_secs(seconds.into());
        admissions.admit(client, until)?;
        self.keep(admissions, client).await?;
        tracing::info!("{client} is admitted until {until:.0}");
        Ok(told(client, until, Timestamp::now()))
    }

    /// Takes a client's admission back.
    pub async fn expel(self: &Arc<Self>, client: Client) -> Result<()> {
        let _one_at_a_time = self.admitting.lock().await;
        let mut admissions = self.state().admissions.clone();
        if !admissions.expel(client) {
            if let Client::Net(net) = client
                && let Some((outer, _)) = admissions.around(net).next()
            {
                bail!("{client} is admitted as part of {outer}: expel that")
            }
            bail!("{client} is not admitted: `enforcer clients` lists those that are")
        }
        self.keep(admissions, client).await?;
        tracing::info!("{client} is expelled");
        Ok(())
    }

    /// Who is admitted.
    pub fn clients(&self) -> Clients {
        let now = Timestamp::now();
        let state = self.state();
        let current = state.admissions.iter().filter(|(_, until)| *until > now);
        let clients = current.map(|(client, until)| told(client, until, now)).collect();
        Clients { clients, capacity: MOST as u64 }
    }

    /// Puts admissions in the place of those before, which differ by one client's. On an error, nothing has changed.
    async fn keep(&self, admissions: Admissions, client: Client) -> Result<()> {
        let store = self.store_of_clients();
        let saving = spawn_blocking(move || (store.save(&admissions), admissions));
        let (saved, admissions) = saving.await?;
        saved.context("nothing has changed, as it cannot be kept on disk")?;
        let Err((error, before)) = self.state().change(admissions, client) else { return Ok(()) };
        let store = self.store_of_clients();
        spawn_blocking(move || store.save(&before)).await?.context("who is admitted is not as it was on disk")?;
        Err(error.into())
    }

    fn store_of_clients(&self) -> Store {
        Store::new(&self.options.state)
    }

    /// Removes admissions that have ended, to make room for others.
    pub async fn end_admissions(&self) {
        loop {
            time::sleep(SWEEP).await;
            let mut state = self.state();
            for client in state.admissions.end(Timestamp::now()) {
                tracing::info!("the admission of {client} has ended");
                let touched = state.admissions.touched(client);
                if let Err(error) = state.store_admissions(&touched) {
                    tracing::error!("{client} is not removed from the kernel's tables: {error}");
                }
            }
        }
    }
}

impl State {
    /// Puts admissions in the place of those before. On an error of the kernel's, they are as they were, and are given, too.
    fn change(&mut self, admissions: Admissions, client: Client) -> Result<(), (KernelError, Admissions)> {
        let before = std::mem::replace(&mut self.admissions, admissions);
        let touched = self.admissions.touched(client);
        self.store_admissions(&touched).map_err(|error| {
            self.admissions = before.clone();
            let back = self.store_admissions(&touched);
            back.unwrap_or_else(|error| tracing::error!("who is admitted is not as it was in the kernel: {error}"));
            (error, before)
        })
    }

    /// Brings the kernel's word on some clients up to date.
    fn store_admissions(&mut self, clients: &[Client]) -> Result<(), KernelError> {
        let clock = Clock::now();
        let Self { object, admissions, .. } = self;
        clients.iter().try_for_each(|&client| {
            let until = admissions.lasts(client).map(|until| clock.kernel(until));
            object.admitted().set(client, until)
        })
    }
}

/// Goes on with the admissions on disk. If they cannot be read, those that an earlier controller has left in the kernel go on.
pub fn restore(store: &Store, admitted: &mut Admitted) -> Result<Admissions> {
    let clock = Clock::now();
    let there = admitted.all()?;
    let kept = store.read().unwrap_or_else(|error| {
        tracing::warn!(
            "who is admitted is taken from the kernel's tables, as the file clients.json is damaged: {error}"
        );
        None
    });
    let kept = kept.unwrap_or_else(|| there.iter().map(|&(client, until)| (client, clock.wall(until))).collect());
    let admissions = Admissions::of(kept, clock.wall);
    for (client, _) in there.into_iter().filter(|(client, _)| admissions.lasts(*client).is_none()) {
        admitted.set(client, None)?;
    }
    fill(&admissions, admitted)?;
    Ok(admissions)
}

/// Stores all admissions in a set's tables.
pub fn fill(admissions: &Admissions, admitted: &mut Admitted) -> Result<()> {
    let clock = Clock::now();
    for (client, _) in admissions.iter() {
        let until = admissions.lasts(client).map(|until| clock.kernel(until));
        admitted.set(client, until)?;
    }
    Ok(())
}

/// The wall's clock and the kernel's monotonic one at a time.
struct Clock {
    wall: Timestamp,
    /// Nanoseconds.
    monotonic: u64,
}

impl Clock {
    fn now() -> Self {
        // Linux always has this clock.
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs());
        Self { wall: Timestamp::now(), monotonic }
    }

    /// A time by the kernel's clock; 0 is any that has passed.
    fn kernel(&self, time: Timestamp) -> u64 {
        let left = u64::try_from(time.duration_since(self.wall).as_nanos()).unwrap_or(0);
        if left == 0 { 0 } else { self.monotonic.saturating_add(left) }
    }

    /// A time of the kernel's clock by the wall's.
    fn wall(&self, time: u64) -> Timestamp {
        let left = i64::try_from(i128::from(time) - i128::from(self.monotonic)).unwrap_or(0);
        self.wall.saturating_add(SignedDuration::from_nanos(left)).unwrap_or(self.wall)
    }
}

/// Whether some client of the portal is in a prefix.
fn concerns(portal: &Portal, net: IpNet) -> bool {
    let from = portal.from.as_ref();
    from.is_none_or(|from| from.iter().any(|own| own.contains(&net) || net.contains(own)))
}

fn told(client: Client, until: Timestamp, now: Timestamp) -> AdmittedClient {
    AdmittedClient {
        client: client.to_string(),
        until: format!("{until:.0}"),
        seconds_left: u64::try_from(until.duration_since(now).as_secs()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_on_how_much_is_left() {
        let clock = Clock { wall: Timestamp::from_second(1_000).expect("a time"), monotonic: 5_000_000_000 };
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(clock.kernel(at(1_002)), 7_000_000_000);
        assert_eq!([clock.kernel(at(1_000)), clock.kernel(at(900))], [0, 0]);
        assert_eq!(clock.wall(7_000_000_000), at(1_002));
        assert_eq!(clock.wall(0), at(995));
        assert_eq!(clock.wall(u64::MAX), at(1_000));
        assert!(Clock::now().monotonic > 0);
    }
}
