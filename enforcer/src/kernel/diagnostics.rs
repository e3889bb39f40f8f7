//! What the kernel's programs say of rare packets, where somebody asked for it.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use aya::Ebpf;
use aya_log::EbpfLogger;
use enforcer_ebpf::parse::Malformed;
use log::{Log, Metadata, Record};

use super::KernelError;

/// How often messages are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Messages told in a second.
const LINES: u32 = 20;

/// The programs' messages, still in the ring buffer.
pub struct Diagnostics(EbpfLogger<Lines>);

impl Diagnostics {
    /// Of an object that was loaded with its log calls in.
    ///
    /// # Errors
    /// If there is no such ring buffer.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        EbpfLogger::init_with_logger(ebpf, Lines::default())
            .map(Self)
            .map_err(|source| KernelError::Log(Box::new(source)))
    }

    /// Prints messages for as long as they are wanted, a few a second; what is more is counted.
    pub fn follow(mut self, wanted: impl Fn() -> bool) {
        while wanted() {
            self.0.flush();
            thread::sleep(INTERVAL);
        }
    }
}

/// Messages in the log, so many a second.
#[derive(Default)]
struct Lines(Mutex<Budget>);

#[derive(Default)]
struct Budget {
    second: Option<Instant>,
    printed: u32,
    untold: u64,
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Ok(mut budget) = self.0.lock() else { return };
        if budget.second.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            if budget.untold > 0 {
                tracing::info!("kernel: {} more malformed frames", budget.untold);
            }
            *budget = Budget { second: Some(Instant::now()), ..Budget::default() };
        }
        if budget.printed == LINES {
            budget.untold += 1;
            return;
        }
        budget.printed += 1;
        // The programs say a number: what points at a text cannot be relocated in them.
        let number = record.args().to_string();
        let reason = number.parse().ok().and_then(Malformed::explain).unwrap_or(&number);
        tracing::info!("kernel: malformed frame: {reason}");
    }

    fn flush(&self) {}
}
