//! The atomic accesses that Rust does not offer for this target, although the machine has them (BPF
//! v3). Written in assembly.

/// Stores `new` where `old` stands; whether it did.
///
/// # Safety
///
/// `word` is mapped.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    let found: u64;
    // SAFETY: one atomic access of a word that the caller says is mapped.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => found,
        );
    }
    found == old
}

/// Adds to a word, and gives what it was.
///
/// # Safety
///
/// `word` is mapped.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u64, summand: u64) -> u64 {
    let mut result = summand;
    // SAFETY: one atomic access of a word that the caller says is mapped.
    unsafe {
        core::arch::asm!(
            "{result} = atomic_fetch_add((u64 *)({word} + 0), {result})",
            word = in(reg) word,
            result = inlateout(reg) result,
        );
    }
    result
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller says that the word is mapped.
    unsafe {
        let found = word.read_volatile();
        word.write_volatile(new);
        found == old
    }
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
pub unsafe fn fetch_add(word: *mut u64, summand: u64) -> u64 {
    // SAFETY: the caller says that the word is mapped.
    unsafe {
        let old = word.read_volatile();
        word.write_volatile(old.wrapping_add(summand));
        old
    }
}
