//! The backend's side: what should come of a frame that a balancer may have encapsulated
//! (docs/backend.md, docs/second-chance.md).

use std::net::IpAddr;

use xlb_common::{decap::Reason, reason::Action};

use super::{
    ETHERNET_BYTES, GUE_PORT, IPV4_BYTES, IPV6_BYTES, TCP_BYTES, UDP_BYTES,
    bytes::{address, be16, rewrite, sum},
    world::contains,
};

/// A backend's configuration, and the ways that its agent knows. It has no sockets.
#[derive(Clone, Debug, Default)]
pub struct Backend {
    /// Prefixes that encapsulated packets come from.
    pub balancers: Vec<(IpAddr, u8)>,
    /// What they may be for.
    pub vips: Vec<IpAddr>,
    /// Prefixes that packets may be passed on to.
    pub peers: Vec<(IpAddr, u8)>,
    /// The ways to some of them.
    pub hops: Vec<(IpAddr, Hop)>,
}

/// The way to another backend.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// MAC address that frames are sent to.
    pub destination: [u8; 6],
    /// That of the interface.
    pub source: [u8; 6],
    /// The kernel's number of the interface; frames come in on 1.
    pub ifindex: u32,
}

/// What should come of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecapExpected {
    /// What the kernel is told.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The frame that comes out; `None` if it is dropped.
    pub output: Option<Vec<u8>>,
}

/// A tunnel's headers in a frame.
struct Tunnel {
    /// Offset of its IP header.
    at: usize,
    v6: bool,
    destination: IpAddr,
    /// Offset of what it carries.
    inner_at: usize,
    /// Offset of the end of that, by its own words.
    end: usize,
    inner_v6: bool,
}

const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// What should come of a frame.
#[must_use]
pub fn delivered(world: &Backend, frame: &[u8]) -> DecapExpected {
    match judge(world, frame) {
        Ok((reason, action, output)) => DecapExpected {
            action,
            reason,
            output: Some(output),
        },
        Err(reason) => DecapExpected {
            action: reason.action(),
            reason,
            output: (reason.action() == Action::Pass).then(|| frame.to_vec()),
        },
    }
}

type Delivery = (Reason, Action, Vec<u8>);

fn judge(world: &Backend, frame: &[u8]) -> Result<Delivery, Reason> {
    let v6 = match be16(frame, 12) {
        0x0800 => false,
        0x86dd => true,
        _ => return Err(Reason::NotEncapsulated),
    };
    let outer = tunnel(world, frame, ETHERNET_BYTES, v6, frame.len())?;
    let inner = Inner::parse(frame, &outer)?;
    if let Some(number) = inner.protocol.filter(|_| !inner.is_later_fragment)
        && let Some(second) = second(world, frame, &outer, &inner, number)
    {
        let second = second?;
        let within = Inner::parse(frame, &second)?;
        return named(world, frame, &outer, &second, &within);
    }
    if !world.vips.contains(&inner.destination) {
        return Err(Reason::UnknownVip);
    }
    let out = taken_out(frame, &outer)?;
    Ok((Reason::Delivered, Action::Pass, out))
}

