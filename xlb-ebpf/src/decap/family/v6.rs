//! IPv6.

use xlb_common::{
    decap::Reason,
    wire::{ETHER_TYPE_IPV6_BE, Ipv6FragmentHeader, Ipv6Header, extension},
};
use xlb_ebpf::{frame::Frame, lpm};

use super::{Family, Inner, OUTER, is_ip};
use crate::{
    Outer,
    maps::{BALANCERS6, LOCAL_VIPS6},
};

/// IPv6.
pub struct V6;

/// Place of the ECN field in the first word: the lower two bits of the traffic class (RFC 3168,
/// section 5).
const ECN_SHIFT: u32 = 20;

/// Place of the version in the first word.
const VERSION_SHIFT: u32 = 28;

impl Family for V6 {
    type Address = [u64; 2];
    const ETHER_TYPE_BE: u16 = ETHER_TYPE_IPV6_BE;
    const END: usize = OUTER + size_of::<Ipv6Header>();

    #[inline(always)]
    fn outer(frame: &Frame<'_>) -> Result<Outer, Reason> {
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
        if !is_ip(carries) {
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
        Ok(Outer {
            carries,
            payload_bytes,
            ecn: ecn(first),
        })
    }

    #[inline(always)]
    fn inner(frame: &Frame<'_>, offset: usize) -> Result<Inner<Self>, Reason> {
        let ip = frame.at::<Ipv6Header>(offset)?;
        let first = u32::from_be(ip.version_class_flow_be);
        if first >> VERSION_SHIFT != 6 {
            return Err(Reason::BadInner);
        }
        Ok(Inner {
            destination: ip.destination,
            bytes: u16::from_be(ip.payload_length_be) as usize + size_of::<Ipv6Header>(),
            ecn: ecn(first),
        })
    }

    #[inline(always)]
    fn is_vip(address: [u64; 2]) -> bool {
        LOCAL_VIPS6.get_ptr(address).is_some()
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
