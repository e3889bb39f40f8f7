//! What the API asks the controller for.

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::types::{Counters, Event, Names, Resolved, Status};
use crate::dns::Name;

/// What the controller tells and does.
pub trait Source: Send + Sync + 'static {
    /// The state of things.
    fn status(&self) -> Status;
    /// The counters now.
    fn counters(&self) -> Counters;
    /// The latest events, oldest first, and those that come behind them.
    fn events(&self) -> (Vec<Event>, broadcast::Receiver<Event>);
    /// How many were not told.
    fn events_lost(&self) -> u64;
    /// The names' addresses.
    fn names(&self) -> Names;
    /// Asks resolvers for a name, and learns what they say. An error says what is wrong.
    fn resolve(&self, name: Name) -> BoxFuture<'_, Result<Resolved, String>>;
}
