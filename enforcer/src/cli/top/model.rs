//! What `top` knows and how it is to be shown: no terminal, no clock.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    clients::Clients,
    traffic::{Kind, Line, Traffic},
};
use crate::api::types::{Counters, Events, Status};

/// What lines are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Bits,
    Packets,
    Total,
    Name,
}

/// What keys are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Watch,
    /// They are letters of the filter.
    Filter,
    Help,
}

/// What is told of the controller.
#[derive(Clone, Default)]
pub struct Head {
    pub policy: String,
    pub interfaces: String,
}

impl Head {
    pub fn of(status: &Status) -> Self {
        let mut interfaces: Vec<&str> = status.hooks.iter().map(|hook| hook.interface.as_str()).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        let policy = status.policy.rsplit('/').next().unwrap_or_default();
        Self { policy: format!("{policy} {:.12}", status.policy_sha256), interfaces: interfaces.join(" ") }
    }
}

#[derive(Clone, Default)]
pub struct Data {
    pub traffic: Traffic,
    pub clients: Clients,
    /// Events that were not told: more than a thousand a second on a CPU.
    pub lost: u64,
}

impl Data {
    pub fn events(&mut self, told: &Events) {
        told.events.iter().for_each(|event| self.clients.add(event));
        self.lost = told.lost;
    }
}

#[derive(Default)]
pub struct Model {
    pub head: Head,
    /// Why nothing comes from the controller.
    pub silent: Option<String>,
    pub kind: Kind,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    pub mode: Mode,
    /// The first line that is shown.
    pub offset: usize,
    live: Data,
    /// What is shown instead, while it is held.
    held: Option<Data>,
}

impl Model {
    /// Of a controller that has told nothing yet.
    pub fn of(head: Head) -> Self {
        Self { head, ..Self::default() }
    }

    /// Takes the counters at a time, in seconds since whenever.
    pub fn counters(&mut self, counters: &Counters, time: f64) {
        self.silent = None;
        self.live.traffic.take(counters, time);
    }

    pub fn events(&mut self, told: &Events) {
        self.live.events(told);
    }

    /// What is to be shown.
    pub fn data(&self) -> &Data {
        self.held.as_ref().unwrap_or(&self.live)
    }

    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Lines that the filter takes, in order.
    pub fn lines(&self) -> Vec<&Line> {
        let filter = self.filter.to_lowercase();
        let wanted = |line: &&Line| line.name.to_lowercase().contains(&filter) || line.action.contains(&filter);
        let mut lines: Vec<&Line> = self.data().traffic.lines(self.kind).filter(wanted).collect();
        // Equal lines keep their places from sample to sample.
        lines.sort_by(|a, b| {
            let order = match self.sort {
                Sort::Bits => b.rate.bits.total_cmp(&a.rate.bits),
                Sort::Packets => b.rate.packets.total_cmp(&a.rate.packets),
                Sort::Total => b.total.bytes.cmp(&a.total.bytes),
                Sort::Name => a.name.cmp(&b.name),
            };
            let order = if self.reversed { order.reverse() } else { order };
            order.then_with(|| (&a.name, &a.action).cmp(&(&b.name, &b.action)))
        });
        lines
    }

    /// Does what a key is for. Gives whether to go on.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return key.code != KeyCode::Char('c');
        }
        match self.mode {
            Mode::Filter => self.letter(key.code),
            Mode::Help => self.mode = Mode::Watch,
            Mode::Watch => return self.command(key.code),
        }
        true
    }

    fn letter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Watch,
            KeyCode::Esc => (self.mode, self.filter) = (Mode::Watch, String::new()),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.offset = 0;
    }

    fn command(&mut self, code: KeyCode) -> bool {
        let last = self.lines().len().saturating_sub(1);
        match code {
            KeyCode::Char('q') => return false,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char(' ') => {
                self.held = if self.is_held() { None } else { Some(self.live.clone()) };
            }
            KeyCode::Char('b') => self.by(Sort::Bits),
            KeyCode::Char('p') => self.by(Sort::Packets),
            KeyCode::Char('t') => self.by(Sort::Total),
            KeyCode::Char('n') => self.by(Sort::Name),
            KeyCode::Tab => {
                self.kind = if self.kind == Kind::Service { Kind::Rule } else { Kind::Service };
                self.offset = 0;
            }
            KeyCode::Esc => (self.filter, self.offset) = (String::new(), 0),
            KeyCode::Down => self.offset = (self.offset + 1).min(last),
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageDown => self.offset = (self.offset + 10).min(last),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(10),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.offset = last,
            _ => {}
        }
        true
    }

    /// The same again turns the order round.
    fn by(&mut self, sort: Sort) {
        (self.sort, self.reversed) = (sort, self.sort == sort && !self.reversed);
    }
}
