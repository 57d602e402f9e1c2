//! Lookups of addresses in tries of prefixes.

use aya_ebpf::maps::{LpmTrie, lpm_trie::Key};

/// The value of the longest prefix of an IPv4 address.
#[inline(always)]
pub fn get4<T>(trie: &LpmTrie<[u8; 4], T>, address: u32) -> Option<&T> {
    trie.get(Key::new(32, address.to_ne_bytes()))
}

/// The value of the longest prefix of an IPv6 address.
#[inline(always)]
pub fn get6<T>(trie: &LpmTrie<[u8; 16], T>, address: [u64; 2]) -> Option<&T> {
    let aligned = AlignedKey {
        padding: 0,
        prefix_bits: 128,
        address,
    };
    // SAFETY: from the prefix on, the struct has the bytes of a key of the trie.
    let key = unsafe { &*(&raw const aligned.prefix_bits).cast::<Key<[u8; 16]>>() };
    trie.get(key)
}

/// A key of a trie after four bytes that align its address, since the verifier wants aligned writes
/// of the stack.
#[repr(C, align(8))]
struct AlignedKey {
    padding: u32,
    prefix_bits: u32,
    address: [u64; 2],
}
