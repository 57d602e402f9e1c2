//! The balancer: the way of a packet from its frame to its end.

use std::{collections::HashMap, net::SocketAddr};

use xlb_common::{
    flow::FlowKey,
    maps::{AttachmentCounters, feature, forward, protocol, service_state},
    reason::{Action, Reason},
    rule::Kind,
};

use super::{
    bytes::{be16, octets, rewrite},
    fragments::Datagrams,
    packet::{Packet, Transport},
    select::Choice,
    tables::Records,
    tags,
    world::{Way, World},
};

const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;

/// What should come of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What the kernel is told.
    pub action: Action,
    /// Reasons that are counted, once each, sorted.
    pub reasons: Vec<Reason>,
    /// Counters of an attachment that move, and by what.
    pub counter: Option<(u32, AttachmentCounters)>,
    /// The frame that comes out; `None` if it is dropped.
    pub output: Option<Vec<u8>>,
    /// It is an answer, of which there may have been too many: then the frame is dropped.
    pub limited: bool,
}

/// The balancer with all that it remembers.
#[derive(Clone, Debug)]
pub struct Model {
    /// What was configured.
    pub world: World,
    /// What `PENDING` holds.
    pub pending: Records,
    /// What `FLOWS` holds.
    pub flows: Records,
    /// What is remembered of datagrams in fragments.
    pub(super) datagrams: Datagrams,
    /// When a flow without a record last used the `stable` of a slot, by its place in the arena.
    pub last_miss_s: HashMap<u32, u32>,
    /// Time in seconds of `CLOCK_MONOTONIC`.
    pub now_s: u32,
    pub(super) events: Vec<Reason>,
    /// Whether the frame leaves with the tags that it came with.
    pub(super) keeps_tags: bool,
}

/// A frame that leaves.
pub(super) struct Sent {
    pub(super) frame: Vec<u8>,
    pub(super) action: Action,
    /// Counted, besides what is counted by attachment.
    pub(super) reason: Option<Reason>,
    pub(super) counter: Option<(u32, AttachmentCounters)>,
}

/// Where a packet is bound for.
pub(super) struct Bound {
    pub(super) service: usize,
    pub(super) choice: Choice,
    pub(super) way: Way,
    /// Whether it opens a connection.
    pub(super) opens: bool,
}

