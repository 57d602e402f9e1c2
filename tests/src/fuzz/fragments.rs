//! Datagrams in fragments, mostly as hosts send them.

use super::random::Random;
use crate::model::{IPV4_BYTES, IPV6_BYTES, sum};

const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

/// A part of a datagram: from a byte to before another, and whether more follow.
type Part = (usize, usize, bool);

/// The fragments of a packet without options.
pub(super) fn of(random: &mut Random, packet: &[u8]) -> Vec<Vec<u8>> {
    let v6 = packet[0] >> 4 == 6;
    let header = if v6 { IPV6_BYTES } else { IPV4_BYTES };
    let mut number = if v6 { packet[6] } else { packet[9] };
    let mut datagram = packet[header..].to_vec();
    // Options that are part of what is cut.
    if v6 && random.percent(10) {
        let options = [number, 0, 1, 4, 0, 0, 0, 0];
        datagram.splice(..0, options);
        number = DESTINATION_OPTIONS;
    }
    let id = random.below(40) as u16;
    let options_before = v6 && random.percent(10);
    parts(random, datagram.len())
        .into_iter()
        .map(|(from, to, more)| {
            let part = datagram
                .get(from..to.min(datagram.len()))
                .unwrap_or_default();
            // Some say that they lie elsewhere.
            let from = if random.percent(1) {
                random.pick(&[8, 65_000, 65_528, from + 8])
            } else {
                from
            };
            if v6 {
                part6(packet, number, options_before, id, (from, more), part)
            } else {
                part4(random, packet, id, (from, more), part)
            }
        })
        .collect()
}

/// How a datagram of so many bytes is cut, in the order in which the parts come.
fn parts(random: &mut Random, length: usize) -> Vec<Part> {
    let count = random.pick(&[2, 2, 3, 3, 4, 6, 30]);
    let mut cuts: Vec<usize> = (1..count).map(|_| random.below(length + 1)).collect();
    if !random.percent(4) {
        // A first one with its transport header, and all of whole units.
        let least = if random.percent(90) { 24 } else { 8 };
        for cut in &mut cuts {
            *cut = (*cut / 8 * 8).max(least.min(length));
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut from = 0;
    let mut parts: Vec<Part> = Vec::new();
    for cut in cuts {
        parts.push((from, cut, true));
        from = cut;
    }
    parts.push((from, length, false));
    for _ in 0..random.pick(&[0, 0, 0, 0, 1, 2]) {
        mischief(random, length, &mut parts);
    }
    parts
}

fn mischief(random: &mut Random, length: usize, parts: &mut Vec<Part>) {
    let at = random.below(parts.len());
    let to = random.below(parts.len());
    let (start, end, more) = parts[at];
    match random.below(8) {
        0 => parts.swap(at, to),
        1 => parts.insert(to, parts[at]),
        2 => {
            if parts.len() > 1 {
                parts.remove(at);
            }
        }
        3 => parts.insert(to, (start + random.pick(&[0, 8, 16]), end + 8, more)),
        4 => parts.insert(to, (start, end, !more)),
        5 if parts.len() > 9 => {
            // Every other one first, so that there are more pieces than can be kept apart.
            let (mut late, early): (Vec<_>, Vec<_>) =
                (0..).zip(&*parts).partition(|(at, _)| at % 2 == 1);
            let mut all = early;
            all.append(&mut late);
            *parts = all.into_iter().map(|(_, part)| *part).collect();
        }
        6 => parts.insert(to, (random.below(length + 64) / 8 * 8, length + 64, false)),
        _ => parts[1..].reverse(),
    }
}

fn part4(
    random: &mut Random,
    packet: &[u8],
    id: u16,
    (from, more): (usize, bool),
    part: &[u8],
) -> Vec<u8> {
    let mut out = packet[..IPV4_BYTES].to_vec();
    let length = (IPV4_BYTES + part.len()) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
    out[4..6].copy_from_slice(&id.to_be_bytes());
    let keeps = if random.percent(20) { 0x4000 } else { 0 };
    let word = keeps | u16::from(more) << 13 | (from / 8) as u16;
    out[6..8].copy_from_slice(&word.to_be_bytes());
    out[10..12].fill(0);
    let checksum = !sum(&out);
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
    out.extend(part);
    out
}

fn part6(
    packet: &[u8],
    number: u8,
    options_before: bool,
    id: u16,
    (from, more): (usize, bool),
    part: &[u8],
) -> Vec<u8> {
    let mut out = packet[..IPV6_BYTES].to_vec();
    let options: &[u8] = if options_before {
        out[6] = DESTINATION_OPTIONS;
        &[FRAGMENT, 0, 1, 4, 0, 0, 0, 0]
    } else {
        out[6] = FRAGMENT;
        &[]
    };
    let length = (options.len() + 8 + part.len()) as u16;
    out[4..6].copy_from_slice(&length.to_be_bytes());
    out.extend(options);
    let [high, low] = (from as u16 & !7 | u16::from(more)).to_be_bytes();
    out.extend([number, 0, high, low, 7, 7]);
    out.extend(id.to_be_bytes());
    out.extend(part);
    out
}
