//! Clients that the portal admits: on disk first, then in the kernel, which ends each admission by its own clock.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use tokio::{task::spawn_blocking, time};

use super::{Controller, State};
use crate::{
    api::types::{AdmittedClient, Clients},
    clients::{Admission, Admissions, Client, Clock, MOST, Store},
    kernel::{KernelError, admitted::Admitted},
    policy::Rule,
};

/// How often is looked for admissions that have ended, which the kernel does not count by then.
const SWEEP: Duration = Duration::from_secs(1);

impl Controller {
    /// Admits a client for a time from now on.
    pub async fn admit(self: &Arc<Self>, client: Client, seconds: u32) -> Result<AdmittedClient> {
        let _one_at_a_time = self.admitting.lock().await;
        let in_force = self.in_force();
        let Some(gate) = in_force.policy.lan.rules.iter().find(|rule| rule.closes()) else {
            bail!("the policy in force has no portal: write [portal] with services, and apply it")
        };
        if let Client::Net(net) = client
            && !concerns(gate, net)
        {
            let is_proxy = in_force.policy.proxies.iter().any(|proxy| net == proxy.address.ip().into());
            let why = if is_proxy { "it is a proxy" } else { "[portal] has other addresses in `from`" };
            bail!("{client} needs no admission: it is no client of the portal ({why})")
        }
        let mut admissions = self.state().admissions.clone();
        let now = Clock::now();
        let end = now.monotonic + u64::from(seconds) * 1_000_000_000;
        admissions.admit(client, end)?;
        self.keep(admissions, client).await?;
        let told = told(client, Admission { end, until: None }, &now);
        tracing::info!("{client} is admitted until {}", told.until);
        Ok(told)
    }

    /// Takes a client's admission back.
    pub async fn expel(self: &Arc<Self>, client: Client) -> Result<()> {
        let _one_at_a_time = self.admitting.lock().await;
        let mut admissions = self.state().admissions.clone();
        let was_admitted = admissions.expel(client);
        let now = Clock::now();
        if let Client::Net(net) = client
            && let Some((outer, _)) = admissions.around(net).find(|(_, end)| *end > now.monotonic)
        {
            let still = if was_admitted { "would still be" } else { "is" };
            bail!("{client} {still} admitted as part of {outer}: expel that")
        }
        if !was_admitted {
            bail!("{client} is not admitted: `enforcer clients` lists those that are")
        }
        self.keep(admissions, client).await?;
        tracing::info!("{client} is expelled");
        Ok(())
    }

    /// Who is admitted.
    pub fn clients(&self) -> Clients {
        let now = Clock::now();
        let state = self.state();
        let current = state.admissions.iter().filter(|(_, admission)| admission.end > now.monotonic);
        let clients = current.map(|(client, admission)| told(client, admission, &now)).collect();
        Clients { clients, capacity: MOST as u64 }
    }

    /// Puts admissions in the place of those before, which differ by one client's. On an error, nothing has changed.
    async fn keep(&self, admissions: Admissions, client: Client) -> Result<()> {
        let store = self.store_of_clients();
        let saving = spawn_blocking(move || (store.save(&admissions, &Clock::now()), admissions));
        let (saved, admissions) = saving.await?;
        saved.context("nothing has changed, as it cannot be kept on disk")?;
        let Err((error, before)) = self.state().change(admissions, client) else { return Ok(()) };
        let store = self.store_of_clients();
        let saving = spawn_blocking(move || store.save(&before, &Clock::now()));
        saving.await?.context("who is admitted is not as it was on disk")?;
        Err(error.into())
    }

    /// Writes down how much is left of admissions, which is the most that they last after a reboot.
    pub fn note_clients(&self) {
        let admissions = self.state().admissions.clone();
        if admissions.count() > 0
            && let Err(error) = self.store_of_clients().save(&admissions, &Clock::now())
        {
            tracing::warn!("who is admitted is on disk as of the last admission: {error}");
        }
    }

    fn store_of_clients(&self) -> Store {
        Store::new(&self.options.state)
    }

