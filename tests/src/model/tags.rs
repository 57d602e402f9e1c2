//! VLAN tags (IEEE 802.1Q): what is within takes its way as without, and keeps them.

use xlb_common::reason::Reason;

use super::bytes::be16;

const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;
const TAG_BYTES: usize = 4;
/// Offset of the first tag.
const AT: usize = 12;

/// The bytes of the tags of a frame with what it is without; an error says why it is not looked at.
pub(super) fn taken_off(frame: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Reason> {
    let is_tag =
        |at: usize| frame.len() >= at + 2 && [CUSTOMER, SERVICE].contains(&be16(frame, at));
    let mut at = AT;
    while is_tag(at) {
        if at == AT + 2 * TAG_BYTES {
            return Err(Reason::TooManyTags);
        }
        at += TAG_BYTES;
    }
    if frame.len() < at + 2 {
        return Err(Reason::NotIp);
    }
    let tags = frame[AT..at].to_vec();
    let mut without = frame[..AT].to_vec();
    without.extend(&frame[at..]);
    Ok((tags, without))
}

/// A frame with tags.
pub(super) fn put_back(tags: &[u8], frame: &mut Vec<u8>) {
    frame.splice(AT..AT, tags.iter().copied());
}