impl Model {
    /// The balancer at its start.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self {
            pending: Records::new(&world.pending),
            flows: Records::new(&world.flows),
            world,
            datagrams: Datagrams::default(),
            last_miss_s: HashMap::new(),
            now_s: 0,
            events: Vec::new(),
            keeps_tags: true,
        }
    }

    /// What should come of a frame at this time.
    pub fn frame(&mut self, frame: &[u8], now_s: u32) -> Expected {
        self.now_s = now_s;
        self.events.clear();
        let outcome = tags::taken_off(frame).and_then(|(tags, without)| {
            self.keeps_tags = true;
            let mut sent = self.judge(&without)?;
            if self.keeps_tags {
                tags::put_back(&tags, &mut sent.frame);
            }
            Ok(sent)
        });
        let mut reasons = std::mem::take(&mut self.events);
        let mut expected = match outcome {
            Ok(sent) => {
                reasons.extend(sent.reason);
                Expected {
                    action: sent.action,
                    limited: sent.reason == Some(Reason::TooBigAnswered),
                    reasons: Vec::new(),
                    counter: sent.counter,
                    output: Some(sent.frame),
                }
            }
            Err(reason) => {
                reasons.push(reason);
                Expected {
                    action: reason.action(),
                    reasons: Vec::new(),
                    counter: None,
                    output: (reason.action() == Action::Pass).then(|| frame.to_vec()),
                    limited: false,
                }
            }
        };
        reasons.sort_unstable();
        expected.reasons = reasons;
        expected
    }

    fn judge(&mut self, frame: &[u8]) -> Result<Sent, Reason> {
        let (v6, family) = match be16(frame, 12) {
            ETHER_TYPE_IPV4 => (false, feature::IPV4),
            ETHER_TYPE_IPV6 => (true, feature::IPV6),
            _ => return Err(Reason::NotIp),
        };
        if !self.world.has(family) {
            return Err(Reason::NotForService);
        }
        let packet = match Packet::parse(frame, v6) {
            Ok(packet) => packet,
            // What is for somebody else is for somebody else to judge.
            Err(refused) => {
                let other = refused.destination.is_some_and(|it| !self.world.is_vip(it));
                return Err(if other {
                    Reason::NotForService
                } else {
                    refused.reason
                });
            }
        };
        if let Some(fragment) = packet.fragment {
            return self.fragment(frame, &packet, fragment);
        }
        if packet.transport == Transport::Icmp {
            return self.icmp(frame, &packet);
        }
        let to_vip = self.world.is_vip(packet.destination);
        if packet.transport == Transport::Other {
            return Err(if !to_vip {
                Reason::NotForService
            } else if packet.end > frame.len() {
                Reason::Truncated
            } else {
                Reason::OtherProtocol
            });
        }
        if to_vip {
            return self.for_vip(frame, &packet);
        }
        if !packet.is_whole(frame) {
            return Err(Reason::NotForService);
        }
        self.perhaps_a_reply(frame, &packet)
    }

    /// Of a packet to no service.
    fn perhaps_a_reply(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        if self.world.has(feature::DNAT)
            && let Some((service, backend)) =
                self.world.replier(packet.from(frame), packet.protocol())
        {
            return self.reply(frame, packet, service, backend);
        }
        Err(Reason::NotForService)
    }

    fn for_vip(&mut self, frame: &[u8], packet: &Packet) -> Result<Sent, Reason> {
        if !packet.is_whole(frame) {
            return Err(Reason::Truncated);
        }
        let Some(service) = self.world.service_at(packet.to(frame), packet.protocol()) else {
            return self.perhaps_a_reply(frame, packet);
        };
        let key = FlowKey::between(packet.from(frame), packet.to(frame), packet.protocol())
            .ok_or(Reason::NotForService)?;
        let kind = self.kind(frame, packet, service);
        let choice = self.select(service, &key, kind, tcp_flags(frame, packet))?;
        let opens = matches!(kind, Kind::Syn { .. });
        let mut out = frame.to_vec();
        // What arrives needs no TTL.
        if self.world.services[service].forward == forward::LOCAL {
            return Ok(Sent {
                counter: self.counter(service, choice.backend, frame.len(), opens),
                frame: out,
                action: Action::Pass,
                reason: Some(Reason::Local),
            });
        }
        let way = self.way_to_backend(choice.backend)?;
        packet.take_hop(&mut out)?;
        if self.world.services[service].forward == forward::DNAT {
            self.towards(&mut out, packet, choice.backend)?;
        }
        self.send(
            frame,
            out,
            packet,
            Bound {
                service,
                choice,
                way,
                opens,
            },
        )
    }

    pub(super) fn kind(&self, frame: &[u8], packet: &Packet, service: usize) -> Kind {
        if packet.transport == Transport::Udp {
            return self.kind_of_datagram(service);
        }
        let at = packet.transport_at;
        let number = u32::from(be16(frame, at + 4)) << 16 | u32::from(be16(frame, at + 6));
        let [syn, rst, ack] = [0x02, 0x04, 0x10].map(|bit| frame[at + 13] & bit != 0);
        // What else has SYN is the second step of a handshake, or nonsense (RFC 9293, section 3.10.7).
        if syn && !rst && !ack {
            Kind::Syn { isn: number }
        } else {
            Kind::Segment { sequence: number }
        }
    }

    pub(super) fn kind_of_datagram(&self, service: usize) -> Kind {
        if self.world.services[service].has(service_state::TRACKED) {
            Kind::TrackedDatagram
        } else {
            Kind::Datagram
        }
    }

    /// Destination NAT (RFC 2663): address and port become the backend's.
    pub(super) fn towards(
        &self,
        out: &mut [u8],
        packet: &Packet,
        backend: u16,
    ) -> Result<(), Reason> {
        let to = self.endpoint_of(backend, be16(out, packet.transport_at + 2))?;
        translate(
            out,
            packet,
            packet.destination_at(),
            packet.transport_at + 2,
            to,
        );
        Ok(())
    }

    /// Where a packet to this port is sent to: a backend without a port of its own keeps the packet's.
    pub(super) fn endpoint_of(&self, backend: u16, port: u16) -> Result<SocketAddr, Reason> {
        let mut to = self
            .world
            .backend(backend)
            .ok_or(Reason::Inconsistent)?
            .address;
        if to.port() == 0 {
            to.set_port(port);
        }
        Ok(to)
    }

    /// Where clients know a backend's reply to come from, which comes from this port: of a service of
    /// several ports, from the same.
    pub(super) fn seen_from(&self, service: usize, port: u16) -> SocketAddr {
        let service = &self.world.services[service];
        let mut vip = service.vip;
        if service.has_several_ports() {
            vip.set_port(port);
        }
        vip
    }

    /// Sends a packet whose rewriting is done, but for an outer header, to the backend.
    pub(super) fn send(
        &mut self,
        input: &[u8],
        mut out: Vec<u8>,
        packet: &Packet,
        bound: Bound,
    ) -> Result<Sent, Reason> {
        let Bound {
            service,
            choice,
            way,
            opens,
        } = bound;
        if self.world.services[service].is_tunnel() {
            if let Some(answer) = self.no_room(input, packet, &out, service, way)? {
                return Ok(answer);
            }
            out = self.encapsulate(&out, packet, service, &choice, way);
        }
        let action = self.leave(&mut out, way)?;
        Ok(Sent {
            frame: out,
            action,
            reason: None,
            counter: self.counter(service, choice.backend, input.len(), opens),
        })
    }

    /// A packet of so many bytes, by attachment.
    pub(super) fn counter(
        &self,
        service: usize,
        backend: u16,
        bytes: usize,
        opens: bool,
    ) -> Option<(u32, AttachmentCounters)> {
        let position = self.world.backend(backend)?.position;
        let counters = AttachmentCounters {
            packets: 1,
            bytes: bytes as u64,
            connections: u64::from(opens),
            ..AttachmentCounters::default()
        };
        let base = self.world.services[service].counter_base;
        Some((base + u32::from(position), counters))
    }

    /// The way to a backend.
    pub(super) fn way_to_backend(&self, backend: u16) -> Result<Way, Reason> {
        let backend = self.world.backend(backend).ok_or(Reason::Inconsistent)?;
        backend.next_hop.ok_or(Reason::BackendUnresolved)
    }

    fn reply(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        backend: u16,
    ) -> Result<Sent, Reason> {
        let way = self.way_to_client(packet.destination, packet.ttl)?;
        let mut out = frame.to_vec();
        packet.take_hop(&mut out)?;
        let vip = self.seen_from(service, packet.from(frame).port());
        translate(
            &mut out,
            packet,
            packet.source_at(),
            packet.transport_at,
            vip,
        );
        let action = self.leave(&mut out, way)?;
        Ok(Sent {
            frame: out,
            action,
            reason: None,
            counter: self.reply_counter(service, backend, frame.len()),
        })
    }

    /// A reply of so many bytes, by attachment.
    pub(super) fn reply_counter(
        &self,
        service: usize,
        backend: u16,
        bytes: usize,
    ) -> Option<(u32, AttachmentCounters)> {
        let position = self.world.backend(backend)?.position;
        let counters = AttachmentCounters {
            reply_packets: 1,
            reply_bytes: bytes as u64,
            ..AttachmentCounters::default()
        };
        let base = self.world.services[service].counter_base;
        Some((base + u32::from(position), counters))
    }
}

pub(super) fn tcp_flags(frame: &[u8], packet: &Packet) -> u8 {
    if packet.protocol() == protocol::TCP {
        frame[packet.transport_at + 13]
    } else {
        0
    }
}

/// Writes an endpoint over another, with the checksums: of the header, and of TCP or UDP, where a
/// datagram without one stays without (RFC 768).
pub(super) fn translate(
    out: &mut [u8],
    packet: &Packet,
    address_at: usize,
    port_at: usize,
    to: std::net::SocketAddr,
) {
    let checksum_at = packet.checksum_at();
    let is_udp = packet.transport == Transport::Udp;
    let without = is_udp && be16(out, checksum_at) == 0;
    let transport: Vec<usize> = if without {
        Vec::new()
    } else {
        vec![checksum_at]
    };
    let header = packet.header_checksum_at();
    let both: Vec<usize> = transport.iter().copied().chain(header).collect();
    rewrite(out, address_at, &octets(to.ip()), &both);
    rewrite(out, port_at, &to.port().to_be_bytes(), &transport);
    if is_udp && !without && be16(out, checksum_at) == 0 {
        out[checksum_at..checksum_at + 2].fill(0xff);
    }
}
