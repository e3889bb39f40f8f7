//! A packet's bytes, wherever they are.

use bytemuck::Pod;

/// Bounded reads of a frame.
pub trait Bytes {
    /// Length of the whole frame. May exceed what can be read (multi-buffer frames, super-packets).
    fn size(&self) -> usize;
    /// The value at a byte offset, as the frame has it (network byte order, any alignment); `None` beyond the readable part.
    fn read<T: Pod>(&self, offset: usize) -> Option<T>;
}

impl Bytes for &[u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        self.get(offset..offset.checked_add(size_of::<T>())?).map(bytemuck::pod_read_unaligned)
    }
}
