//! Ring buffers: what the kernel's programs hand over as it happens.

use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

use super::KernelError;

/// Records handed over at a time, then others have their turn.
const BATCH: usize = 256;

/// What is counted beside the records is looked at that often where none come.
const QUIET: Duration = Duration::from_secs(1);

/// Hands over for good what `read` makes of records, as they come, some at a time; none each second in which none come.
///
/// # Errors
/// If the ring buffer cannot be waited for.
pub(super) async fn follow<T>(
    ring: RingBuf<MapData>,
    read: impl Fn(&[u8]) -> Option<T>,
    mut take: impl FnMut(&[T]),
) -> Result<(), KernelError> {
    // SAFETY: the ring buffer owns its descriptor and is owned by what is made here.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.map_err(|refused| KernelError::Ring(refused.into()))?;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let Ok(ready) = time::timeout(QUIET, ring.readable_mut()).await else {
            take(&[]);
            continue;
        };
        let mut ready = ready.map_err(KernelError::Ring)?;
        while batch.len() < BATCH
            && let Some(bytes) = ready.get_inner_mut().next()
        {
            batch.extend(read(&bytes));
        }
        if batch.len() < BATCH {
            ready.clear_ready();
        }
        take(&batch);
        batch.clear();
        tokio::task::yield_now().await;
    }
}
