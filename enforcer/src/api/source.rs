//! What the API asks the controller for.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::{
    policies::{Applied, Apply, History, Rollback},
    types::{AdmittedClient, Clients, Counters, Event, Names, Resolved, Status},
};
use crate::{clients::Client, dns::Name, policy::Bundle};

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
    /// The policy in force, with all of its files.
    fn policy(&self) -> Bundle;
    /// Policies that were in force.
    fn history(&self) -> History;
    /// Puts a policy in force. An error says why nothing has changed.
    fn apply(self: Arc<Self>, apply: Apply) -> BoxFuture<'static, Result<Applied, String>>;
    /// Lets one stay that waits to be confirmed. An error says that there is none.
    fn confirm(self: Arc<Self>) -> BoxFuture<'static, Result<Applied, String>>;
    /// Goes back to an earlier policy. An error says why nothing has changed.
    fn roll_back(self: Arc<Self>, rollback: Rollback) -> BoxFuture<'static, Result<Applied, String>>;
    /// Who the portal has admitted.
    fn clients(&self) -> Clients;
    /// Admits a client for so many seconds. An error says why nothing has changed.
    fn admit(self: Arc<Self>, client: Client, seconds: u32) -> BoxFuture<'static, Result<AdmittedClient, String>>;
    /// Takes a client's admission back. An error says why nothing has changed.
    fn expel(self: Arc<Self>, client: Client) -> BoxFuture<'static, Result<(), String>>;
    /// Ends the controller, and takes all programs off their interfaces.
    fn detach(&self);
}
