//! A packet's bytes, wherever they are.

use bytemuck::Pod;

/// Bounded reads of a frame.
pub trait Bytes {
    /// Length of the whole frame. May exceed what can be read (multi-buffer frames, super-packets).
    fn size(&self) -> u32;
    /// The value at a byte offset, as the frame has it (network byte order, any alignment); `None` beyond the readable part.
    fn read<T: Pod>(&self, offset: u32) -> Option<T>;
}

impl Bytes for &[u8] {
    fn size(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn read<T: Pod>(&self, offset: u32) -> Option<T> {
        let start = offset as usize;
        self.get(start..start.checked_add(size_of::<T>())?).map(bytemuck::pod_read_unaligned)
    }
}
