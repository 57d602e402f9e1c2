//! What the balancer's program and the decapsulation program of backends share.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod frame;
pub mod lpm;
pub mod opaque;
pub mod tunnel;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never reached: `cargo xtask build` rejects a program that could panic.
    unsafe { core::hint::unreachable_unchecked() }
}
