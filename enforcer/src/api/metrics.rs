//! What the controller counts, as Prometheus reads it: made of what `/v1/status` and `/v1/counters` tell. Labels come from the policy and the command line
//! alone, so that no client makes new time series.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::types::{Counters, NamesStatus, Snooped, Status};
use crate::{dns::forwarder::counters::Snapshot, names::Counts};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the values of `accept` headers prefer; Prometheus' own if they do not care.
    pub fn preferred<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let mut best = [0.0, 0.0];
        for range in accept.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let which = match parts.next() {
                Some("application/openmetrics-text") => 1,
                Some("text/plain" | "text/*" | "*/*") => 0,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            best[which] = f32::max(best[which], quality);
        }
        if best[1] > best[0] { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics.
pub fn encode(status: Status, counters: Counters, format: Format) -> String {
    let mut registry = Registry::with_prefix("enforcer");
    registry.register_collector(Box::new(Told { status, counters }));
    let mut page = String::new();
    let written = match format {
        Format::Prometheus => prometheus_text::encode(&mut page, &registry),
        Format::OpenMetrics => text::encode(&mut page, &registry),
    };
    // A string takes all that is written to it.
    debug_assert!(written.is_ok());
    page
}

#[derive(Debug)]
struct Told {
    status: Status,
    counters: Counters,
}

impl Collector for Told {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let Self { status, counters } = self;
        page.of_controller(status)?;
        page.of_packets(counters)?;
        page.of_interfaces(status)?;
        page.of_kernel(status)?;
        status.names.as_ref().map_or(Ok(()), |names| page.of_names(names))
    }
}

