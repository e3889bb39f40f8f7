//! `enforcer events`.

use std::{future, io, process::ExitCode};

use anyhow::Result;
use form_urlencoded::byte_serialize;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Socket,
    style::{self, painted},
};
use crate::api::{
    client,
    types::{Event, Events},
};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Go on with others as they come
    #[arg(long)]
    follow: bool,
    /// Only those of a service, such as apple/apns
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Print JSON, an event a line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let socket = &arguments.socket.socket;
    let query = match &arguments.service {
        Some(name) => format!("?service={}", byte_serialize(name.as_bytes()).collect::<String>()),
        None => String::new(),
    };
    // What was lost is told once for each time that it has grown.
    let mut known = 0;
    let mut show = |told: &Events| -> Result<()> {
        if arguments.json {
            told.events.iter().try_for_each(super::print_json)?;
        } else {
            super::print(&told.events.iter().map(line).collect::<String>())?;
        }
        if told.lost > known {
            eprintln!("enforcer: {} events were not told since the start", told.lost);
            known = told.lost;
        }
        if told.behind > 0 {
            eprintln!("enforcer: {} events were not told here, as they come faster than they are read", told.behind);
        }
        Ok(())
    };
    if arguments.follow {
        let path = format!("/v1/events/stream{query}");
        super::block_on(async {
            tokio::select! {
                ended = client::stream(socket, &path, |events: Events| show(&events).map(|()| true)) => ended,
                // The next event, which would tell, may be hours away.
                () = no_reader() => Ok(()),
            }
        })?;
    } else {
        show(&super::block_on(client::get(socket, &format!("/v1/events{query}")))?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until nobody reads what is printed any more, as behind `head`.
async fn no_reader() {
    // SAFETY: the descriptor of standard output is open, and is the same, as long as the process lives: nothing here closes or replaces it.
    match unsafe { AsyncFd::register_with_interest(io::stdout(), Interest::ERROR) } {
        Ok(out) => drop(out.ready(Interest::ERROR).await),
        // A file, which is always there.
        Err(_) => future::pending().await,
    }
}

/// An event with its time, the action set off.
fn line(event: &Event) -> String {
    let text = event.to_string();
    let rest = text.strip_prefix(&event.action).unwrap_or(&text);
    format!(
        "{}  {}{rest}\n",
        painted(style::FAINT, &event.time),
        painted(style::of_action(&event.action), &event.action)
    )
}
