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