    /// Removes admissions that have ended, to make room for others, and follows the wall's clock with those of earlier boots.
    pub async fn end_admissions(&self) {
        loop {
            time::sleep(SWEEP).await;
            let _one_at_a_time = self.admitting.lock().await;
            let now = Clock::now();
            let set = self.state().follow_clock(&now);
            if let Some(admissions) = set {
                let store = self.store_of_clients();
                if let Ok(Err(error)) = spawn_blocking(move || store.save(&admissions, &now)).await {
                    tracing::warn!("who is admitted is on disk by the clock before: {error}");
                }
            }
            self.state().end_admissions(&now);
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
        let Self { object, admissions, .. } = self;
        clients.iter().try_for_each(|&client| object.admitted().set(client, admissions.lasts(client)))
    }

    /// Ends admissions of earlier boots by the wall's clock, if that was set; then, gives all, which are to be saved by it.
    fn follow_clock(&mut self, now: &Clock) -> Option<Admissions> {
        if !now.was_set_since(&self.clock) {
            self.clock = *now;
            return None;
        }
        self.admissions.follow(now);
        if let Err(error) = fill(&self.admissions, self.object.admitted()) {
            // It is tried again, as the clock is taken to be set for as long.
            tracing::error!("admissions do not end by the clock that was set: {error}");
            return None;
        }
        self.clock = *now;
        (self.admissions.count() > 0).then(|| self.admissions.clone())
    }

    /// Removes those that have ended.
    fn end_admissions(&mut self, now: &Clock) {
        for client in self.admissions.end(now.monotonic) {
            tracing::info!("the admission of {client} has ended");
            let touched = self.admissions.touched(client);
            if let Err(error) = self.store_admissions(&touched) {
                tracing::error!("{client} is not removed from the kernel's tables: {error}");
            }
        }
    }
}

/// Goes on with the admissions on disk. If they cannot be read, those that an earlier controller has left in the kernel go on.
pub fn restore(store: &Store, admitted: &mut Admitted, now: &Clock) -> Result<Admissions> {
    let there = admitted.all()?;
    let from_kernel = || {
        let of = |&(client, end): &(Client, u64)| (client, Admission { end, until: None });
        Admissions::of(there.iter().map(of), now.monotonic)
    };
    let admissions = match store.read(now) {
        Ok(kept) => kept.unwrap_or_else(from_kernel),
        Err(error) => {
            tracing::warn!("who is admitted is taken from the kernel's tables, as the file clients.json {error}");
            match store.put_aside() {
                Ok(aside) => tracing::warn!("that file is {} now", aside.display()),
                Err(error) => tracing::warn!("that file cannot be put aside: {error}"),
            }
            from_kernel()
        }
    };
    // By the clocks of this boot. Who has never admitted anybody needs no file.
    if admissions.count() > 0
        && let Err(error) = store.save(&admissions, now)
    {
        tracing::warn!("who is admitted is not kept on disk: {error}");
    }
    for (client, _) in there.into_iter().filter(|(client, _)| admissions.lasts(*client).is_none()) {
        admitted.set(client, None)?;
    }
    fill(&admissions, admitted)?;
    Ok(admissions)
}

/// Stores all admissions in a set's tables, or as many as can be.
pub fn fill(admissions: &Admissions, admitted: &mut Admitted) -> Result<(), KernelError> {
    let mut stored = Ok(());
    for (client, _) in admissions.iter() {
        stored = stored.and(admitted.set(client, admissions.lasts(client)));
    }
    stored
}

/// Whether some client that a rule is about is in a prefix.
fn concerns(rule: &Rule, net: IpNet) -> bool {
    let from = rule.from.as_ref();
    from.is_none_or(|from| from.iter().any(|own| own.contains(&net) || net.contains(own)))
}

fn told(client: Client, admission: Admission, now: &Clock) -> AdmittedClient {
    AdmittedClient {
        client: client.to_string(),
        until: format!("{:.0}", admission.ends_at(now)),
        seconds_left: admission.end.saturating_sub(now.monotonic) / 1_000_000_000,
    }
}
