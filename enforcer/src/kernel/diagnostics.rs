//! What the kernel's programs say of rare packets, where somebody asked for it.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;
use enforcer_ebpf::parse::Malformed;
use log::{Log, Metadata, Record};
use tokio::time;

use super::KernelError;

/// How often messages are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// The programs' messages, still in the ring buffer.
pub struct Diagnostics(EbpfLogger<StandardError>);

impl Diagnostics {
    /// Of an object that was loaded with its log calls in.
    ///
    /// # Errors
    /// If there is no such ring buffer.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        EbpfLogger::init_with_logger(ebpf, StandardError).map(Self).map_err(|source| KernelError::Log(Box::new(source)))
    }

    /// Prints messages, as fast as a person reads.
    pub async fn follow(mut self) {
        let mut interval = time::interval(INTERVAL);
        loop {
            interval.tick().await;
            self.0.flush();
        }
    }
}

/// A line per message.
struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // The programs say a number: what points at a text cannot be relocated in them.
        let number = record.args().to_string();
        let reason = number.parse().ok().and_then(Malformed::explain).unwrap_or(&number);
        eprintln!("kernel: malformed frame: {reason}");
    }

    fn flush(&self) {}
}
