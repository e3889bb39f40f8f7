//! What is known of names, on disk: what is new at once, all of it now and then.

use std::{
    future, io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{task::spawn_blocking, time};

use super::{Controller, learning::Learning};
use crate::names::store::{Record, Store};

/// How often all is saved. What comes between is noted; flash lasts longer so.
const SAVE: Duration = Duration::from_secs(60);
/// A client waits no longer for the disk than this.
const PATIENCE: Duration = Duration::from_millis(20);

impl Controller {
    /// Keeps the disk up to date. A disk may be slow: nothing waits for it but this.
    pub async fn keep_names(&self, store: Option<&Store>) {
        let Some(store) = store else { return future::pending().await };
        tokio::join!(self.note_names(store), self.save_names(store));
    }

    /// Waits until what is known now is noted, but not for a disk that is slow.
    pub async fn until_noted(&self) {
        let Some(count) = self.state().learning.as_ref().map(Learning::learned) else { return };
        let mut noted = self.noted.subscribe();
        let _ = time::timeout(PATIENCE, noted.wait_for(|noted| *noted >= count)).await;
    }

    async fn note_names(&self, store: &Store) {
        let mut well = true;
        loop {
            self.fresh.notified().await;
            let (fresh, count) = match &mut self.state().learning {
                Some(learning) => (learning.fresh(Instant::now(), today()), learning.learned()),
                None => continue,
            };
            let store = store.clone();
            let noted = spawn_blocking(move || store.note(&fresh)).await.unwrap_or(Ok(()));
            self.noted.send_replace(count);
            if let (Err(error), true) = (&noted, well) {
                tracing::error!("new addresses of names are not noted on disk: {error}");
            }
            well = noted.is_ok();
        }
    }

    async fn save_names(&self, store: &Store) {
        let mut well = true;
        loop {
            time::sleep(SAVE).await;
            let store = store.clone();
            // First: what is noted from there on may not be among the records.
            let prepared = spawn_blocking(move || (store.prepare(), store)).await;
            if let (Ok((prepared, store)), Some(records)) = (prepared, self.changed()) {
                let saving = spawn_blocking(move || prepared.and_then(|()| store.save(records)));
                let saved = saving.await.unwrap_or(Ok(()));
                if well {
                    say(&saved);
                }
                well = saved.is_ok();
                self.saved(well);
            }
        }
    }

    /// Brings the disk up to date, now.
    pub fn save(&self, store: &Store) {
        let prepared = store.prepare();
        if let Some(records) = self.changed() {
            say(&prepared.and_then(|()| store.save(records)));
        }
    }

    /// All that is to be saved, if anything has changed.
    fn changed(&self) -> Option<Vec<Record>> {
        self.state().learning.as_mut()?.changed(Instant::now(), today())
    }

    fn saved(&self, well: bool) {
        if let (Some(learning), false) = (&mut self.state().learning, well) {
            learning.unsaved();
        }
    }
}

fn say(saved: &io::Result<()>) {
    if let Err(error) = saved {
        tracing::error!("names' addresses are not kept over a restart: {error}");
    }
}

/// The time since 1970.
pub fn today() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
