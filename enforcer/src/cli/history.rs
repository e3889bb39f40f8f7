//! `enforcer history`, `confirm` and `rollback`.

use std::process::ExitCode;

use anyhow::Result;

use super::{Socket, apply};
use crate::api::{
    client,
    policies::{History, HistoryEntry, Rollback},
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(clap::Args)]
pub struct RollbackArguments {
    /// A policy's number, as `enforcer history` shows it [default: the confirmed one before the one in force]
    #[arg(value_name = "NUMBER")]
    to: Option<u32>,
    #[command(flatten)]
    common: Arguments,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let history: History = super::block_on(client::get(&arguments.socket.socket, "/v1/history"))?;
    if arguments.json {
        super::print_json(&history)?;
    } else {
        super::print(&render(&history))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn confirm(arguments: &Arguments) -> Result<ExitCode> {
    apply::tell(&apply::ask(&arguments.socket.socket, "/v1/confirm", &())?, arguments.json)
}

pub fn roll_back(RollbackArguments { to, common }: &RollbackArguments) -> Result<ExitCode> {
    apply::tell(&apply::ask(&common.socket.socket, "/v1/rollback", &Rollback { to: *to })?, common.json)
}

fn render(History { policies, in_force, confirmed }: &History) -> String {
    let mut rows = vec![["", "NUMBER", "TIME", "WHY", "SHA-256", "POLICY"].map(str::to_owned).to_vec()];
    rows.extend(policies.iter().map(|HistoryEntry { number, time, policy, sha256, reason, confirmed: stayed }| {
        let mark = match (Some(*number) == *in_force, Some(*number) == *confirmed, *stayed) {
            (true, true, _) => "in force",
            (true, false, _) => "in force, not confirmed",
            (false, true, _) => "after a restart",
            (false, false, false) => "never confirmed",
            (false, false, true) => "",
        };
        vec![
            mark.to_owned(),
            number.to_string(),
            time.chars().take("2026-01-01T00:00:00".len()).collect(),
            reason.to_string(),
            format!("{sha256:.12}"),
            policy.clone(),
        ]
    }));
    super::table(&rows, &[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::policies::Reason;

    #[test]
    fn the_history_marks_what_is_in_force_and_what_a_restart_goes_on_with() {
        let entry = |number, reason| HistoryEntry {
            number,
            time: "2026-01-02T03:04:05.678Z".into(),
            policy: "/etc/p.toml".into(),
            sha256: "0123456789abcdef".into(),
            reason,
            confirmed: number < 3,
        };
        let policies = vec![entry(1, Reason::Started), entry(2, Reason::Applied), entry(3, Reason::Applied)];
        let text = render(&History { policies, in_force: Some(2), confirmed: Some(1) });
        assert_eq!(
            text,
            "                         NUMBER  TIME                 WHY      SHA-256       POLICY\n\
             after a restart               1  2026-01-02T03:04:05  started  0123456789ab  /etc/p.toml\n\
             in force, not confirmed       2  2026-01-02T03:04:05  applied  0123456789ab  /etc/p.toml\n\
             never confirmed               3  2026-01-02T03:04:05  applied  0123456789ab  /etc/p.toml\n"
        );
    }
}
