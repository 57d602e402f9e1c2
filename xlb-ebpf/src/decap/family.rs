//! What differs between IPv4 and IPv6, as the outer and as the inner header.

mod v4;
mod v6;

pub use v4::V4;
pub use v6::V6;
use xlb_common::{
    decap::{Hop, Reason},
    gue,
    maps::protocol,
    wire::{Header, TcpHeader, UdpHeader},
};
use xlb_ebpf::{frame::Frame, tunnel::Tunnel};

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

    /// Whether a frame has a header of UDP, right after that of IP, to the port of `gue`.
    fn is_gue(frame: &Frame<'_>) -> bool;
    /// Parses the outer header of a frame, and what belongs to a tunnel of this form.
    ///
    /// # Errors
    ///
    /// Says why it is not one of a balancer's.
    fn outer<T: Tunnel>(frame: &Frame<'_>) -> Result<Outer, Reason>;
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

/// Whether what an outer header carries is a tunnel of the same form itself, which names an
/// alternative: the packet at `offset`.
#[inline(always)]
pub fn names_alternative<T: Tunnel, I: Family>(
    frame: &Frame<'_>,
    offset: usize,
    inner: &Inner,
) -> Result<bool, Reason> {
    if !T::IS_UDP {
        return Ok(is_ip(inner.protocol));
    }
    if inner.protocol != protocol::UDP || !inner.is_plain {
        return Ok(false);
    }
    // To a VIP, it is a client's, whatever its port.
    let udp = frame.at::<UdpHeader>(offset + I::HEADER_BYTES)?;
    Ok(udp.destination_port_be == gue::PORT_BE && !I::is_for_vip(frame, offset)?)
}

/// What follows an IP header that ends at `end`, in a tunnel of this form: its protocol number, and
/// bytes of it among the `payload_bytes` of the IP header. `number` is the IP header's.
#[inline(always)]
fn carried<T: Tunnel>(
    frame: &Frame<'_>,
    end: usize,
    number: u8,
    payload_bytes: usize,
) -> Result<(u8, usize), Reason> {
    if !T::IS_UDP {
        return Ok((number, payload_bytes));
    }
    let udp_bytes = u16::from_be(frame.at::<UdpHeader>(end)?.length_be) as usize;
    if udp_bytes <= T::BYTES || udp_bytes > payload_bytes {
        return Err(Reason::Truncated);
    }
    let first = *frame.at::<u8>(end + T::BYTES)?;
    let number = gue::carries(first).ok_or(Reason::GueVariant)?;
    Ok((number, udp_bytes - T::BYTES))
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
