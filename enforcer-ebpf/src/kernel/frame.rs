//! Packet memory, between `data` and `data_end` of a program's context.

use core::{arch::asm, mem::offset_of};

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use bytemuck::Pod;

use crate::{
    bytes::{Bytes, Direct, Fields},
    headers::Fixed,
};

/// One load of a size, so many bytes behind an address of any alignment. In Rust a misaligned read must be made of bytes; the instruction
/// itself needs no alignment on packet memory: the verifier refuses it where the machine does. (LLVM's own option for misaligned
/// accesses makes such of the stack's as well, which the verifier always refuses.)
macro_rules! load_from {
    ($size:literal, $address:expr, $offset:expr) => {{
        let value: u64;
        asm!(
            concat!("{0} = *(", $size, " *)({1} + {2})"),
            out(reg) value,
            in(reg) $address,
            const $offset,
            options(pure, readonly, nostack, preserves_flags)
        );
        value
    }};
}

/// The directly readable part of a frame.
#[derive(Clone, Copy)]
pub struct Frame {
    data: usize,
    end: usize,
    length: usize,
}

impl Frame {
    /// The frame of an XDP program; `length` counts what further buffers hold, too.
    ///
    /// # Safety
    /// The context is the running program's own, and no helper that moves packet memory is called while the frame is in use.
    #[inline(always)]
    #[must_use]
    pub unsafe fn xdp(ctx: *mut xdp_md, length: Option<usize>) -> Self {
        const { assert!(offset_of!(xdp_md, data) == 0 && offset_of!(xdp_md, data_end) == 4) };
        // SAFETY: the caller's word; the fields are within the context.
        let (data, end) = unsafe { (field::<0>(ctx as usize), field::<4>(ctx as usize)) };
        Self { data, end, length: length.unwrap_or_else(|| distance(data, end)) }
    }

    /// The linear part of a TC program's packet.
    ///
    /// # Safety
    /// As [`Self::xdp`].
    #[inline(always)]
    #[must_use]
    pub unsafe fn skb(skb: *mut __sk_buff) -> Self {
        const { assert!(offset_of!(__sk_buff, data) == 76 && offset_of!(__sk_buff, data_end) == 80) };
        // SAFETY: the caller's word; the fields are within the context.
        unsafe { Self { data: field::<76>(skb as usize), end: field::<80>(skb as usize), length: (*skb).len as usize } }
    }

    /// Its bounds and its length, as arguments of a function.
    #[inline(always)]
    #[must_use]
    pub const fn parts(&self) -> (usize, usize, usize) {
        (self.data, self.end, self.length)
    }

    /// The frame that has these [`Self::parts`].
    ///
    /// # Safety
    /// They are such a frame's, in the same program, and packet memory was not moved.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn of_parts(data: usize, end: usize, length: usize) -> Self {
        Self { data, end, length }
    }

    /// Bytes that can be read.
    #[inline(always)]
    #[must_use]
    pub fn readable(&self) -> usize {
        distance(self.data, self.end)
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn size(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        // The verifier wants a bound on the offset before it is added to a packet pointer; no header lies this far out.
        if offset > 0x3fff {
            return None;
        }
        let start = advance(self.data, offset);
        if start + size_of::<T>() > self.end {
            return None;
        }
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        // Unrolled by hand: an offset within an instruction must be a literal. Loads of what is not looked at disappear.
        macro_rules! words {
            ($($at:literal)*) => {
                $(if size_of::<T>() >= $at + 4 {
                    bytes[$at..$at + 4].copy_from_slice(&load32::<$at>(start).to_ne_bytes());
                } else {
                    if size_of::<T>() >= $at + 2 {
                        bytes[$at..$at + 2].copy_from_slice(&load16::<$at>(start).to_ne_bytes());
                    }
                    if size_of::<T>() == $at + 1 {
                        bytes[$at] = load8::<$at>(start);
                    }
                })*
            };
        }
        const { assert!(size_of::<T>() <= 48 && size_of::<T>() % 4 != 3) };
        words!(0 4 8 12 16 20 24 28 32 36 40 44);
        Some(value)
    }
}

impl Direct for Frame {
    #[inline(always)]
    fn fields<const SIZE: usize>(&self) -> Option<impl Fields> {
        (self.data + SIZE <= self.end).then_some(First::<SIZE>(self.data))
    }
}

/// Where a frame begins that has so many bytes at least.
#[derive(Clone, Copy)]
struct First<const SIZE: usize>(usize);

macro_rules! fields {
    ($($name:ident, $value:ty, $size:literal;)*) => {
        $(#[inline(always)]
        fn $name<Behind: Fixed, const AT: usize>(self) -> $value {
            const { assert!(Behind::END + AT + size_of::<$value>() <= SIZE) };
            // SAFETY: within the bytes that are there; the load fills the register up with zeros.
            unsafe {
                let value = load_from!($size, self.0, Behind::END + AT);
                core::hint::assert_unchecked(value <= u64::from(<$value>::MAX));
                value as $value
            }
        })*
    };
}

impl<const SIZE: usize> Fields for First<SIZE> {
    fields! { byte, u8, "u8"; half, u16, "u16"; word, u32, "u32"; double, u64, "u64"; }
}

/// A bound of the packet, which a context holds in 32 bits. Loaded by hand: the compiler takes it for a number, and may save 32 bits of it on the
/// stack, where the verifier wants a whole pointer.
///
/// # Safety
/// The address is a program's context that has such a field.
#[inline(always)]
unsafe fn field<const OFFSET: i32>(ctx: usize) -> usize {
    let value: usize;
    // SAFETY: the caller's word.
    unsafe {
        asm!(
            "{0} = *(u32 *)({1} + {2})",
            out(reg) value,
            in(reg) ctx,
            const OFFSET,
            options(readonly, nostack, preserves_flags)
        );
    }
    value
}

/// Bytes between two bounds, by a 64-bit subtraction: the compiler would take a shorter one, which the verifier forbids for pointers.
#[inline(always)]
fn distance(start: usize, mut end: usize) -> usize {
    // SAFETY: a subtraction.
    unsafe { asm!("{0} -= {1}", inout(reg) end, in(reg) start, options(pure, nomem, nostack, preserves_flags)) };
    end
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
        #[inline(always)]
        fn $name<const AT: i32>(address: usize) -> $value {
            // SAFETY: the caller has checked the bounds, as the verifier checks again; the load has no other effect.
            (unsafe { load_from!($size, address, AT) }) as $value
        }
    };
}
load!(load8, u8, "u8");
load!(load16, u16, "u16");
load!(load32, u32, "u32");
