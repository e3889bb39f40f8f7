//! `enforcer apply`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{IncludeRoots, Socket, units};
use crate::{
    api::{
        client::{self, NoController},
        policies::{Applied, Apply},
        types::Counters,
    },
    compile::{self, Limits},
    control,
    diff::{Decision, Diff},
    policy::Bundle,
};

/// Compiling and the verifier take seconds where a policy is large and a machine slow.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Arguments {
    /// The policy; what it includes and the catalogues beside it are taken along
    #[arg(value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    include_roots: IncludeRoots,
    /// Go back to the policy before, unless `enforcer confirm` comes within so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    confirm: Option<u32>,
    /// Change nothing: show the flows whose verdict would change, and what has passed by the rules that decide of them now
    #[arg(long, conflicts_with = "confirm")]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// What `--dry-run` finds.
#[derive(Serialize)]
struct DryRun {
    #[serde(flatten)]
    diff: Diff,
    traffic: Vec<Traffic>,
}

/// What a decision has been about so far, of which a part would be decided otherwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Traffic {
    policy: &'static str,
    #[serde(flatten)]
    decision: Decision,
    packets: u64,
    bytes: u64,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    // The controller is somewhere else.
    let (bundle, policy) = Bundle::load(&arguments.include_roots.disk(), &std::path::absolute(&arguments.policy)?)?;
    let socket = &arguments.socket.socket;
    if arguments.dry_run {
        compile::compile(&policy, &Limits::default(), control::seed())?;
        let (old, counters): (Bundle, Counters) = super::block_on(async {
            Ok((client::get(socket, "/v1/policy").await?, client::get(socket, "/v1/counters").await?))
        })?;
        let diff = Diff::new(&old.policy().context("the policy in force")?, &policy)?;
        let traffic = traffic(&diff, &counters);
        let changes = !diff.is_empty();
        if arguments.json {
            super::print_json(&DryRun { diff, traffic })?;
        } else {
            super::print(&format!("{diff}{}", traffic_text(&traffic)))?;
        }
        return Ok(if changes { ExitCode::from(super::CHANGED) } else { ExitCode::SUCCESS });
    }
    let apply = Apply { policy: bundle, confirm_seconds: arguments.confirm };
    tell(&ask(socket, "/v1/apply", &apply)?, arguments.json)
}

/// Asks for what changes which policy is in force, or stays.
pub fn ask(socket: &Path, path: &str, body: &impl Serialize) -> Result<Applied> {
    super::block_on(client::post_patiently(socket, path, body, PATIENCE)).map_err(|error| {
        match error.downcast_ref::<NoController>().filter(|reason| reason.was_asked()) {
            None => error,
            Some(reason) => {
                let unknown = format!(
                    "{reason}; whether that is done is not known: see `enforcer status` and `enforcer history`"
                );
                error.context(unknown)
            }
        }
    })
}

/// What has come of putting a policy in force.
pub fn tell(applied: &Applied, json: bool) -> Result<ExitCode> {
    if json {
        super::print_json(applied)?;
        return Ok(ExitCode::SUCCESS);
    }
    for warning in &applied.warnings {
        eprintln!("enforcer: {warning}");
    }
    let Applied { number, sha256, confirm_seconds, .. } = applied;
    let until = confirm_seconds.map_or_else(String::new, |seconds| {
        format!("; `enforcer confirm` within {seconds} s, or the policy before comes back")
    });
    super::print(&format!("policy {number} is in force (sha256 {sha256:.12}){until}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// By decisions that would change for some flows: what they have been about in all.
fn traffic(diff: &Diff, counters: &Counters) -> Vec<Traffic> {
    let mut decided: BTreeMap<(&'static str, &Decision), (u64, u64)> = BTreeMap::new();
    let flows = diff.flows.iter().map(|change| (change.policy, &change.old));
    let names = diff.names.iter().map(|change| (change.policy, &change.old));
    for (policy, decision) in flows.chain(names) {
        let pseudo = |name: &str| {
            let counter = counters.pseudo.iter().find(|counter| policy != "inbound" && counter.name == name);
            counter.map(|counter| (counter.packets, counter.bytes))
        };
        let count = match &decision.rule {
            Some(rule) => counters
                .rules
                .iter()
                .find(|counter| {
                    counter.policy == policy && counter.rule == *rule && counter.service == decision.service
                })
                .map(|counter| (counter.packets, counter.bytes))
                // What the portal denies is counted by itself.
                .or_else(|| pseudo(rule)),
            None => pseudo(if policy == "router" { "router-default" } else { "default" }),
        };
        // Inbound rules open flows, they count nothing.
        if let Some(count) = count {
            decided.insert((policy, decision), count);
        }
    }
    let of = |((policy, decision), (packets, bytes)): ((_, &Decision), _)| Traffic {
        policy,
        decision: decision.clone(),
        packets,
        bytes,
    };
    decided.into_iter().map(of).collect()
}

fn traffic_text(traffic: &[Traffic]) -> String {
    if traffic.is_empty() {
        return String::new();
    }
    let row = |Traffic { policy, decision, packets, bytes }: &Traffic| {
        vec![(*policy).to_owned(), decision.to_string(), packets.to_string(), units::bytes(*bytes)]
    };
    let mut rows = vec![["POLICY", "DECIDED NOW BY", "PACKETS", "BYTES"].map(str::to_owned).to_vec()];
    rows.extend(traffic.iter().map(row));
    format!("\nso far, of which a part would change:\n{}", super::table(&rows, &[2, 3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::{PseudoCounter, RuleCounter},
        catalog::Catalogs,
        policy::Policy,
    };

    #[test]
    fn a_dry_run_tells_what_the_rules_that_decide_now_have_counted() {
        let policy = |text: &str| Policy::parse("p", text, &Catalogs::default()).expect("a policy");
        let service = "[[service]]\nname = \"web\"\nto = [\"192.0.2.0/24\"]\nports = [\"tcp/443\"]\n";
        let rule = "[[rule]]\nname = \"staff\"\naction = \"allow\"\nservices = [\"web\"]\n";
        let old = policy(&format!("default = \"drop\"\n{service}{rule}"));
        let new = policy("default = \"drop\"\n");
        let rule = RuleCounter {
            policy: "lan".into(),
            rule: "staff".into(),
            service: Some("web".into()),
            action: "allow".into(),
            packets: 7,
            bytes: 700,
        };
        let other = RuleCounter { policy: "router".into(), packets: 1, ..rule.clone() };
        let pseudo = vec![PseudoCounter { name: "default".into(), action: "drop".into(), packets: 5, bytes: 50 }];
        let counters = Counters { rules: vec![other, rule], pseudo };
        let told = |old: &Policy, new: &Policy| {
            let traffic = traffic(&Diff::new(old, new).expect("small"), &counters);
            traffic.iter().map(|Traffic { packets, bytes, .. }| (*packets, *bytes)).collect::<Vec<_>>()
        };
        assert_eq!(told(&old, &new), [(7, 700)]);
        assert_eq!(told(&new, &old), [(5, 50)]);
        assert_eq!(told(&old, &old), []);
    }
}