/// Reads and admits a tunnel's headers at an offset, within so many bytes of the frame.
fn tunnel(
    world: &Backend,
    frame: &[u8],
    at: usize,
    v6: bool,
    room: usize,
) -> Result<Tunnel, Reason> {
    let bytes = if v6 { IPV6_BYTES } else { IPV4_BYTES };
    if room < at + bytes {
        return Err(Reason::BadHeader);
    }
    let header = usize::from(frame[at] & 0x0f) * 4;
    if frame[at] >> 4 != if v6 { 6 } else { 4 } || !v6 && header < IPV4_BYTES {
        return Err(Reason::BadHeader);
    }
    let mut number = if v6 { frame[at + 6] } else { frame[at + 9] };
    let mut is_fragment = !v6 && be16(frame, at + 6) & 0x3fff != 0;
    let is_later = !v6 && be16(frame, at + 6) & 0x1fff != 0;
    let mut transport_at = at + if v6 { bytes } else { header };
    if v6 && number == FRAGMENT && room >= transport_at + 8 {
        number = frame[transport_at];
        is_fragment = true;
        if be16(frame, transport_at + 2) & 0xfff8 != 0 && number == UDP {
            return Err(Reason::NotEncapsulated);
        }
        transport_at += 8;
    }
    let udp = number == UDP;
    if udp
        && (is_later
            || room < transport_at + UDP_BYTES
            || be16(frame, transport_at + 2) != GUE_PORT)
        || !udp && number != IPV4_IN_IP && number != IPV6_IN_IP
    {
        return Err(Reason::NotEncapsulated);
    }
    let (source_at, destination_at) = if v6 {
        (at + 8, at + 24)
    } else {
        (at + 12, at + 16)
    };
    let source = address(frame, source_at, v6);
    if !within(&world.balancers, source) {
        return Err(Reason::UnknownSource);
    }
    if !v6 && header > IPV4_BYTES {
        return Err(Reason::OuterOptions);
    }
    if is_fragment {
        return Err(Reason::OuterFragment);
    }
    if !v6 && sum(&frame[at..at + header]) != 0xffff {
        return Err(Reason::OuterChecksum);
    }
    let mut end = if v6 {
        transport_at + usize::from(be16(frame, at + 4))
    } else {
        at + usize::from(be16(frame, at + 2))
    };
    if end > room || end < transport_at {
        return Err(Reason::Truncated);
    }
    let mut inner_at = transport_at;
    if udp {
        let datagram = usize::from(be16(frame, transport_at + 4));
        if transport_at + datagram > end || datagram < UDP_BYTES {
            return Err(Reason::Truncated);
        }
        end = transport_at + datagram;
        inner_at = transport_at + UDP_BYTES;
        number = match frame.get(inner_at).filter(|_| inner_at < end) {
            None => return Err(Reason::Truncated),
            Some(first) if first >> 4 == 4 => IPV4_IN_IP,
            Some(first) if first >> 4 == 6 => IPV6_IN_IP,
            Some(_) => return Err(Reason::GueVariant),
        };
    }
    Ok(Tunnel {
        at,
        v6,
        destination: address(frame, destination_at, v6),
        inner_at,
        end,
        inner_v6: number == IPV6_IN_IP,
    })
}

fn within(prefixes: &[(IpAddr, u8)], address: IpAddr) -> bool {
    prefixes
        .iter()
        .any(|&(prefix, bits)| contains(prefix, bits, address))
}

/// What a tunnel carries.
struct Inner {
    destination: IpAddr,
    /// What it carries itself, if its header says.
    protocol: Option<u8>,
    transport_at: usize,
    end: usize,
    is_later_fragment: bool,
}

impl Inner {
    fn parse(frame: &[u8], outer: &Tunnel) -> Result<Self, Reason> {
        let (at, v6) = (outer.inner_at, outer.inner_v6);
        let bytes = if v6 { IPV6_BYTES } else { IPV4_BYTES };
        if outer.end < at + bytes {
            return Err(Reason::Truncated);
        }
        let header = usize::from(frame[at] & 0x0f) * 4;
        if frame[at] >> 4 != if v6 { 6 } else { 4 } {
            return Err(Reason::BadInner);
        }
        if v6 {
            let end = at + bytes + usize::from(be16(frame, at + 4));
            if end > outer.end {
                return Err(Reason::Truncated);
            }
            return Ok(Self {
                destination: address(frame, at + 24, true),
                protocol: Some(frame[at + 6]),
                transport_at: at + bytes,
                end,
                is_later_fragment: false,
            });
        }
        let total = usize::from(be16(frame, at + 2));
        if header < bytes || total < header {
            return Err(Reason::BadInner);
        }
        if at + total > outer.end {
            return Err(Reason::Truncated);
        }
        Ok(Self {
            destination: address(frame, at + 16, false),
            protocol: Some(frame[at + 9]),
            transport_at: at + header,
            end: at + total,
            is_later_fragment: be16(frame, at + 6) & 0x1fff != 0,
        })
    }
}

