//! Numbers that the compiler is to know nothing of.

/// The same number. The compiler forgets what it knew of it: where the verifier has to see a bound, the
/// instruction that gives it must not be found needless; and where it has to see that two pointers are
/// one, they must not be computed apart.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn opaque(mut number: usize) -> usize {
    // SAFETY: the register keeps what it holds, and no memory is touched.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
pub const fn opaque(number: usize) -> usize {
    number
}
