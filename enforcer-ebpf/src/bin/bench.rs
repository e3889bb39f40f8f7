//! Programs that the benchmark times.
#![no_std]
#![no_main]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing here can panic.
    unsafe { core::hint::unreachable_unchecked() }
}
