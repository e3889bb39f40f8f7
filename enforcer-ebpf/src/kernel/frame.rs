//! Packet memory, between `data` and `data_end` of a program's context.

use core::arch::asm;

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
        let start = advance(self.data, offset as usize);
        if start + size_of::<T>() > self.end {
            return None;
        }
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let mut at = 0;
        while at + 4 <= size_of::<T>() {
            bytes[at..at + 4].copy_from_slice(&load32(start + at).to_ne_bytes());
            at += 4;
        }
        while at + 2 <= size_of::<T>() {
            bytes[at..at + 2].copy_from_slice(&load16(start + at).to_ne_bytes());
            at += 2;
        }
        if at < size_of::<T>() {
            bytes[at] = load8(start + at);
        }
        Some(value)
    }
}

/// The sum, in a register that the compiler cannot compute anew: the verifier ties the bounds check to the very register that was
/// checked.
#[inline(always)]
fn advance(mut address: usize, offset: usize) -> usize {
    // SAFETY: an addition.
    unsafe { asm!("{0} += {1}", inout(reg) address, in(reg) offset, options(pure, nomem, nostack, preserves_flags)) };
    address
}

macro_rules! load {
    ($name:ident, $value:ty, $size:literal) => {
        /// One load of this size at any alignment. In Rust a misaligned read must be made of bytes; the instruction itself needs no
        /// alignment on packet memory: the verifier refuses it where the machine does.
        #[inline(always)]
        fn $name(address: usize) -> $value {
            let value: u64;
            // SAFETY: the caller has checked the bounds, as the verifier checks again; the load has no other effect.
            unsafe {
                asm!(
                    concat!("{0} = *(", $size, " *)({1} + 0)"),
                    out(reg) value,
                    in(reg) address,
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
            value as $value
        }
    };
}
load!(load8, u8, "u8");
load!(load16, u16, "u16");
load!(load32, u32, "u32");
