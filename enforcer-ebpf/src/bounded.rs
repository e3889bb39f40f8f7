//! Telling the verifier less, so that it has fewer states to tell apart.

/// `value & MASK`, opaque to the compiler.
///
/// The verifier follows every path with what it learned on it. Where paths meet again (a loop's next round, the end of the parser) values that
/// differ only in what is known of them keep the paths apart, and their number multiplies. A mask that no real value exceeds makes
/// them equal; the compiler would remove a plain one.
///
/// And the verifier of Linux 6.1 forgets what it knew of a value at a byte swap, and at an OR with what it does not know: an index that is made so
/// is bounded right before its use.
#[inline(always)]
#[must_use]
pub fn bounded<const MASK: usize>(mut value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        // SAFETY: arithmetic only.
        unsafe {
            core::arch::asm!(
                "{0} &= {1}", inout(reg) value, const MASK as i32, options(pure, nomem, nostack, preserves_flags)
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value &= MASK;
        value
    }
}
