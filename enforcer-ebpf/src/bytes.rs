//! A packet's bytes, wherever they are.

use bytemuck::Pod;

use crate::headers::Fixed;

/// Bounded reads of a frame.
pub trait Bytes {
    /// Length of the whole frame. May exceed what can be read (multi-buffer frames, super-packets).
    fn size(&self) -> usize;
    /// The value at a byte offset, as the frame has it (network byte order, any alignment); `None` beyond the readable part.
    fn read<T: Pod>(&self, offset: usize) -> Option<T>;
}

/// A frame whose bytes are in memory.
pub trait Direct: Bytes {
    /// Its first bytes, if so many can be read.
    fn fields<const SIZE: usize>(&self) -> Option<impl Fields>;
}

/// The first bytes of a frame, whose bound was checked once. A field is named by the header in front of it and its offset behind that; one beyond the bound does not compile, or
/// panics where bytes are a slice.
pub trait Fields: Copy {
    /// A byte.
    fn byte<Behind: Fixed, const AT: usize>(self) -> u8;
    /// 16 bits, as the frame has them (network byte order).
    fn half<Behind: Fixed, const AT: usize>(self) -> u16;
    /// 32 bits, likewise.
    fn word<Behind: Fixed, const AT: usize>(self) -> u32;
    /// 64 bits, likewise.
    fn double<Behind: Fixed, const AT: usize>(self) -> u64;
}

impl Bytes for &[u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        self.get(offset..offset.checked_add(size_of::<T>())?).map(bytemuck::pod_read_unaligned)
    }
}

impl Direct for &[u8] {
    fn fields<const SIZE: usize>(&self) -> Option<impl Fields> {
        self.get(..SIZE)
    }
}

impl Fields for &[u8] {
    fn byte<Behind: Fixed, const AT: usize>(self) -> u8 {
        self[Behind::END + AT]
    }

    fn half<Behind: Fixed, const AT: usize>(self) -> u16 {
        bytemuck::pod_read_unaligned(&self[Behind::END + AT..][..2])
    }

    fn word<Behind: Fixed, const AT: usize>(self) -> u32 {
        bytemuck::pod_read_unaligned(&self[Behind::END + AT..][..4])
    }

    fn double<Behind: Fixed, const AT: usize>(self) -> u64 {
        bytemuck::pod_read_unaligned(&self[Behind::END + AT..][..8])
    }
}
