//! IPv4.

use xlb_common::{
    checksum,
    decap::{Hop, Reason},
    gue,
    maps::protocol,
    wire::{ETHER_TYPE_IPV4_BE, Ipv4Header, TcpHeader, UdpHeader},
};
use xlb_ebpf::{frame::Frame, lpm, tunnel::Tunnel};

use super::{Family, Inner, OUTER, carried, is_ip};
use crate::{
    Outer,
    maps::{ALTERNATIVES4, BALANCERS4, LOCAL_VIPS4, PEERS4},
};

/// IPv4.
pub struct V4;

/// Bits of the ECN field in the type of service (RFC 3168, section 5).
const ECN: u8 = 0b11;

/// Smallest IPv4 header with its version.
const VERSION_IHL_MIN: u8 = Ipv4Header::VERSION_IHL;

/// Largest IPv4 header with its version.
const VERSION_IHL_MAX: u8 = 0x4f;

impl Family for V4 {
    type Header = Ipv4Header;
    type Tuple = [u64; 2];
    const TUPLE_BYTES: u32 = 12;
    const NUMBER: u8 = 4;
    const ETHER_TYPE_BE: u16 = ETHER_TYPE_IPV4_BE;
    const END: usize = OUTER + size_of::<Ipv4Header>();

    #[inline(always)]
    fn is_gue(frame: &Frame<'_>) -> bool {
        let (Ok(ip), Ok(udp)) = (
            frame.at::<Ipv4Header>(OUTER),
            frame.at::<UdpHeader>(Self::END),
        ) else {
            return false;
        };
        ip.version_ihl == Ipv4Header::VERSION_IHL
            && ip.protocol == protocol::UDP
            && ip.flags_fragment_be & Ipv4Header::FRAGMENT_OFFSET_BE == 0
            && udp.destination_port_be == gue::PORT_BE
    }

    #[inline(always)]
    fn outer<T: Tunnel>(frame: &Frame<'_>) -> Result<Outer, Reason> {
        let Ok(ip) = frame.at::<Ipv4Header>(OUTER) else {
            return Err(Reason::BadHeader);
        };
        if ip.version_ihl < VERSION_IHL_MIN || ip.version_ihl > VERSION_IHL_MAX {
            return Err(Reason::BadHeader);
        }
        if !T::IS_UDP && !is_ip(ip.protocol) {
            return Err(Reason::NotEncapsulated);
        }
        if lpm::get4(&BALANCERS4, ip.source_be).is_none() {
            return Err(Reason::UnknownSource);
        }
        if ip.version_ihl != Ipv4Header::VERSION_IHL {
            return Err(Reason::OuterOptions);
        }
        if ip.flags_fragment_be & Ipv4Header::FRAGMENT_BE != 0 {
            return Err(Reason::OuterFragment);
        }
        if checksum::finish(sum(ip)) != 0 {
            return Err(Reason::OuterChecksum);
        }
        let bytes = u16::from_be(ip.total_length_be) as usize;
        if bytes < size_of::<Ipv4Header>() || OUTER + bytes > frame.length() {
            return Err(Reason::Truncated);
        }
        let ecn = ip.tos & ECN;
        let payload_bytes = bytes - size_of::<Ipv4Header>();
        let (carries, payload_bytes) = carried::<T>(frame, Self::END, ip.protocol, payload_bytes)?;
        Ok(Outer {
            carries,
            payload_bytes,
            ecn,
        })
    }

    #[inline(always)]
    fn inner(frame: &Frame<'_>, offset: usize) -> Result<Inner, Reason> {
        let ip = frame.at::<Ipv4Header>(offset)?;
        if ip.version_ihl < VERSION_IHL_MIN || ip.version_ihl > VERSION_IHL_MAX {
            return Err(Reason::BadInner);
        }
        let bytes = u16::from_be(ip.total_length_be) as usize;
        if bytes < (ip.version_ihl & 0x0f) as usize * 4 {
            return Err(Reason::BadInner);
        }
        Ok(Inner {
            bytes,
            protocol: ip.protocol,
            is_plain: ip.version_ihl == Ipv4Header::VERSION_IHL
                && ip.flags_fragment_be & Ipv4Header::FRAGMENT_BE == 0,
            ecn: ip.tos & ECN,
        })
    }

    #[inline(always)]
    fn is_for_vip(frame: &Frame<'_>, offset: usize) -> Result<bool, Reason> {
        let ip = frame.at::<Ipv4Header>(offset)?;
        Ok(LOCAL_VIPS4.get_ptr(ip.destination_be).is_some())
    }

    #[inline(always)]
    fn is_to_peer(frame: &Frame<'_>) -> Result<bool, Reason> {
        let ip = frame.at::<Ipv4Header>(OUTER)?;
        Ok(lpm::get4(&PEERS4, ip.destination_be).is_some())
    }

    #[inline(always)]
    fn hop(frame: &Frame<'_>) -> Result<Option<&'static Hop>, Reason> {
        let ip = frame.at::<Ipv4Header>(OUTER)?;
        // SAFETY: the agent replaces an entry as a whole, and the kernel keeps the older one for as
        // long as this program runs.
        Ok(unsafe { ALTERNATIVES4.get(ip.destination_be) })
    }

    #[inline(always)]
    fn event_address(frame: &Frame<'_>) -> Result<[u8; 16], Reason> {
        let ip = frame.at::<Ipv4Header>(OUTER)?;
        let mut bytes = [0; 16];
        [bytes[0], bytes[1], bytes[2], bytes[3]] = ip.destination_be.to_ne_bytes();
        Ok(bytes)
    }
    #[inline(always)]
    fn tuple(ip: &Ipv4Header, tcp: &TcpHeader) -> [u64; 2] {
        [
            u64::from(ip.source_be) | u64::from(ip.destination_be) << 32,
            super::ports(tcp),
        ]
    }

    #[inline(always)]
    fn decrement_ttl(frame: &mut Frame<'_>) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv4Header>(OUTER)?;
        if ip.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        let old = u16::from_ne_bytes([ip.ttl, ip.protocol]);
        ip.ttl -= 1;
        let new = u16::from_ne_bytes([ip.ttl, ip.protocol]);
        ip.checksum = checksum::update(ip.checksum, checksum::difference16(old, new));
        Ok(())
    }

    #[inline(always)]
    fn set_ecn(frame: &mut Frame<'_>, offset: usize, ecn: u8) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv4Header>(offset)?;
        let old = u16::from_ne_bytes([ip.version_ihl, ip.tos]);
        ip.tos = ip.tos & !ECN | ecn;
        let new = u16::from_ne_bytes([ip.version_ihl, ip.tos]);
        ip.checksum = checksum::update(ip.checksum, checksum::difference16(old, new));
        Ok(())
    }
}

/// Sum of a header's words, its checksum among them.
#[inline(always)]
fn sum(ip: &Ipv4Header) -> u64 {
    u64::from(u16::from_ne_bytes([ip.version_ihl, ip.tos]))
        + u64::from(ip.total_length_be)
        + u64::from(ip.identification_be)
        + u64::from(ip.flags_fragment_be)
        + u64::from(u16::from_ne_bytes([ip.ttl, ip.protocol]))
        + u64::from(ip.checksum)
        + checksum::sum32(ip.source_be)
        + checksum::sum32(ip.destination_be)
}
