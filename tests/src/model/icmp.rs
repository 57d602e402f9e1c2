//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, errors about flows (RFC 5508), and too-big in both
//! directions (RFC 1191, RFC 8201, RFC 2003 section 5).

use std::net::{IpAddr, SocketAddr};

use xlb_common::{
    flow::FlowKey,
    maps::{feature, forward, protocol, service_state},
    reason::{Action, Reason},
    rule::Kind,
};

use super::{
    ETHERNET_BYTES, GUE_PORT, ICMP_BYTES, IPV4_BYTES, IPV6_BYTES, UDP_BYTES,
    balance::{Bound, Model, Sent},
    between,
    bytes::{add, address, be16, octets, rewrite, sum, updated},
    outer::outer_bytes,
    packet::{Packet, Transport},
    world::Way,
};

/// Largest ICMP message that quotes as much as it may (RFC 1812, section 4.3.2.3; RFC 4443, section
/// 2.4), and the least that a path has to take.
const fn message_max(v6: bool) -> usize {
    if v6 { 1280 } else { 576 }
}

/// What every link takes (RFC 791).
const IPV4_MTU_MIN: usize = 68;

/// The beginning of a packet that an error is about.
#[derive(Clone, Copy, Debug)]
struct Quote {
    v6: bool,
    at: usize,
    transport_at: usize,
    end: usize,
    protocol: u8,
    from: SocketAddr,
    to: SocketAddr,
}

impl Quote {
    /// Reads what stands between two offsets. Eight bytes after the IP header tell the flow (RFC 792).
    fn parse(frame: &[u8], at: usize, end: usize, v6: bool) -> Option<Self> {
        let quoted = frame.get(at..end)?;
        let mut header = header_bytes(quoted, v6)?;
        let (mut number, source, destination) = if v6 {
            (quoted[6], 8, 24)
        } else {
            (quoted[9], 12, 16)
        };
        if v6 {
            let way = between::extensions(quoted, at).ok()?;
            (header, number) = (way.transport_at, way.protocol);
            if way.is_later_fragment {
                return None;
            }
        }
        if quoted.len() < header + 8 || !v6 && be16(quoted, 6) & 0x1fff != 0 {
            return None;
        }
        if ![protocol::TCP, protocol::UDP].contains(&number) {
            return None;
        }
        let ports = [be16(quoted, header), be16(quoted, header + 2)];
        Some(Self {
            v6,
            at,
            transport_at: at + header,
            end,
            protocol: number,
            from: SocketAddr::new(address(quoted, source, v6), ports[0]),
            to: SocketAddr::new(address(quoted, destination, v6), ports[1]),
        })
    }

    /// Where its transport checksum stands, if it is quoted and there is one.
    fn checksum_at(&self, frame: &[u8]) -> Option<usize> {
        let at = self.transport_at
            + if self.protocol == protocol::TCP {
                16
            } else {
                6
            };
        let is_there = at + 2 <= self.end;
        (is_there && (self.protocol == protocol::TCP || be16(frame, at) != 0)).then_some(at)
    }

    /// Writes another endpoint over its source or its destination, with all checksums within.
    fn translate(&self, out: &mut [u8], destination: bool, to: SocketAddr) {
        let which = usize::from(destination);
        let checksum = self.checksum_at(out);
        let header = (!self.v6).then_some(self.at + 10);
        let both: Vec<usize> = checksum.into_iter().chain(header).collect();
        let (first, width) = if self.v6 { (8, 16) } else { (12, 4) };
        rewrite(
            out,
            self.at + first + which * width,
            &octets(to.ip()),
            &both,
        );
        let transport: Vec<usize> = checksum.into_iter().collect();
        let port_at = self.transport_at + which * 2;
        rewrite(out, port_at, &to.port().to_be_bytes(), &transport);
        if let Some(at) = checksum
            && self.protocol == protocol::UDP
            && be16(out, at) == 0
        {
            out[at..at + 2].fill(0xff);
        }
    }
}

/// Bytes of a quoted IP header of a family.
fn header_bytes(quoted: &[u8], v6: bool) -> Option<usize> {
    if v6 {
        return (quoted.len() >= IPV6_BYTES && quoted[0] >> 4 == 6).then_some(IPV6_BYTES);
    }
    let header = usize::from(quoted.first()? & 0x0f) * 4;
    (quoted.len() >= header && quoted[0] >> 4 == 4 && header >= IPV4_BYTES).then_some(header)
}

