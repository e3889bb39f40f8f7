//! `enforcer admit`, `expel` and `clients`.

use std::process::ExitCode;

use anyhow::Result;
use jiff::{Span, SpanRelativeTo};

use super::{Socket, units};
use crate::{
    api::{
        client,
        types::{Admit, AdmittedClient, Clients, Expel, YEAR},
    },
    clients::Client,
};

#[derive(clap::Args)]
pub struct AdmitArguments {
    /// An address, a prefix, or a MAC such as 02:00:5e:10:00:01
    #[arg(value_name = "CLIENT")]
    client: Client,
    /// For how long from now on, such as 30m, 8h or 7d
    #[arg(long = "for", value_name = "TIME", default_value = "8h", value_parser = seconds)]
    seconds: u32,
    #[command(flatten)]
    common: Arguments,
}

#[derive(clap::Args)]
pub struct ExpelArguments {
    /// An address, a prefix, or a MAC, as it was admitted
    #[arg(value_name = "CLIENT")]
    client: Client,
    #[command(flatten)]
    socket: Socket,
}

#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// A time in days, hours, minutes and seconds.
fn seconds(word: &str) -> Result<u32, String> {
    let wrong = || format!("it is 1 s to {} days, such as 30m, 8h or 7d", YEAR / 86_400);
    let span: Span = word.parse().map_err(|_| wrong())?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    u32::try_from(time.as_secs()).ok().filter(|seconds| (1..=YEAR).contains(seconds)).ok_or_else(wrong)
}

pub fn admit(AdmitArguments { client, seconds, common }: &AdmitArguments) -> Result<ExitCode> {
    let sent = Admit { client: client.to_string(), seconds: *seconds };
    let admitted: AdmittedClient = super::block_on(client::post(&common.socket.socket, "/v1/admit", &sent))?;
    if common.json {
        super::print_json(&admitted)?;
    } else {
        super::print(&format!("{} is admitted until {}\n", admitted.client, admitted.until))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn expel(ExpelArguments { client, socket }: &ExpelArguments) -> Result<ExitCode> {
    let sent = Expel { client: client.to_string() };
    super::block_on(client::post::<()>(&socket.socket, "/v1/expel", &sent))?;
    super::print(&format!("{client} is expelled\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let clients: Clients = super::block_on(client::get(&arguments.socket.socket, "/v1/clients"))?;
    if arguments.json {
        super::print_json(&clients)?;
    } else {
        super::print(&render(&clients))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(Clients { clients, .. }: &Clients) -> String {
    let mut rows = vec![["CLIENT", "UNTIL", "LEFT"].map(str::to_owned).to_vec()];
    rows.extend(clients.iter().map(|AdmittedClient { client, until, seconds_left }| {
        vec![client.clone(), until.clone(), units::duration(*seconds_left)]
    }));
    super::table(&rows, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_units() {
        for (word, wanted) in
            [("90s", 90), ("30m", 1800), ("8h", 28_800), ("7d", 604_800), ("1h 30m", 5400), ("365d", YEAR)]
        {
            assert_eq!(seconds(word), Ok(wanted), "{word}");
        }
        for word in ["", "8", "0s", "-1h", "366d", "8 hrz", "99999999999999999999s", "1 month"] {
            seconds(word).expect_err(word);
        }
    }

    #[test]
    fn clients_are_a_table() {
        let clients = ["10.1.0.0/24", "02:00:5e:10:00:01"].map(|client| AdmittedClient {
            client: client.into(),
            until: "2026-11-25T12:00:00Z".into(),
            seconds_left: 3700,
        });
        assert_eq!(
            render(&Clients { clients: clients.into(), capacity: 65_536 }),
            "CLIENT             UNTIL                 LEFT\n\
             10.1.0.0/24        2026-11-25T12:00:00Z  1 h 1 min\n\
             02:00:5e:10:00:01  2026-11-25T12:00:00Z  1 h 1 min\n"
        );
    }
}
