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

/// The value of the longest prefix of a word, as it stands in memory.
#[inline(always)]
pub fn get_word<T>(trie: &LpmTrie<[u8; 8], T>, word: u64) -> Option<&T> {
    let aligned = AlignedWord {
        padding: 0,
        prefix_bits: 64,
        word,
    };
    // SAFETY: from the prefix on, the struct has the bytes of a key of the trie.
    let key = unsafe { &*(&raw const aligned.prefix_bits).cast::<Key<[u8; 8]>>() };
    trie.get(key)
}

/// The value of the longest prefix of a number and an IPv6 address.
#[inline(always)]
pub fn get_numbered6<T>(trie: &LpmTrie<[u8; 20], T>, number: u32, address: [u64; 2]) -> Option<&T> {
    let aligned = Numbered {
        prefix_bits: 160,
        number,
        address,
    };
    // SAFETY: the struct has the bytes of a key of the trie.
    let key = unsafe { &*(&raw const aligned).cast::<Key<[u8; 20]>>() };
    trie.get(key)
}

/// A key of a trie after four bytes that align its word.
#[repr(C, align(8))]
struct AlignedWord {
    padding: u32,
    prefix_bits: u32,
    word: u64,
}

/// A key whose number aligns its address.
#[repr(C, align(8))]
struct Numbered {
    prefix_bits: u32,
    number: u32,
    address: [u64; 2],
}

/// A key of a trie after four bytes that align its address, since the verifier wants aligned writes
/// of the stack.
#[repr(C, align(8))]
struct AlignedKey {
    padding: u32,
    prefix_bits: u32,
    address: [u64; 2],
}
