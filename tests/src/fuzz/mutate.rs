//! What may be wrong with a frame.

use super::{build::resum, frames::INPUT_BYTES_MIN, random::Random};
use crate::model::ETHERNET_BYTES;

const IP: usize = ETHERNET_BYTES;

/// Bytes of frames that mean something: fields of Ethernet, IP and transport headers.
const FIELDS: usize = 80;

/// Does one to three things to a frame, and sums it anew in half of the cases.
pub(super) fn some(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..random.pick(&[1, 1, 1, 2, 3]) {
        one(random, frame);
    }
    if random.coin() {
        resum(frame);
    }
    let padded = frame.len().max(INPUT_BYTES_MIN);
    frame.resize(padded, 0);
}

fn one(random: &mut Random, frame: &mut Vec<u8>) {
    match random.below(16) {
        0 => truncate(random, frame),
        1 => {
            truncate(random, frame);
            agree(frame);
        }
        2 => {
            let length = frame.len() + random.between(1, 30);
            frame.resize(length, random.byte());
        }
        3 => length_field(random, frame),
        4 => flip(random, frame),
        5 => {
            let at = random.below(frame.len().min(FIELDS));
            set(frame, at, random.byte());
        }
        6 => checksum(random, frame),
        7 => fragment(random, frame),
        8 => options(random, frame),
        9 => extension(random, frame),
        10 => tag(random, frame),
        11 => ttl(random, frame),
        12 => transport_length(random, frame),
        13 => {
            let kind = random.pick(&[[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]]);
            frame.splice(12..14, kind);
        }
        14 => set(
            frame,
            IP,
            random.pick(&[0x44, 0x46, 0x4f, 0x55, 0x60, 0x45, 0x05]),
        ),
        _ => {
            let at = random.below(frame.len());
            let bytes = random.between(1, 9);
            for offset in at..at + bytes {
                set(frame, offset, random.byte());
            }
        }
    }
}

fn set(frame: &mut [u8], at: usize, to: u8) {
    if let Some(byte) = frame.get_mut(at) {
        *byte = to;
    }
}

fn put(frame: &mut [u8], at: usize, to: u16) {
    for (offset, byte) in to.to_be_bytes().into_iter().enumerate() {
        set(frame, at + offset, byte);
    }
}

fn is_v6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

fn transport_at(frame: &[u8]) -> usize {
    IP + if is_v6(frame) { 40 } else { 20 }
}

fn truncate(random: &mut Random, frame: &mut Vec<u8>) {
    frame.truncate(random.between(INPUT_BYTES_MIN, frame.len() + 1));
}

/// Makes the length in the IP header agree with the frame's.
fn agree(frame: &mut [u8]) {
    if is_v6(frame) {
        let length = frame.len().saturating_sub(IP + 40);
        put(frame, IP + 4, length as u16);
    } else {
        put(frame, IP + 2, (frame.len() - IP) as u16);
    }
}

fn length_field(random: &mut Random, frame: &mut [u8]) {
    let at = if is_v6(frame) { IP + 4 } else { IP + 2 };
    let Some(&[high, low]) = frame.get(at..at + 2).and_then(|it| it.first_chunk()) else {
        return;
    };
    let was = u16::from_be_bytes([high, low]);
    let to = match random.below(4) {
        0 => random.half(),
        1 => was.wrapping_add(random.between(1, 30) as u16),
        2 => was.wrapping_sub(random.between(1, 60) as u16),
        _ => random.below(60) as u16,
    };
    put(frame, at, to);
}

fn flip(random: &mut Random, frame: &mut [u8]) {
    for _ in 0..random.between(1, 4) {
        let at = random.below(frame.len());
        let bit = 1 << random.below(8);
        frame[at] ^= bit;
    }
}

fn checksum(random: &mut Random, frame: &mut [u8]) {
    let transport = transport_at(frame);
    let at = random.pick(&[IP + 10, transport + 16, transport + 6, transport + 2]);
    let to = random.pick(&[0, 0xffff, 0x1234]);
    put(frame, at, to);
}

fn fragment(random: &mut Random, frame: &mut Vec<u8>) {
    let offset = random.pick(&[0, 1, 2, 100, 0x1fff]);
    let more = random.percent(60);
    if !is_v6(frame) {
        put(frame, IP + 6, u16::from(more) << 13 | offset);
        return;
    }
    if frame.len() < IP + 40 {
        return;
    }
    let next = frame[IP + 6];
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let header = [next, 0, high, low, 0, 0, 0, random.byte()];
    insert_extension(frame, 44, &header);
}

fn insert_extension(frame: &mut Vec<u8>, number: u8, header: &[u8]) {
    frame.splice(IP + 40..IP + 40, header.iter().copied());
    frame[IP + 6] = number;
    let length = u16::from_be_bytes([frame[IP + 4], frame[IP + 5]]);
    put(frame, IP + 4, length.wrapping_add(header.len() as u16));
}

fn extension(random: &mut Random, frame: &mut Vec<u8>) {
    if !is_v6(frame) || frame.len() < IP + 40 {
        return;
    }
    for _ in 0..random.pick(&[1, 1, 2, 4, 9]) {
        let next = frame[IP + 6];
        let words = random.pick(&[0_u8, 0, 1, 3]);
        let mut header = vec![next, words, 1, 4, 0, 0, 0, 0];
        header.resize(8 + 8 * usize::from(words), 0);
        let number = random.pick(&[0, 43, 60, 51, 135]);
        if number == 51 && random.percent(80) {
            header[1] = (header.len() / 4 - 2) as u8;
        }
        // A kind of route that nobody has abandoned, with nobody left to visit.
        if number == 43 && random.coin() {
            header[2..4].copy_from_slice(&[4, 0]);
        }
        insert_extension(frame, number, &header);
    }
}

fn options(random: &mut Random, frame: &mut Vec<u8>) {
    if is_v6(frame) || frame.len() < IP + 20 {
        return;
    }
    let words = random.between(1, 11);
    frame.splice(IP + 20..IP + 20, vec![1; words * 4]);
    frame[IP] = 0x45 + words as u8;
    let length = u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]);
    put(frame, IP + 2, length.wrapping_add(words as u16 * 4));
}

fn tag(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..random.pick(&[1, 1, 2, 3]) {
        let [high, low] = random.pick(&[[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]]);
        frame.splice(12..12, [high, low, random.byte(), random.byte()]);
    }
}

fn ttl(random: &mut Random, frame: &mut [u8]) {
    let at = if is_v6(frame) { IP + 7 } else { IP + 8 };
    set(frame, at, random.pick(&[0, 1, 2, 255]));
}

fn transport_length(random: &mut Random, frame: &mut [u8]) {
    let at = transport_at(frame);
    if random.coin() {
        set(frame, at + 12, random.byte());
    } else {
        let to = random.pick(&[0, 7, 8, 9, 20, 0xffff]);
        put(frame, at + 4, to);
    }
}

/// Changes what an error quotes.
pub(super) fn quotation(random: &mut Random, quoted: &mut [u8]) {
    if quoted.is_empty() {
        return;
    }
    let at = random.below(quoted.len().min(48));
    quoted[at] = random.pick(&[0, 1, 4, 6, 17, 0x45, 0x46, 0x60, 0xff, 0x20]);
}
