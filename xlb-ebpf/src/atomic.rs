//! The atomic access that Rust does not offer for this target.

/// Stores `new` where `old` stands. Written in assembly, since Rust's atomics have no
/// compare-and-exchange for this target, although the machine has (BPF v3).
///
/// # Safety
///
/// `word` is mapped.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn exchange(word: *mut u64, old: u64, new: u64) {
    // SAFETY: one atomic access of a word that the caller says is mapped.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => _,
        );
    }
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn exchange(word: *mut u64, _old: u64, new: u64) {
    // SAFETY: the caller says that the word is mapped.
    unsafe { word.write_volatile(new) };
}