/// Labels of a sample.
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn of_controller(&mut self, status: &Status) -> fmt::Result {
        let Status { version, policy, policy_sha256, .. } = status;
        self.infos("build", "The controller's version", [[("version", version.as_str())]])?;
        let policy = [("file", policy.as_str()), ("sha256", policy_sha256)];
        self.infos("policy", "The policy in force: its file, and the file's SHA-256 when it was loaded", [policy])?;
        self.gauge("uptime", "Time since the programs were attached", Some(&Unit::Seconds), status.uptime_seconds)?;
        for (name, help, value) in [
            ("policy_services", "Services in the policy", status.services),
            ("policy_rules", "Rules in the policy, all parts", status.rules),
            ("policy_prefixes", "Prefixes in tables, IPv4 and IPv6", status.prefixes),
            ("policy_hosts", "Hosts in tables, without names' addresses", status.hosts),
            ("warnings", "What an operator should look at: see `enforcer status`", status.warnings.len()),
        ] {
            self.gauge(name, help, None, value as u64)?;
        }
        let unconfirmed = u64::from(status.confirm_seconds.is_some());
        self.gauge(
            "policy_unconfirmed",
            "Whether the policy before comes back unless this one is confirmed",
            None,
            unconfirmed,
        )?;
        self.counter("events_lost", "Events that were not told, as there were too many at once", status.events_lost)?;
        let reloads = status.reloads;
        let results =
            [("succeeded", reloads.succeeded), ("failed", reloads.failed), ("rolled-back", reloads.rolled_back)];
        self.by("result", "reloads", "How often a policy was to take another's place, by what came of it", results)
    }

    fn of_packets(&mut self, counters: &Counters) -> fmt::Result {
        let rules = counters.rules.iter().map(|counter| {
            let service = counter.service.as_deref().unwrap_or("any");
            let labels = [&counter.policy, counter.rule.as_str(), service, &counter.action];
            (labels, counter.packets, counter.bytes)
        });
        let pseudo = counters.pseudo.iter().map(|counter| {
            let labels = ["pseudo", counter.name.as_str(), "any", &counter.action];
            (labels, counter.packets, counter.bytes)
        });
        let all: Vec<_> = rules
            .chain(pseudo)
            .map(|([part, rule, service, action], packets, bytes)| {
                ([("part", part), ("rule", rule), ("service", service), ("action", action)], packets, bytes)
            })
            .collect();
        self.counters(
            "packets",
            "Packets judged, as on the wire, by part of the policy (lan, router; pseudo: what no rule names), rule, service and action",
            None,
            all.iter().map(|(labels, packets, _)| (*labels, *packets)),
        )?;
        self.counters(
            "bytes",
            "Bytes of these packets with their link-layer headers",
            None,
            all.iter().map(|(labels, _, bytes)| (*labels, *bytes)),
        )
    }

    fn of_interfaces(&mut self, status: &Status) -> fmt::Result {
        let hooks = status.hooks.iter().map(|hook| {
            [("interface", hook.interface.as_str()), ("role", hook.role.as_str()), ("hook", hook.hook.as_str())]
        });
        self.infos("hook", "Where programs are attached, and how", hooks)?;
        let interfaces = &status.interfaces;
        let hooked = interfaces
            .iter()
            .map(|one| ([("interface", one.interface.as_str()), ("role", one.role.as_str())], u64::from(one.hooked)));
        let help =
            "Time for which interfaces that came back, or whose filters others took away, were there without programs";
        self.counters("unhooked", help, Some(&Unit::Seconds), [([], status.unhooked_seconds)])?;
        let help = "Whether programs are attached to an interface that the command line names";
        self.gauges("interface_hooked", help, None, hooked)?;
        let traffic: Vec<_> = interfaces
            .iter()
            .filter_map(|one| {
                Some(([("interface", one.interface.as_str()), ("role", one.role.as_str())], one.traffic?))
            })
            .collect();
        let mut count = |name, help, unit, of: fn(&super::types::Traffic) -> u64| {
            self.counters(name, help, unit, traffic.iter().map(|(labels, traffic)| (*labels, of(traffic))))
        };
        let help = "Packets that the kernel's device received, whatever became of them";
        count("interface_receive_packets", help, None, |traffic| traffic.received_packets)?;
        let help = "Bytes that the kernel's device received";
        count("interface_receive", help, Some(&Unit::Bytes), |traffic| traffic.received_bytes)?;
        let help = "Packets that the kernel's device sent";
        count("interface_transmit_packets", help, None, |traffic| traffic.sent_packets)?;
        let help = "Bytes that the kernel's device sent";
        count("interface_transmit", help, Some(&Unit::Bytes), |traffic| traffic.sent_bytes)
    }

    fn of_kernel(&mut self, status: &Status) -> fmt::Result {
        self.gauge("map_memory", "Kernel memory of the maps", Some(&Unit::Bytes), status.map_bytes)?;
        let tables = || status.tables.iter().map(|table| ([("table", table.table.as_str())], table));
        let entries = tables().map(|(labels, table)| (labels, table.entries));
        self.gauges("table_entries", "Entries of tables that can be full", None, entries)?;
        let capacity = tables().map(|(labels, table)| (labels, table.capacity));
        self.gauges("table_capacity", "How many entries there can be", None, capacity)?;
        let programs = || status.programs.iter().map(|one| ([("program", one.program.as_str())], one));
        let runs = programs().map(|(labels, one)| (labels, one.runs));
        self.counters("program_runs", "Runs of a kernel program, while kernel.bpf_stats_enabled is 1", None, runs)?;
        let seconds = programs().map(|(labels, one)| (labels, one.nanoseconds as f64 / 1e9));
        self.counters("program_run", "Time that these runs took", Some(&Unit::Seconds), seconds)
    }

    fn of_names(&mut self, status: &NamesStatus) -> fmt::Result {
        let NamesStatus { counts, unplaced, queries, snooped, upstreams } = status;
        let Counts { names, addresses, draining, kept, evicted, refused } = *counts;
        for (name, help, value) in [
            ("names", "Names that have addresses", names),
            ("names_addresses", "Addresses that names have", addresses),
            ("names_draining", "Addresses whose time is over, for connections that stand", draining),
            ("names_kept", "Names of which resolvers do not tell any more", kept),
        ] {
            self.gauge(name, help, None, value as u64)?;
        }
        let help = "Names' addresses that ended early, as there were too many";
        self.counter("names_evicted", help, evicted)?;
        self.counter("names_refused", "Addresses of names that were refused, as they are not the internet's", refused)?;
        let help = "Names' addresses that are not matched, as tables had no room for them";
        self.counter("names_unplaced", help, *unplaced)?;
        let well = upstreams.iter().map(|one| ([("resolver", one.address.as_str())], u64::from(one.well)));
        self.gauges("resolver_up", "Whether a resolver is asked before those that do not answer", None, well)?;
        let failures = upstreams.iter().map(|one| ([("resolver", one.address.as_str())], one.failures));
        self.counters("resolver_failures", "How often it was silent or not to be reached", None, failures)?;
        if let Some(queries) = queries {
            self.of_queries(queries)?;
        }
        snooped.as_ref().map_or(Ok(()), |snooped| self.of_snooped(snooped))
    }

    fn of_queries(&mut self, queries: &Snapshot) -> fmt::Result {
        self.counter("dns_queries", "Messages of clients to the DNS server, whatever they were", queries.queries)?;
        let outcomes = [
            ("answered", queries.answers),
            ("nxdomain", queries.nxdomain),
            ("zero", queries.zero),
            ("refused", queries.refused),
            ("failed", queries.failed),
            ("unfit", queries.unfit),
            ("over-limit", queries.over_limit),
            ("displaced", queries.displaced),
            ("over-client-rate", queries.over_client_rate),
            ("over-rate", queries.over_rate),
        ];
        let help = "What became of them: answered by a resolver; denied by the policy (nxdomain, zero, refused); or not answered";
        self.by("outcome", "dns_responses", help, outcomes)?;
        let help = "Connections of DNS clients that were closed, as there were too many";
        self.counter("dns_connections_over_limit", help, queries.connections_over_limit)?;
        let help = "Queries and connections to the DNS server from outside the LANs, dropped";
        self.counter("dns_outside", help, queries.outside)?;
        let help = "Messages in a resolver's name that do not answer the question: late, or forged";
        self.counter("dns_mismatched", help, queries.mismatched)
    }

    fn of_snooped(&mut self, snooped: &Snooped) -> fmt::Result {
        let outcomes = [
            ("taken", snooped.taken),
            ("lost", snooped.lost),
            ("unasked", snooped.unasked),
            ("forged", snooped.forged),
            ("malformed", snooped.malformed),
            ("fragmented", snooped.fragmented),
            ("tcp", snooped.tcp),
            ("truncated", snooped.truncated),
            ("too-long", snooped.too_long),
            ("over-limit", snooped.over_limit),
        ];
        let help =
            "What became of other resolvers' answers as they passed: taken, or why they were not heard or not believed";
        self.by("outcome", "snoop_messages", help, outcomes)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, None, [([], value)])
    }

    /// Counters that differ in one label.
    fn by<const N: usize>(
        &mut self,
        label: &'static str,
        name: &str,
        help: &str,
        counts: [(&str, u64); N],
    ) -> fmt::Result {
        self.counters(name, help, None, counts.map(|(value, count)| ([(label, value)], count)))
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.gauges(name, help, unit, [([], value)])
    }

    /// A family of counters. Those with the same labels, such as rules of the same line of two files, are one.
    fn counters<'l, const N: usize, V: EncodeCounterValue + AddAssign + Default>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        let mut sums: BTreeMap<Labels<'l, N>, V> = BTreeMap::new();
        samples.into_iter().for_each(|(labels, value)| *sums.entry(labels).or_default() += value);
        if sums.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        sums.iter().try_for_each(|(labels, value)| {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    /// A family of gauges.
    fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        let samples: BTreeMap<Labels<'l, N>, V> = samples.into_iter().collect();
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        samples.iter().try_for_each(|(labels, value)| family.encode_family(labels)?.encode_gauge(value))
    }

    /// A family that says something by its labels.
    fn infos<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Labels<'l, N>>,
    ) -> fmt::Result {
        // Of equal ones, one.
        let samples: BTreeMap<Labels<'l, N>, ()> = samples.into_iter().map(|labels| (labels, ())).collect();
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        samples.keys().try_for_each(|labels| family.encode_info(labels))
    }
}