impl Model {
    pub(super) fn icmp(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        let to_vip = self.world.is_vip(packet.destination);
        if packet.is_fragment || !packet.is_whole(frame) {
            return Err(match (to_vip, packet.is_fragment) {
                (false, _) => Reason::NotForService,
                (true, true) => Reason::Fragment,
                (true, false) => Reason::Truncated,
            });
        }
        let at = packet.transport_at;
        let (kind, code) = (frame[at], frame[at + 1]);
        let is_error = if packet.v6 {
            (1..=4).contains(&kind)
        } else {
            [3, 11, 12].contains(&kind)
        };
        if to_vip {
            return match (kind, code) {
                // RFC 1122, section 3.3.6.
                (8, 0) if !packet.v6 && frame[0] & 1 != 0 => Err(Reason::IcmpOther),
                (128, 0) if packet.v6 && frame[0] & 1 != 0 => Err(Reason::IcmpOther),
                (8, 0) if !packet.v6 => Ok(self.echo(frame, packet)),
                (128, 0) if packet.v6 => Ok(self.echo(frame, packet)),
                _ if is_error => self.error_to_backend(frame, packet),
                _ => Err(Reason::IcmpOther),
            };
        }
        if !is_error {
            return Err(Reason::NotForService);
        }
        if self.world.has(feature::DNAT)
            && let Some(about) = Quote::parse(frame, at + ICMP_BYTES, packet.end, packet.v6)
            && about.from.ip() == packet.destination
            && let Some((service, backend)) = self.world.replier(about.to, about.protocol)
        {
            return self.error_to_client(frame, packet, &about, service, backend);
        }
        let too_big = if packet.v6 {
            kind == 2 && code == 0
        } else {
            kind == 3 && code == 4
        };
        if too_big && !packet.has_more_headers() {
            return self.tunnel_too_big(frame, packet);
        }
        Err(Reason::NotForService)
    }

    /// RFC 792, and RFC 4443, section 4.2: addresses are swapped, the rest comes back.
    fn echo(&self, frame: &[u8], packet: &Packet) -> Sent {
        let mut out = frame.to_vec();
        out[..6].copy_from_slice(&frame[6..12]);
        out[6..12].copy_from_slice(&frame[..6]);
        let width = octets(packet.source).len();
        out[packet.source_at()..][..width].copy_from_slice(&octets(packet.destination));
        out[packet.destination_at()..][..width].copy_from_slice(&octets(packet.source));
        let kind = if packet.v6 {
            out[packet.ip + 7] = 64;
            129
        } else {
            let word = [64, out[packet.ip + 9]];
            rewrite(&mut out, packet.ip + 8, &word, &[packet.ip + 10]);
            0
        };
        let word = [kind, 0];
        let checksum = packet.checksum_at();
        rewrite(&mut out, packet.transport_at, &word, &[checksum]);
        // The words of an answer may all be 0, whose checksum is the other zero.
        if !packet.v6 && be16(&out, checksum) == 0 {
            out[checksum..checksum + 2].fill(0xff);
        }
        Sent {
            frame: out,
            action: Action::Tx,
            reason: Some(Reason::EchoReply),
            counter: None,
        }
    }

    /// An error about what a backend sent from the VIP.
    fn error_to_backend(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        let quoted_at = packet.transport_at + ICMP_BYTES;
        let about = Quote::parse(frame, quoted_at, packet.end, packet.v6)
            .filter(|about| about.from.ip() == packet.destination)
            .ok_or(Reason::IcmpOther)?;
        let service = self
            .world
            .service_at(about.from, about.protocol)
            .ok_or(Reason::IcmpOther)?;
        if self.world.services[service].forward == forward::LOCAL {
            return Err(Reason::Local);
        }
        let key =
            FlowKey::between(about.to, about.from, about.protocol).ok_or(Reason::IcmpOther)?;
        let of = &self.world.services[service];
        let kind = if of.is_tcp() || of.has(service_state::TRACKED) {
            Kind::Untracked
        } else {
            Kind::Datagram
        };
        let choice = self.select(service, &key, kind, 0)?;
        let way = self.way_to_backend(choice.backend)?;
        let mut out = frame.to_vec();
        packet.take_hop(&mut out)?;
        if self.world.services[service].forward == forward::DNAT {
            let backend = self
                .world
                .backend(choice.backend)
                .ok_or(Reason::Inconsistent)?;
            let to = backend.address;
            readdress(&mut out, packet, packet.destination_at(), to.ip());
            self.requote(&mut out, packet, &about, false, to);
        }
        let events = self.events.len();
        let bound = Bound {
            service,
            choice,
            way,
            opens: false,
        };
        let sent = self.send(frame, out, packet, bound)?;
        self.events.insert(events, Reason::IcmpError);
        Ok(sent)
    }

