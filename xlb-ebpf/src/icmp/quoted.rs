//! The packet that an error is about, of which it quotes the beginning.

use xlb_common::{
    maps::{feature, protocol},
    reason::Reason,
    wire::{Half, IcmpError, UdpHeader},
};
use xlb_ebpf::tunnel::Tunnel;

use crate::{
    family::Family,
    frame::{Frame, Layout, NETWORK_OFFSET, bounded},
    globals,
    packet::Ports,
};

/// A protocol that nothing here knows.
const OTHER: u8 = 255;

/// A packet, as far as an error quotes it.
pub struct Quoted<F: Family> {
    /// Source address.
    pub source: F::Address,
    /// Destination address.
    pub destination: F::Address,
    /// Protocol number of what it carries; [`OTHER`] in a fragment that does not begin it.
    pub protocol: u8,
    /// Offset of what it carries.
    pub transport: usize,
}

/// Bytes of what a packet carries that every error quotes (RFC 792).
const QUOTED_BYTES: usize = 8;

/// What differs between ICMP and ICMPv6.
pub trait IcmpFamily: Family {
    /// [`Family::Other`], which can't be bound by this trait in its own definition.
    type Opposite: IcmpFamily;
    /// Type and code of an echo request.
    const ECHO_REQUEST: u16;
    /// Type and code of the error that a packet was too big.
    const TOO_BIG: u16;
    /// Protocol number of a packet of this family in an outer header.
    const TUNNEL: u8;
    /// Bytes of a packet that is too big which the answer quotes: as many as fit in the smallest
    /// packet that everybody takes (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4).
    const ANSWER_QUOTES: usize;
    /// The smallest size that an answer tells of.
    const ANSWERED_MTU_MIN: usize;

    /// Offset of the packet that an error quotes.
    #[inline(always)]
    fn quoted_offset(frame: &Frame<'_, impl Layout>) -> usize {
        frame.transport(Self::TRANSPORT_OFFSET) + size_of::<IcmpError>()
    }
    /// Whether a message of this type is an error about a packet.
    fn is_error(kind: u8) -> bool;
    /// Sets an address of the quoted packet; gives the change of the sum of its addresses, and that
    /// of its whole header.
    fn set_quoted<const SOURCE: bool>(
        frame: &mut Frame<'_, impl Layout>,
        new: Self::Address,
    ) -> Result<(u64, u64), Reason>;
    /// Follows the changes of a message's own addresses and of what it quotes.
    fn sum(frame: &mut Frame<'_, impl Layout>, addresses: u64, quoted: u64) -> Result<(), Reason>;
    /// The size and the checksum of a message after [`Self::unwrap`].
    fn unwrapped<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason>;
    /// Takes the outer header out of what a message quotes, and addresses it to the client whose
    /// packet it is about.
    fn unwrap<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason>;
    /// Makes a message about a packet of the other family in an outer header one of that family, to the
    /// client whose packet it is about.
    fn across<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason>;
    /// Whether a packet's sender may be told that it is too big.
    fn is_answerable(frame: &Frame<'_, impl Layout>) -> Result<bool, Reason>;
    /// Makes the message of a packet of which [`Self::ANSWER_QUOTES`] bytes are left: it is too big,
    /// and this size would fit.
    fn answer(frame: &mut Frame<'_, impl Layout>, mtu: usize) -> Result<(), Reason>;
}

/// The packet that is quoted at `offset`.
#[inline(always)]
pub fn quoted<F: IcmpFamily>(
    frame: &Frame<'_, impl Layout>,
    offset: usize,
) -> Result<Quoted<F>, Reason> {
    let headers = F::look_through(frame, offset)?;
    let (source, destination) = F::ends(frame, offset)?;
    Ok(Quoted {
        source,
        destination,
        protocol: if headers.fragment.offset == 0 {
            headers.number
        } else {
            OTHER
        },
        transport: bounded(headers.transport),
    })
}

impl<F: Family> Quoted<F> {
    /// Its ports, if it is TCP, UDP or SCTP and all of the message's `ip_bytes` that they take are there.
    #[inline(always)]
    pub fn ports(&self, frame: &Frame<'_, impl Layout>, ip_bytes: usize) -> Option<Ports> {
        let is_sctp = globals::has(feature::SCTP) && self.protocol == protocol::SCTP;
        if self.protocol != protocol::TCP && self.protocol != protocol::UDP && !is_sctp {
            return None;
        }
        if self.transport + QUOTED_BYTES > NETWORK_OFFSET + ip_bytes {
            return None;
        }
        let source = frame.at::<Half>(self.transport).ok()?;
        let destination = frame.at::<Half>(self.transport + 2).ok()?;
        Some(Ports {
            source_be: source.0,
            destination_be: destination.0,
        })
    }
}

/// Sum of the words of what stands between an outer IP header and the packet within.
#[inline(always)]
pub fn tunnel_sum<T: Tunnel>(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<u64, Reason> {
    if !T::IS_UDP {
        return Ok(0);
    }
    let udp = frame.at::<UdpHeader>(offset)?;
    Ok(u64::from(udp.source_port_be)
        + u64::from(udp.destination_port_be)
        + u64::from(udp.length_be)
        + u64::from(udp.checksum))
}
