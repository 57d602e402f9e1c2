//! What differs between IPv4 and IPv6, as the outer and as the inner header.

mod v4;
mod v6;

pub use v4::V4;
pub use v6::V6;
use xlb_common::{
    decap::{Hop, Reason},
    maps::protocol,
    wire::{Header, TcpHeader},
};
use xlb_ebpf::frame::Frame;

use crate::Outer;

/// Offset of the outer header.
const OUTER: usize = size_of::<xlb_common::wire::EthernetHeader>();

/// An address family.
pub trait Family: Sized {
    /// The header.
    type Header: Header;
    /// What the kernel finds a socket by: its `struct bpf_sock_tuple` in whole words, which the
    /// compiler writes where the verifier wants them.
    type Tuple;
    /// Bytes of the tuple that the kernel reads.
    const TUPLE_BYTES: u32;
    /// 4 or 6.
    const NUMBER: u8;
    /// Bytes of a header without options or extensions.
    const HEADER_BYTES: usize = size_of::<Self::Header>();
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
    fn inner(frame: &Frame<'_>, offset: usize) -> Result<Inner, Reason>;
    /// Whether the header at `offset` leads to one of the VIPs.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn is_for_vip(frame: &Frame<'_>, offset: usize) -> Result<bool, Reason>;
    /// Whether the outer header leads to a backend that packets may be passed on to.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn is_to_peer(frame: &Frame<'_>) -> Result<bool, Reason>;
    /// The way to the backend that the outer header leads to, if it is known.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn hop(frame: &Frame<'_>) -> Result<Option<&'static Hop>, Reason>;
    /// Where the outer header leads, as it stands in an event.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn event_address(frame: &Frame<'_>) -> Result<[u8; 16], Reason>;
    /// What the kernel finds the socket of a segment by.
    fn tuple(ip: &Self::Header, tcp: &TcpHeader) -> Self::Tuple;
    /// Takes one from the TTL or hop limit of the outer header.
    ///
    /// # Errors
    ///
    /// It ends here.
    fn decrement_ttl(frame: &mut Frame<'_>) -> Result<(), Reason>;
    /// Sets the ECN field of the header at `offset`.
    ///
    /// # Errors
    ///
    /// The frame is too short.
    fn set_ecn(frame: &mut Frame<'_>, offset: usize, ecn: u8) -> Result<(), Reason>;
}

/// What matters of the header of an encapsulated packet, but for its addresses; see [`Outer`].
pub struct Inner {
    /// Bytes of header and payload.
    pub bytes: usize,
    /// Protocol of what it carries.
    pub protocol: u8,
    /// Whether what it carries begins right after a header of the smallest size.
    pub is_plain: bool,
    /// The ECN field.
    pub ecn: u8,
}

/// Whether a protocol number is that of an IP packet.
#[inline(always)]
pub const fn is_ip(number: u8) -> bool {
    number == protocol::IPV4 || number == protocol::IPV6
}

/// The ports of a segment, at the beginning of a word of a tuple.
#[inline(always)]
const fn ports(tcp: &TcpHeader) -> u64 {
    tcp.source_port_be as u64 | (tcp.destination_port_be as u64) << 16
}
