//! IPv6.

use xlb_common::{
    decap::{Hop, Reason},
    gue,
    maps::protocol,
    wire::{ETHER_TYPE_IPV6_BE, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader, extension},
};
use xlb_ebpf::{frame::Frame, lpm, tunnel::Tunnel};

use super::{Family, Inner, OUTER, carried, is_ip};
use crate::{
    Outer,
    maps::{ALTERNATIVES6, BALANCERS6, LOCAL_VIPS6, PEERS6},
};

/// IPv6.
pub struct V6;

/// Place of the ECN field in the first word: the lower two bits of the traffic class (RFC 3168,
/// section 5).
const ECN_SHIFT: u32 = 20;

/// Place of the version in the first word.
const VERSION_SHIFT: u32 = 28;

impl Family for V6 {
    type Header = Ipv6Header;
    type Tuple = [u64; 5];
    const TUPLE_BYTES: u32 = 36;
    const NUMBER: u8 = 6;
    const ETHER_TYPE_BE: u16 = ETHER_TYPE_IPV6_BE;
    const END: usize = OUTER + size_of::<Ipv6Header>();

    #[inline(always)]
    fn is_gue(frame: &Frame<'_>) -> bool {
        let (Ok(ip), Ok(udp)) = (
            frame.at::<Ipv6Header>(OUTER),
            frame.at::<UdpHeader>(Self::END),
        ) else {
            return false;
        };
        ip.next_header == protocol::UDP && udp.destination_port_be == gue::PORT_BE
    }

    #[inline(always)]
    fn outer<T: Tunnel>(frame: &Frame<'_>) -> Result<Outer, Reason> {
        let Ok(ip) = frame.at::<Ipv6Header>(OUTER) else {
            return Err(Reason::BadHeader);
        };
        let first = u32::from_be(ip.version_class_flow_be);
        if first >> VERSION_SHIFT != 6 {
            return Err(Reason::BadHeader);
        }
        let mut carries = ip.next_header;
        if carries == extension::FRAGMENT {
            // Within another header nothing is looked for: balancers write none.
            carries = match frame.at::<Ipv6FragmentHeader>(Self::END) {
                Ok(fragment) => fragment.next_header,
                Err(_) => return Err(Reason::NotEncapsulated),
            };
        }
        if !T::IS_UDP && !is_ip(carries) {
            return Err(Reason::NotEncapsulated);
        }
        if lpm::get6(&BALANCERS6, ip.source).is_none() {
            return Err(Reason::UnknownSource);
        }
        if ip.next_header == extension::FRAGMENT {
            return Err(Reason::OuterFragment);
        }
        let payload_bytes = u16::from_be(ip.payload_length_be) as usize;
        if Self::END + payload_bytes > frame.length() {
            return Err(Reason::Truncated);
        }
        let ecn = ecn(first);
        let (carries, payload_bytes) = carried::<T>(frame, Self::END, carries, payload_bytes)?;
        Ok(Outer {
            carries,
            payload_bytes,
            ecn,
        })
    }

    #[inline(always)]
    fn inner(frame: &Frame<'_>, offset: usize) -> Result<Inner, Reason> {
        let ip = frame.at::<Ipv6Header>(offset)?;
        let first = u32::from_be(ip.version_class_flow_be);
        if first >> VERSION_SHIFT != 6 {
            return Err(Reason::BadInner);
        }
        Ok(Inner {
            protocol: ip.next_header,
            is_plain: true,
            bytes: u16::from_be(ip.payload_length_be) as usize + size_of::<Ipv6Header>(),
            ecn: ecn(first),
        })
    }

    #[inline(always)]
    fn is_for_vip(frame: &Frame<'_>, offset: usize) -> Result<bool, Reason> {
        let ip = frame.at::<Ipv6Header>(offset)?;
        Ok(LOCAL_VIPS6.get_ptr(ip.destination).is_some())
    }

    #[inline(always)]
    fn is_to_peer(frame: &Frame<'_>) -> Result<bool, Reason> {
        let ip = frame.at::<Ipv6Header>(OUTER)?;
        Ok(lpm::get6(&PEERS6, ip.destination).is_some())
    }

    #[inline(always)]
    fn hop(frame: &Frame<'_>) -> Result<Option<&'static Hop>, Reason> {
        let ip = frame.at::<Ipv6Header>(OUTER)?;
        // SAFETY: the agent replaces an entry as a whole, and the kernel keeps the older one for as
        // long as this program runs.
        Ok(unsafe { ALTERNATIVES6.get(ip.destination) })
    }

    #[inline(always)]
    fn event_address(frame: &Frame<'_>) -> Result<[u8; 16], Reason> {
        let ip = frame.at::<Ipv6Header>(OUTER)?;
        // SAFETY: both are sixteen plain bytes.
        Ok(unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(ip.destination) })
    }
    #[inline(always)]
    fn tuple(ip: &Ipv6Header, tcp: &TcpHeader) -> [u64; 5] {
        let (source, destination) = (ip.source, ip.destination);
        [
            source[0],
            source[1],
            destination[0],
            destination[1],
            super::ports(tcp),
        ]
    }

    #[inline(always)]
    fn decrement_ttl(frame: &mut Frame<'_>) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv6Header>(OUTER)?;
        if ip.hop_limit <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.hop_limit -= 1;
        Ok(())
    }

    #[inline(always)]
    fn set_ecn(frame: &mut Frame<'_>, offset: usize, ecn: u8) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv6Header>(offset)?;
        let first = u32::from_be(ip.version_class_flow_be);
        let first = first & !(0b11 << ECN_SHIFT) | u32::from(ecn) << ECN_SHIFT;
        ip.version_class_flow_be = first.to_be();
        Ok(())
    }
}

#[inline(always)]
const fn ecn(first: u32) -> u8 {
    (first >> ECN_SHIFT) as u8 & 0b11
}