    /// An error about a client's packet on its way to a backend.
    fn error_to_client(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        about: &Quote,
        service: usize,
        backend: u16,
    ) -> Result<Sent, Reason> {
        let way = self.way_to_client(packet.destination, packet.ttl)?;
        let vip = self.world.services[service].vip;
        let mut out = frame.to_vec();
        packet.take_hop(&mut out)?;
        readdress(&mut out, packet, packet.source_at(), vip.ip());
        self.requote(&mut out, packet, about, true, vip);
        let action = self.leave(&mut out, way)?;
        self.events.push(Reason::IcmpError);
        Ok(Sent {
            frame: out,
            action,
            reason: None,
            counter: self.reply_counter(service, backend, frame.len()),
        })
    }

    /// Rewrites what a message quotes, and its checksum, which covers that.
    fn requote(
        &self,
        out: &mut [u8],
        packet: &Packet,
        about: &Quote,
        destination: bool,
        to: SocketAddr,
    ) {
        let old = out[about.at..packet.end].to_vec();
        about.translate(out, destination, to);
        let at = packet.checksum_at();
        let checksum = updated(be16(out, at), &old, &out[about.at..packet.end]);
        out[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// `None`: the packet has room for its outer header. `out`: the packet as it would leave.
    pub(super) fn no_room(
        &mut self,
        input: &[u8],
        packet: &Packet,
        out: &[u8],
        service: usize,
        way: Way,
    ) -> Result<Option<Sent>, Reason> {
        let mtu = usize::from(self.mtu(way));
        let outer = outer_bytes(&self.world.services[service], packet.v6);
        if packet.bytes() + outer <= mtu {
            return Ok(None);
        }
        let fits = mtu.saturating_sub(outer);
        let may_be_fragmented = !packet.v6 && input[packet.ip + 6] & 0x40 == 0;
        // RFC 1122, section 3.2.2: no error about an error, nor about what does not come from one host
        // or went to many on the link.
        if may_be_fragmented
            || packet.transport == Transport::Icmp
            || !is_one_host(packet.source)
            || input[0] & 1 != 0
            || fits < message_max(packet.v6)
        {
            return Err(Reason::TooBig);
        }
        let message = too_big(packet.destination, packet.source, fits, {
            &out[packet.ip..packet.end.min(out.len())]
        });
        let mut frame = [&input[6..12], &input[..6], &input[12..14]].concat();
        frame.extend(message);
        Ok(Some(Sent {
            frame,
            action: Action::Tx,
            reason: Some(Reason::TooBigAnswered),
            counter: None,
        }))
    }

    /// A router's word that an outer packet is too big, for the client whose packet is within.
    fn tunnel_too_big(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        let none = Reason::NotForService;
        let at = packet.transport_at;
        let quoted_at = at + ICMP_BYTES;
        let quoted = frame.get(quoted_at..packet.end).ok_or(none)?;
        let header = header_bytes(quoted, packet.v6).ok_or(none)?;
        let (number, source) = if packet.v6 {
            (quoted[6], 8)
        } else {
            (quoted[9], 12)
        };
        if address(quoted, source, packet.v6) != packet.destination
            || !packet.v6 && be16(quoted, 6) & 0x1fff != 0
        {
            return Err(none);
        }
        let (mode, outer) = match number {
            protocol::UDP => {
                if quoted.len() < header + UDP_BYTES || be16(quoted, header + 2) != GUE_PORT {
                    return Err(none);
                }
                (forward::GUE, header + UDP_BYTES)
            }
            protocol::IPV4 if !packet.v6 => (forward::IPIP, header),
            protocol::IPV6 if packet.v6 => (forward::IPIP, header),
            _ => return Err(none),
        };
        let about = Quote::parse(frame, quoted_at + outer, packet.end, packet.v6).ok_or(none)?;
        let service = self
            .world
            .service_at(about.to, about.protocol)
            .ok_or(none)?;
        let is_own =
            matches!(self.world.route(about.from.ip()), Some(route) if route.way.is_none());
        if self.world.services[service].forward != mode || is_own {
            return Err(none);
        }
        let says = if packet.v6 {
            usize::from(be16(frame, at + 4)) << 16 | usize::from(be16(frame, at + 6))
        } else {
            usize::from(be16(frame, at + 6))
        };
        let fits = if packet.v6 {
            // A host ignores what is less than every link takes (RFC 8201, section 4).
            says.saturating_sub(outer).max(message_max(true))
        } else if header > IPV4_BYTES {
            // No balancer writes options.
            return Err(Reason::IcmpOther);
        } else if says == 0 {
            // The router is too old to say (RFC 1191, section 5).
            0
        } else if says < IPV4_MTU_MIN + outer {
            return Err(Reason::TooBig);
        } else {
            says - outer
        };
        let way = self.way_to_client(about.from.ip(), 64)?;
        let mut out = relayed(frame, packet, outer, fits, &about);
        let action = self.leave(&mut out, way)?;
        Ok(Sent {
            frame: out,
            action,
            reason: Some(Reason::TunnelTooBig),
            counter: None,
        })
    }
}

/// A router's message with the outer header taken out of what it quotes, and this size in it. Its
/// checksum changes along, so that a wrong one stays wrong.
fn relayed(frame: &[u8], packet: &Packet, outer: usize, fits: usize, about: &Quote) -> Vec<u8> {
    let (from, to) = (about.to.ip(), about.from.ip());
    let at = packet.transport_at;
    let old = &frame[at..packet.end];
    let mut new = old.to_vec();
    new.drain(ICMP_BYTES..ICMP_BYTES + outer);
    if packet.v6 {
        new[4..8].copy_from_slice(&(fits as u32).to_be_bytes());
    } else {
        // What a router appended can't be told any more from what it quotes (RFC 4884).
        new[4..6].fill(0);
        new[6..8].copy_from_slice(&(fits as u16).to_be_bytes());
    }
    let with_ends = |ends: [IpAddr; 2], message: &[u8]| {
        let mut covered = Vec::new();
        if packet.v6 {
            covered = [octets(ends[0]), octets(ends[1])].concat();
            covered.extend((message.len() as u32).to_be_bytes());
        }
        covered.extend(&message[..2]);
        covered.extend(&message[4..]);
        covered
    };
    let was = with_ends([packet.source, packet.destination], old);
    let checksum = updated(be16(old, 2), &was, &with_ends([from, to], &new));
    new[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut out = frame[..ETHERNET_BYTES].to_vec();
    out.extend(header_of(from, to, new.len()));
    out.extend(new);
    out.extend(&frame[packet.end..]);
    out
}

/// Writes another address into the IP header around a message; that of IPv6 counts for the message's
/// checksum too.
fn readdress(out: &mut [u8], packet: &Packet, at: usize, to: IpAddr) {
    let checksum = packet.header_checksum_at().unwrap_or(packet.checksum_at());
    rewrite(out, at, &octets(to), &[checksum]);
}

/// Whether an address is of one host that can be told something (RFC 1122, section 3.2.1.3).
fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
        }
    }
}

