//! What differs between IPv4 and IPv6, as the outer and as the inner header.

mod v4;
mod v6;

pub use v4::V4;
pub use v6::V6;
use xlb_common::{decap::Reason, maps::protocol};
use xlb_ebpf::frame::Frame;

use crate::Outer;

/// Offset of the outer header.
const OUTER: usize = size_of::<xlb_common::wire::EthernetHeader>();

/// An address family.
pub trait Family: Sized {
    /// An address, as it stands in memory.
    type Address: Copy;
    /// EtherType, in network byte order.
    const ETHER_TYPE_BE: u16;
    /// Offset of what an outer header carries.
    const END: usize;

    /// Parses the outer header of a frame.
    ///
    /// # Errors
    ///
    /// Says why it is not one of a balancer's.
    fn outer(frame: &Frame<'_>) -> Result<Outer, Reason>;
    /// Parses the header at `offset`, within an outer one.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    fn inner(frame: &Frame<'_>, offset: usize) -> Result<Inner<Self>, Reason>;
    /// Whether an address is one of the VIPs.
    fn is_vip(address: Self::Address) -> bool;
    /// Sets the ECN field of the header at `offset`.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn set_ecn(frame: &mut Frame<'_>, offset: usize, ecn: u8) -> Result<(), Reason>;
}

/// The header of an encapsulated packet.
pub struct Inner<F: Family> {
    /// Destination address.
    pub destination: F::Address,
    /// Bytes of header and payload.
    pub bytes: usize,
    /// The ECN field.
    pub ecn: u8,
}

/// Whether a protocol number is that of an IP packet.
#[inline(always)]
const fn is_ip(number: u8) -> bool {
    number == protocol::IPV4 || number == protocol::IPV6
}
