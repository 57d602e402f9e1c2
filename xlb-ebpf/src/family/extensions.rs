//! IPv6 extension headers.

use xlb_common::{
    checksum,
    limits::EXTENSION_HEADERS_MAX,
    reason::Reason,
    wire::{ExtensionHeader, Ipv6FragmentHeader, Word, extension},
};

use crate::{
    frame::{Frame, HEADERS_BYTES_MAX, Layout, bounded},
    packet::{Fragment, Headers},
};

/// Goes on from `headers` to what the packet carries, or to what a later fragment has a part of.
///
/// # Errors
///
/// [`Reason::FragmentTiny`] where the headers of a first fragment go on in the next (RFC 7112).
#[inline(always)]
pub fn look_through(frame: &Frame<'_, impl Layout>, headers: &mut Headers) -> Result<(), Reason> {
    match walk(frame, headers) {
        Err(Reason::Truncated) if headers.fragment.more => Err(Reason::FragmentTiny),
        walked => walked,
    }
}

#[inline(always)]
fn walk(frame: &Frame<'_, impl Layout>, headers: &mut Headers) -> Result<(), Reason> {
    let mut is_fragment = false;
    for count in 0..EXTENSION_HEADERS_MAX {
        let at = bounded(headers.transport);
        let number = headers.number;
        let bytes = match number {
            // Only right after the IP header (RFC 8200, section 4.1).
            extension::HOP_BY_HOP if count != 0 => return Err(Reason::ExtensionHeader),
            extension::HOP_BY_HOP | extension::DESTINATION => {
                let header = frame.at::<ExtensionHeader>(at)?;
                headers.number = header.next_header;
                (header.length as usize + 1) * 8
            }
            extension::ROUTING => {
                let header = frame.at::<ExtensionHeader>(at)?;
                // Type 0 is not to be processed (RFC 5095); of others, what is left is for routers
                // to visit, and a VIP is none.
                if header.kind == extension::ROUTING_SOURCE_ROUTE || header.segments_left != 0 {
                    return Err(Reason::SourceRoute);
                }
                headers.number = header.next_header;
                (header.length as usize + 1) * 8
            }
            extension::AUTHENTICATION => {
                let header = frame.at::<ExtensionHeader>(at)?;
                // At least an integrity check value beside what is fixed, and a multiple of eight bytes
                // (RFC 4302, section 2.2).
                if header.length == 0 || header.length & 1 != 0 {
                    return Err(Reason::ExtensionHeader);
                }
                headers.number = header.next_header;
                (header.length as usize + 2) * 4
            }
            extension::FRAGMENT => {
                if is_fragment {
                    return Err(Reason::ExtensionHeader);
                }
                is_fragment = true;
                let header = frame.at::<Ipv6FragmentHeader>(at)?;
                let offset_more = u16::from_be(header.offset_more_be);
                headers.number = header.next_header;
                headers.fragment = Fragment {
                    offset: offset_more & !7,
                    more: offset_more & 1 != 0,
                    identification_be: header.identification_be,
                    start: (at + size_of::<Ipv6FragmentHeader>()) as u16,
                };
                size_of::<Ipv6FragmentHeader>()
            }
            _ => return Ok(()),
        };
        headers.transport = at + bytes;
        if headers.transport >= HEADERS_BYTES_MAX {
            return Err(Reason::ExtensionHeader);
        }
        if headers.fragment.offset != 0 {
            return Ok(());
        }
    }
    if is_one(headers.number) {
        return Err(Reason::ExtensionHeader);
    }
    Ok(())
}

/// Whether a number is that of an extension header that is looked through.
#[inline(always)]
pub const fn is_one(number: u8) -> bool {
    matches!(
        number,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION
    )
}

/// Sum of the words of the extension headers that begin at `start`, and of their bytes as a length.
#[inline(always)]
pub fn sum(frame: &Frame<'_, impl Layout>, start: usize) -> Result<u64, Reason> {
    let end = frame.transport(start);
    if end <= start {
        return Ok(0);
    }
    let mut sum = u64::from(((end - start) as u16).to_be());
    for index in 0..HEADERS_BYTES_MAX / size_of::<Word>() {
        let at = start + index * size_of::<Word>();
        if at >= end {
            break;
        }
        sum += checksum::sum32(frame.at::<Word>(at)?.0);
    }
    Ok(sum)
}
