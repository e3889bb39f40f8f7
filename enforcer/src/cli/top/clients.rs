//! Clients whose packets are denied or would be, by the events: a line for each client and action.

use std::{collections::HashMap, net::IpAddr};

use crate::api::types::Event;

/// So many are kept. When one more comes, the one with the fewest packets goes, of these the one that was silent longest: whoever sends from many
/// forged addresses pushes out forged addresses.
const ROOM: usize = 1024;

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub address: IpAddr,
    /// Packets in events, all with the same action.
    pub packets: u64,
    pub action: String,
    /// Where the last one was to go, and by what it was denied.
    pub to: String,
    pub by: String,
    last: u64,
}

#[derive(Clone, Default)]
pub struct Clients {
    known: HashMap<(IpAddr, String), Client>,
    told: u64,
}

impl Clients {
    /// Takes an event into account, if it is about a packet that was denied, or would be.
    pub fn add(&mut self, event: &Event) {
        let Some(flow) = event.flow.as_ref().filter(|_| event.action != "allow") else { return };
        let key = (flow.source, event.action.clone());
        if !self.known.contains_key(&key) && self.known.len() >= ROOM {
            let least = self.known.iter().min_by_key(|(_, client)| (client.packets, client.last));
            if let Some(least) = least.map(|(key, _)| key.clone()) {
                self.known.remove(&least);
            }
        }
        self.told += 1;
        let text = flow.to_string();
        let (_, to) = text.split_once(" -> ").unwrap_or(("", &text));
        let to = event.names.first().map_or_else(|| to.to_owned(), |name| format!("{to} {name}"));
        let by = event.rule.as_ref().or(event.reason.as_ref()).cloned().unwrap_or_default();
        let packets = self.known.get(&key).map_or(0, |client| client.packets) + 1;
        let client = Client { address: flow.source, packets, action: event.action.clone(), to, by, last: self.told };
        self.known.insert(key, client);
    }

    /// All of them, those with the most packets first.
    pub fn top(&self) -> Vec<&Client> {
        let mut clients: Vec<&Client> = self.known.values().collect();
        clients.sort_by_key(|client| (std::cmp::Reverse(client.packets), client.address, client.action.as_str()));
        clients
    }
}
