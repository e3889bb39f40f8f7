//! Clients that the portal admits: on disk first, then in the kernel, which ends each admission by its own clock.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use tokio::{task::spawn_blocking, time};

use super::{Controller, State};
use crate::{
    api::types::{AdmittedClient, Clients},
    clients::{Admission, Admissions, Client, Clock, MOST, Store, Unread},
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
            bail!(
                "{client} needs no admission: it is no client of the portal ([portal] has other addresses in `from`), or a proxy"
            )
        }
        let mut admissions = self.state().admissions.clone();
        let now = Clock::now();
        let end = now.kernel + u64::from(seconds) * 1_000_000_000;
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
        if let Client::Net(net) = client
            && let Some((outer, _)) = admissions.around(net).next()
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
        let current = state.admissions.iter().filter(|(_, admission)| admission.end > now.kernel);
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

    fn store_of_clients(&self) -> Store {
        Store::new(&self.options.state)
    }

    /// Removes admissions that have ended, to make room for others, and follows the wall's clock with those of earlier boots.
    pub async fn end_admissions(&self) {
        let mut before = Clock::now();
        loop {
            time::sleep(SWEEP).await;
            let _one_at_a_time = self.admitting.lock().await;
            let mut state = self.state();
            let now = Clock::now();
            if now.was_set_since(&before) {
                state.follow_clock(&now);
            }
            before = now;
            for client in state.admissions.end(now.kernel) {
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
        let Self { object, admissions, .. } = self;
        clients.iter().try_for_each(|&client| object.admitted().set(client, admissions.lasts(client)))
    }

    /// The wall's clock was set.
    fn follow_clock(&mut self, now: &Clock) {
        self.admissions.follow(now);
        if let Err(error) = fill(&self.admissions, self.object.admitted()) {
            tracing::error!("who is admitted does not end by the clock that was set: {error:#}");
        }
    }
}

/// Goes on with the admissions on disk. If they cannot be read, those that an earlier controller has left in the kernel go on.
pub fn restore(store: &Store, admitted: &mut Admitted) -> Result<Admissions> {
    let now = Clock::now();
    let there = admitted.all()?;
    let kept = store.read(&now);
    let admissions = match &kept {
        Ok(Some(admissions)) => admissions.clone(),
        Ok(None) | Err(_) => {
            let of = |&(client, end): &(Client, u64)| (client, Admission { end, until: None });
            Admissions::of(there.iter().map(of), now.kernel)
        }
    };
    if let Err(error) = &kept {
        tracing::warn!("who is admitted is taken from the kernel's tables, as the file clients.json {error}");
    }
    if let Err(Unread::Damaged(_)) = &kept {
        match store.put_aside() {
            Ok(aside) => tracing::warn!("the damaged file is {}", aside.display()),
            Err(error) => tracing::warn!("the damaged file cannot be put aside: {error}"),
        }
    }
    let is_written = matches!(kept, Ok(Some(_)) | Err(Unread::Io(_)));
    if !is_written && let Err(error) = store.save(&admissions, &now) {
        tracing::warn!("who is admitted is not kept on disk: {error}");
    }
    for (client, _) in there.into_iter().filter(|(client, _)| admissions.lasts(*client).is_none()) {
        admitted.set(client, None)?;
    }
    fill(&admissions, admitted)?;
    Ok(admissions)
}

/// Stores all admissions in a set's tables.
pub fn fill(admissions: &Admissions, admitted: &mut Admitted) -> Result<()> {
    for (client, _) in admissions.iter() {
        admitted.set(client, admissions.lasts(client))?;
    }
    Ok(())
}

/// Whether some client that a rule is about is in a prefix.
fn concerns(rule: &Rule, net: IpNet) -> bool {
    let from = rule.from.as_ref();
    from.is_none_or(|from| from.iter().any(|own| own.contains(&net) || net.contains(own)))
}

fn told(client: Client, admission: Admission, now: &Clock) -> AdmittedClient {
    AdmittedClient {
        client: client.to_string(),
        until: format!("{:.0}", admission.until(now)),
        seconds_left: admission.end.saturating_sub(now.kernel) / 1_000_000_000,
    }
}
