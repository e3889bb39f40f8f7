//! Packet memory, between `data` and `data_end` of a program's context.

use bytemuck::Pod;

use crate::bytes::Bytes;

/// The directly readable part of a frame.
#[derive(Clone, Copy)]
pub struct Frame {
    data: usize,
    end: usize,
    length: u32,
}

impl Frame {
    /// A frame from its context's bounds and its whole length.
    ///
    /// # Safety
    /// `data..end` is memory of the packet that the program was called with, and no helper that moves packet memory is called while
    /// the frame is in use.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(data: usize, end: usize, length: u32) -> Self {
        Self { data, end, length }
    }

    /// Bytes that can be read.
    #[inline(always)]
    #[must_use]
    pub const fn readable(&self) -> u32 {
        (self.end - self.data) as u32
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn size(&self) -> u32 {
        self.length
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: u32) -> Option<T> {
        // The verifier wants a bound on the offset before it is added to a packet pointer; no header lies this far out.
        if offset > 0x3fff {
            return None;
        }
        let start = self.data + offset as usize;
        if start + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the bytes are within the packet as just checked, packet memory outlives the program's run, and any bytes are a valid `Pod`.
        Some(unsafe { core::ptr::read_unaligned(start as *const T) })
    }
}
