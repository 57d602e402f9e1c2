//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, errors about flows (RFC 5508), and too-big in both
//! directions (RFC 1191, RFC 8201, RFC 2003 section 5).

mod message;
mod quote;

use std::net::{IpAddr, SocketAddr};

use xlb_common::{
    flow::FlowKey,
    maps::{feature, forward, protocol, service_state},
    reason::{Action, Reason},
    rule::Kind,
};

use self::{
    message::{message_max, relayed, too_big},
    quote::{Quote, header_bytes},
};
use super::{
    GUE_PORT, ICMP_BYTES, IPV4_BYTES, UDP_BYTES,
    balance::{Bound, Model, Sent},
    bytes::{address, be16, octets, rewrite, updated},
    outer::outer_bytes,
    packet::{Packet, Transport},
    world::Way,
};

/// What every link takes (RFC 791).
const IPV4_MTU_MIN: usize = 68;

impl Model {
    pub(super) fn icmp(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        let to_vip = self.world.is_vip(packet.destination);
        if !packet.is_whole(frame) {
            return Err(if to_vip {
                Reason::Truncated
            } else {
                Reason::NotForService
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
            let to = self.endpoint_of(choice.backend, about.from.port())?;
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
        let vip = self.seen_from(service, about.to.port());
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
