//! What `top` shows, for programs.

use std::{cell::RefCell, net::IpAddr, path::Path, time::Instant};

use anyhow::Result;
use serde::Serialize;

use super::{
    clients::Client,
    model::Data,
    traffic::{Kind, Line},
};
use crate::{api::client, cli::rates::Amount};

/// A second of it.
#[derive(Serialize)]
pub struct Sample<'a> {
    allowed: Row<'a>,
    denied: Row<'a>,
    monitored: Row<'a>,
    services: Vec<Named<'a>>,
    rules: Vec<Named<'a>>,
    clients: Vec<Denied<'a>>,
    events_lost: u64,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    action: &'a str,
    #[serde(flatten)]
    row: Row<'a>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    total: &'a Amount,
    packets_per_second: f64,
    bits_per_second: f64,
}

#[derive(Serialize)]
struct Denied<'a> {
    address: IpAddr,
    packets: u64,
    action: &'a str,
    to: &'a str,
    by: &'a str,
}

impl<'a> From<&'a Line> for Row<'a> {
    fn from(line: &'a Line) -> Self {
        Self { total: &line.total, packets_per_second: line.rate.packets, bits_per_second: line.rate.bits }
    }
}

impl<'a> From<&'a Data> for Sample<'a> {
    fn from(Data { traffic, clients, lost }: &'a Data) -> Self {
        let lines = |kind| {
            let named = |line: &'a Line| Named { name: &line.name, action: &line.action, row: line.into() };
            let mut lines: Vec<Named<'a>> = traffic.lines(kind).map(named).collect();
            lines.sort_by_key(|line| (line.name, line.action));
            lines
        };
        let client = |Client { address, packets, action, to, by, .. }: &'a Client| Denied {
            address: *address,
            packets: *packets,
            action,
            to,
            by,
        };
        Self {
            allowed: (&traffic.allowed).into(),
            denied: (&traffic.denied).into(),
            monitored: (&traffic.monitored).into(),
            services: lines(Kind::Service),
            rules: lines(Kind::Rule),
            clients: clients.top().into_iter().map(client).collect(),
            events_lost: *lost,
        }
    }
}

/// Prints a line of JSON each second, until the controller stops.
pub async fn follow(socket: &Path) -> Result<()> {
    let (data, start) = (RefCell::new(Data::default()), Instant::now());
    let mut has_rates = false;
    let counters = client::stream(socket, "/v1/counters/stream", |counters| {
        let mut data = data.borrow_mut();
        data.traffic.take(&counters, start.elapsed().as_secs_f64());
        // They take two samples.
        if has_rates {
            crate::cli::print_json(&Sample::from(&*data))?;
        }
        has_rates = true;
        Ok(true)
    });
    let events = client::stream(socket, "/v1/events/stream", |told| {
        data.borrow_mut().events(&told);
        Ok(true)
    });
    tokio::try_join!(counters, events).map(drop)
}