/// "This size fits", about a packet.
fn too_big(from: IpAddr, to: IpAddr, fits: usize, about: &[u8]) -> Vec<u8> {
    let v6 = from.is_ipv6();
    let header = if v6 { IPV6_BYTES } else { IPV4_BYTES };
    let most = message_max(v6) - header - ICMP_BYTES;
    let mut message = if v6 {
        let mut message = vec![2, 0, 0, 0];
        message.extend((fits as u32).to_be_bytes());
        message
    } else {
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend((fits as u16).to_be_bytes());
        message
    };
    message.extend(&about[..about.len().min(most)]);
    let mut total = sum(&message);
    if v6 {
        let mut pseudo = octets(from);
        pseudo.extend(octets(to));
        pseudo.extend((message.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol::ICMPV6]);
        total = add(total, sum(&pseudo));
    }
    let mut out = header_of(from, to, message.len());
    message[2..4].copy_from_slice(&(!total).to_be_bytes());
    out.extend(message);
    out
}

/// The IP header of a message of our own.
fn header_of(from: IpAddr, to: IpAddr, bytes: usize) -> Vec<u8> {
    let mut out;
    if from.is_ipv6() {
        out = vec![0x60, 0, 0, 0];
        out.extend((bytes as u16).to_be_bytes());
        out.extend([protocol::ICMPV6, 64]);
        out.extend(octets(from));
        out.extend(octets(to));
    } else {
        // Internetwork control (RFC 1812, section 4.3.2.5).
        out = vec![0x45, 0xc0];
        out.extend(((IPV4_BYTES + bytes) as u16).to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, protocol::ICMP, 0, 0]);
        out.extend(octets(from));
        out.extend(octets(to));
        let checksum = !sum(&out);
        out[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    out
}