/// The header to an alternative, if what a tunnel carries is another tunnel.
fn second(
    world: &Backend,
    frame: &[u8],
    outer: &Tunnel,
    inner: &Inner,
    number: u8,
) -> Option<Result<Tunnel, Reason>> {
    let gue = number == UDP
        && !world.vips.contains(&inner.destination)
        && inner.end >= inner.transport_at + UDP_BYTES
        && be16(frame, inner.transport_at + 2) == GUE_PORT;
    if number != IPV4_IN_IP && number != IPV6_IN_IP && !gue {
        return None;
    }
    Some(tunnel(
        world,
        frame,
        outer.inner_at,
        outer.inner_v6,
        outer.end,
    ))
}

/// A packet that names an alternative. This host has no sockets, so it is not the first choice of any
/// segment.
fn named(
    world: &Backend,
    frame: &[u8],
    outer: &Tunnel,
    second: &Tunnel,
    within_second: &Inner,
) -> Result<Delivery, Reason> {
    if !world.vips.contains(&within_second.destination) {
        return Err(Reason::UnknownVip);
    }
    let stays = |reason| {
        let once = taken_out(frame, outer)?;
        let moved = outer.inner_at - ETHERNET_BYTES;
        let second = Tunnel {
            at: second.at - moved,
            inner_at: second.inner_at - moved,
            end: second.end - moved,
            ..*second
        };
        Ok((reason, Action::Pass, taken_out(&once, &second)?))
    };
    if !within(&world.peers, second.destination) {
        return stays(Reason::UnknownPeer);
    }
    let is_segment = within_second.protocol == Some(6)
        && within_second.end >= within_second.transport_at + TCP_BYTES
        && frame[within_second.transport_at + 13] & 0x02 == 0;
    if !is_segment {
        return stays(Reason::FirstChoice);
    }
    let ttl_at = second.at + if second.v6 { 7 } else { 8 };
    if frame[ttl_at] <= 1 {
        return Err(Reason::TtlExpired);
    }
    let hop = world
        .hops
        .iter()
        .find(|(address, _)| *address == second.destination)
        .ok_or(Reason::PeerUnresolved)?
        .1;
    let mut out = taken_out(frame, outer)?;
    if second.v6 {
        out[ETHERNET_BYTES + 7] -= 1;
    } else {
        let word = [out[ETHERNET_BYTES + 8] - 1, out[ETHERNET_BYTES + 9]];
        rewrite(&mut out, ETHERNET_BYTES + 8, &word, &[ETHERNET_BYTES + 10]);
    }
    out[..6].copy_from_slice(&hop.destination);
    out[6..12].copy_from_slice(&hop.source);
    let action = if hop.ifindex == 1 {
        Action::Tx
    } else {
        Action::Redirect
    };
    Ok((Reason::PassedOn, action, out))
}

/// A frame without a tunnel's headers, with the ECN of both combined (RFC 6040, figure 4).
fn taken_out(frame: &[u8], outer: &Tunnel) -> Result<Vec<u8>, Reason> {
    let ecn = |at: usize, v6: bool| {
        if v6 {
            frame[at + 1] >> 4 & 3
        } else {
            frame[at + 1] & 3
        }
    };
    let own = ecn(outer.inner_at, outer.inner_v6);
    let combined = match (own, ecn(outer.at, outer.v6)) {
        (0, 3) => return Err(Reason::CongestionDrop),
        (_, 3) => 3,
        (2, 1) => 1,
        (own, _) => own,
    };
    let mut out = frame[..12].to_vec();
    out.extend(if outer.inner_v6 {
        [0x86, 0xdd]
    } else {
        [0x08, 0x00]
    });
    out.extend(&frame[outer.inner_at..]);
    let at = ETHERNET_BYTES;
    if outer.inner_v6 {
        out[at + 1] = out[at + 1] & !0x30 | combined << 4;
    } else if combined != own {
        let word = [out[at], out[at + 1] & !3 | combined];
        rewrite(&mut out, at, &word, &[at + 10]);
    }
    Ok(out)
}
