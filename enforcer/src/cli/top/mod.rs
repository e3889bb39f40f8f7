//! `enforcer top`: the terminal, and what comes from the controller.

mod clients;
mod json;
mod model;
#[cfg(test)]
mod tests;
mod traffic;
mod view;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use ratatui::crossterm::event::{self, Event as Input, KeyEventKind};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time,
};

use super::Socket;
use crate::api::{
    client,
    types::{Counters, Events, Status},
};
use model::{Head, Model};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    socket: Socket,
    /// Print JSON, a line each second, in place of the screen
    #[arg(long)]
    json: bool,
}

/// Before the controller is asked again, when it has stopped.
const PAUSE: Duration = Duration::from_secs(1);

/// What comes in.
enum News {
    Input(Input),
    Head(Head),
    Counters(Counters),
    Events(Events),
    Silent(String),
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.json {
        super::block_on(json::follow(&arguments.socket.socket))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!("top needs a terminal; `enforcer top --json` tells the same without one");
    }
    super::block_on(async {
        let socket = &arguments.socket.socket;
        // A controller that is not there is told before the screen is taken.
        let head = Head::of(&client::get::<Status>(socket, "/v1/status").await?);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (sender, news) = mpsc::channel(256);
        let keys = sender.clone();
        // Restores the terminal on a panic, too.
        let mut terminal = ratatui::try_init()?;
        // It waits for the next key for good, and ends with the process.
        thread::spawn(move || {
            while let Ok(input) = event::read() {
                if keys.blocking_send(News::Input(input)).is_err() {
                    break;
                }
            }
        });
        let model = Model::of(head);
        let result = tokio::select! {
            result = show(&mut terminal, model, news) => result,
            () = ask(socket, &sender) => Ok(()),
            _ = terminate.recv() => Ok(()),
            _ = hangup.recv() => Ok(()),
        };
        ratatui::restore();
        result.map(|()| ExitCode::SUCCESS)
    })
}

/// Shows what comes in until a key ends it.
async fn show(terminal: &mut ratatui::DefaultTerminal, mut model: Model, mut news: mpsc::Receiver<News>) -> Result<()> {
    let start = Instant::now();
    loop {
        terminal.draw(|frame| view::draw(frame, &model))?;
        let Some(first) = news.recv().await else { return Ok(()) };
        let mut next = Some(first);
        // What else is there already is shown together with it.
        while let Some(item) = next {
            match item {
                News::Input(Input::Key(key)) if key.kind != KeyEventKind::Release => {
                    if !model.key(key) {
                        return Ok(());
                    }
                }
                News::Input(_) => {}
                News::Head(head) => model.head = head,
                News::Counters(counters) => model.counters(&counters, start.elapsed().as_secs_f64()),
                News::Events(told) => model.events(&told),
                News::Silent(why) => model.silent = Some(why),
            }
            next = news.try_recv().ok();
        }
    }
}

/// Asks the controller for everything, again whenever it has stopped.
async fn ask(socket: &Path, sender: &mpsc::Sender<News>) {
    loop {
        // What finds no room is of a moment that is over: the next sample comes.
        let counters = client::stream(socket, "/v1/counters/stream", |counters| {
            let _ = sender.try_send(News::Counters(counters));
            Ok(true)
        });
        let events = client::stream(socket, "/v1/events/stream", |events| {
            let _ = sender.try_send(News::Events(events));
            Ok(true)
        });
        let Err(error) = tokio::try_join!(counters, events) else { return };
        let _ = sender.send(News::Silent(format!("{error}; asking again"))).await;
        time::sleep(PAUSE).await;
        if let Ok(status) = client::get::<Status>(socket, "/v1/status").await {
            let _ = sender.send(News::Head(Head::of(&status))).await;
        }
    }
}
