//! A sign of life on standard error, while something takes longer than people wait for without one.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What takes less is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two steps of the spinner.
const STEP: Duration = Duration::from_millis(120);
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// Shown until it is dropped; nothing where standard error is no terminal.
pub struct Progress {
    /// Dropping it wakes the thread.
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Says what is being done, once it has taken a second.
    pub fn of(what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { end: None, thread: None };
        }
        let (end, ended) = mpsc::channel();
        Self { end: Some(end), thread: Some(thread::spawn(move || show(what, &ended))) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn show(what: &str, ended: &mpsc::Receiver<()>) {
    let start = Instant::now();
    let mut pause = PATIENCE;
    let mut shown = false;
    for step in SPINNER.iter().cycle() {
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        // A terminal that is gone is no reason to stop working.
        let _ = write!(io::stderr(), "\r\x1b[K{step} {what} ({} s)", start.elapsed().as_secs());
        (pause, shown) = (STEP, true);
    }
    if shown {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}
