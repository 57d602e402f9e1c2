//! Packet headers as they stand on the wire: packed, so that they may be read at any offset.
//! Fields named `_be` are in network byte order.

mod ethernet;
mod icmp;
mod ip;
mod transport;

pub use ethernet::*;
pub use icmp::*;
pub use ip::*;
pub use transport::*;

/// A header: plain bytes that any bit pattern is a value of.
///
/// # Safety
///
/// The type has an alignment of one, no padding, and no invalid bit patterns.
pub unsafe trait Header: Copy {}

// SAFETY: a byte.
unsafe impl Header for u8 {}

/// Sixteen bits of a header, as they stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Half(pub u16);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Half {}

/// 32 bits of a header, as they stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Word(pub u32);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Word {}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bytes<const N: usize>(pub [u8; N]);

// SAFETY: bytes: alignment of one, no padding, every bit pattern is valid.
unsafe impl<const N: usize> Header for Bytes<N> {}
