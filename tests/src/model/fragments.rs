//! Datagrams in fragments (RFC 791, RFC 8200 section 4.5, RFC 5722; docs/fragments.md).

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use xlb_common::{
    flow::FlowKey,
    hash,
    maps::{feature, forward, protocol, service_state},
    reason::{Action, Reason},
    rule::Kind,
};

use super::{
    IPV4_BYTES, TCP_BYTES, UDP_BYTES,
    balance::{Bound, Model, Sent, tcp_flags, translate},
    between::Fragment,
    bytes::{be16, octets, rewrite},
    packet::{Packet, Transport},
    select::Choice,
};

/// Pieces that are kept apart.
const PIECES_MAX: usize = 8;

/// Bytes that an IP packet, or the payload of one of IPv6, may have.
const BYTES_MAX: usize = 65_535;

/// Source, destination, identification, and protocol: of IPv4 only.
type DatagramKey = (IpAddr, IpAddr, u32, Option<u8>);

/// What is remembered of datagrams.
pub(super) type Datagrams = HashMap<DatagramKey, Datagram>;

/// Where a datagram goes, and what of it was seen.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    service: usize,
    backend: u16,
    hash: u32,
    is_reply: bool,
    seen_s: u32,
    /// Whether its fragments contradict one another.
    is_broken: bool,
    /// Ends of pieces by their beginnings, in units of eight bytes.
    pieces: BTreeMap<usize, usize>,
    /// Where it ends.
    end: Option<usize>,
}

/// Where a fragment goes on.
enum Found {
    ByAddresses(usize),
    First(usize),
    FirstReply(usize, u16),
    Later,
}

impl Datagram {
    /// Adds a fragment; whether all is there now.
    fn add(&mut self, start: usize, end: usize, more: bool) -> Result<bool, Reason> {
        if self.is_broken {
            return Err(Reason::FragmentOverlap);
        }
        let pieces = &self.pieces;
        if pieces.iter().any(|(&from, &to)| from <= start && end <= to) {
            return Err(Reason::FragmentOverlap);
        }
        let overlaps = pieces.iter().any(|(&from, &to)| from < end && start < to);
        let is_beyond = self.end.is_some_and(|known| end > known);
        let is_cut = !more && pieces.iter().any(|(&from, _)| from >= end);
        if overlaps || is_beyond || is_cut {
            self.is_broken = true;
            return Err(Reason::FragmentOverlap);
        }
        let mut joined = pieces.clone();
        let (mut from, mut to) = (start, end);
        if let Some((&before, _)) = pieces.iter().find(|(_, to)| **to == start) {
            joined.remove(&before);
            from = before;
        }
        if let Some(behind) = joined.remove(&end) {
            to = behind;
        }
        joined.insert(from, to);
        if joined.len() > PIECES_MAX {
            return Err(Reason::FragmentScattered);
        }
        self.pieces = joined;
        if !more {
            self.end = Some(end);
        }
        Ok(self.end.is_some() && self.pieces.get(&0).copied() == self.end)
    }
}

impl Model {
    pub(super) fn fragment(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        fragment: Fragment,
    ) -> Result<Sent, Reason> {
        let key = (
            packet.source,
            packet.destination,
            fragment.id,
            (!packet.v6).then_some(packet.number),
        );
        let lifetime_s = if packet.v6 { 60 } else { 30 };
        let now_s = self.now_s;
        self.datagrams
            .retain(|of, datagram| *of != key || now_s - datagram.seen_s < lifetime_s);
        let found = match self.look_into(frame, packet, fragment) {
            Ok(Found::Later) if !self.datagrams.contains_key(&key) => Err(Reason::Fragment),
            found => found,
        };
        // What is for somebody else is for somebody else to judge.
        let found = found.map_err(|reason| {
            if self.world.is_vip(packet.destination) {
                reason
            } else {
                Reason::NotForService
            }
        })?;
        let bytes = packet.end - packet.ip - fragment.at;
        check_length(packet, fragment, bytes)?;
        let range = (fragment.offset / 8, (fragment.offset + bytes).div_ceil(8));
        if let Found::ByAddresses(service) = found {
            return self.by_addresses(frame, packet, service);
        }
        let mut is_whole = false;
        if let Some(datagram) = self.datagrams.get_mut(&key) {
            is_whole = datagram.add(range.0, range.1, fragment.more)?;
        }
        match found {
            Found::Later => {
                let datagram = self.datagrams[&key].clone();
                if is_whole {
                    self.datagrams.remove(&key);
                }
                self.later(frame, packet, &datagram)
            }
            Found::First(service) => {
                let key_of_flow =
                    FlowKey::between(packet.from(frame), packet.to(frame), packet.protocol())
                        .ok_or(Reason::NotForService)?;
                let kind = self.kind(frame, packet, service);
                let mut choice =
                    self.select(service, &key_of_flow, kind, tcp_flags(frame, packet))?;
                choice.alternative = None;
                let (backend, hash) = (choice.backend, choice.hash);
                let opens = matches!(kind, Kind::Syn { .. });
                let sent = self.towards_backend(frame, packet, service, choice, opens)?;
                if sent.reason != Some(Reason::TooBigAnswered) {
                    self.remember(key, service, backend, hash, false, range.1);
                }
                Ok(sent)
            }
            Found::FirstReply(service, backend) => {
                let sent = self.towards_client(frame, packet, service, backend)?;
                self.remember(key, service, backend, 0, true, range.1);
                Ok(sent)
            }
            Found::ByAddresses(_) => Err(Reason::Inconsistent),
        }
    }

    fn remember(
        &mut self,
        key: DatagramKey,
        service: usize,
        backend: u16,
        hash: u32,
        is_reply: bool,
        end: usize,
    ) {
        self.datagrams.insert(
            key,
            Datagram {
                service,
                backend,
                hash,
                is_reply,
                seen_s: self.now_s,
                is_broken: false,
                pieces: BTreeMap::from([(0, end)]),
                end: None,
            },
        );
    }

    fn look_into(
        &self,
        frame: &[u8],
        packet: &Packet,
        fragment: Fragment,
    ) -> Result<Found, Reason> {
        if packet.end > frame.len() {
            return Err(Reason::Truncated);
        }
        match packet.transport {
            // Nobody but who puts them together can answer them.
            Transport::Icmp => return Err(Reason::IcmpOther),
            Transport::Other if fragment.offset != 0 && is_extension(packet) => {}
            Transport::Other => return Err(Reason::OtherProtocol),
            Transport::Tcp | Transport::Udp => {}
        }
        if fragment.offset != 0 {
            if packet.end < packet.ip + fragment.at {
                return Err(Reason::Truncated);
            }
            let by_addresses = self.world.services.iter().position(|service| {
                service.fragments_by_address
                    && service.vip.ip() == packet.destination
                    && service.protocol == packet.number
            });
            return Ok(by_addresses.map_or(Found::Later, Found::ByAddresses));
        }
        check_beginning(frame, packet)?;
        let (from, to, number) = (packet.from(frame), packet.to(frame), packet.protocol());
        if let Some(service) = self.world.service_at(to, number) {
            return Ok(if self.world.services[service].fragments_by_address {
                Found::ByAddresses(service)
            } else {
                Found::First(service)
            });
        }
        if self.world.has(feature::DNAT)
            && let Some((service, backend)) = self.world.replier(from, number)
        {
            return Ok(Found::FirstReply(service, backend));
        }
        Err(Reason::NotForService)
    }

    /// The way of another fragment than the first.
    fn later(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        datagram: &Datagram,
    ) -> Result<Sent, Reason> {
        if datagram.is_reply {
            return self.towards_client(frame, packet, datagram.service, datagram.backend);
        }
        let choice = Choice {
            backend: datagram.backend,
            alternative: None,
            hash: datagram.hash,
        };
        self.towards_backend(frame, packet, datagram.service, choice, false)
    }

    /// The way of a fragment whose service chooses by the addresses of its datagram.
    fn by_addresses(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
    ) -> Result<Sent, Reason> {
        let of = &self.world.services[service];
        let (from, to) = (
            SocketAddr::new(packet.source, 0),
            SocketAddr::new(packet.destination, 0),
        );
        let key = FlowKey::between(from, to, of.protocol).ok_or(Reason::NotForService)?;
        let hash = if of.has(service_state::CLIENT_IP) {
            key.client_hash(self.world.hash_key)
        } else {
            key.hash(self.world.hash_key)
        };
        if of.has(service_state::REFUSE) {
            return Err(Reason::AllDown);
        }
        let pool = &self.world.pools[of.pool];
        let word = pool.slots[hash::slot(hash, pool.slots.len() as u32) as usize];
        let backend = if word.is_marked() {
            word.target()
        } else {
            word.stable()
        };
        if backend == 0 {
            return Err(Reason::NoBackend);
        }
        let choice = Choice {
            backend,
            alternative: None,
            hash,
        };
        self.towards_backend(frame, packet, service, choice, false)
    }

    fn towards_backend(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        choice: Choice,
        opens: bool,
    ) -> Result<Sent, Reason> {
        let mut out = frame.to_vec();
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
            if is_first(packet) {
                self.towards(&mut out, packet, choice.backend)?;
            } else {
                let to = self.world.backend(choice.backend);
                let to = to.ok_or(Reason::Inconsistent)?.address.ip();
                readdress(&mut out, packet, packet.destination_at(), to);
            }
        }
        let bound = Bound {
            service,
            choice,
            way,
            opens,
        };
        self.send(frame, out, packet, bound)
    }

    fn towards_client(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        backend: u16,
    ) -> Result<Sent, Reason> {
        let way = self.way_to_client(packet.destination, packet.ttl)?;
        let mut out = frame.to_vec();
        packet.take_hop(&mut out)?;
        let vip = self.world.services[service].vip;
        let at = packet.source_at();
        if is_first(packet) {
            translate(&mut out, packet, at, packet.transport_at, vip);
        } else {
            readdress(&mut out, packet, at, vip.ip());
        }
        let action = self.leave(&mut out, way)?;
        Ok(Sent {
            frame: out,
            action,
            reason: None,
            counter: self.reply_counter(service, backend, frame.len()),
        })
    }
}

fn is_first(packet: &Packet) -> bool {
    packet.fragment.is_none_or(|fragment| fragment.offset == 0)
}

/// Writes another address into the IP header; what of the transport's checksum follows from it is in the
/// first fragment.
fn readdress(out: &mut [u8], packet: &Packet, at: usize, to: IpAddr) {
    let checksums: Vec<usize> = packet.header_checksum_at().into_iter().collect();
    rewrite(out, at, &octets(to), &checksums);
}

/// Whether a later fragment's number is that of an extension header, which hides what the datagram carries.
fn is_extension(packet: &Packet) -> bool {
    packet.v6 && [0, 43, 44, 51, 60].contains(&packet.number)
}

/// The beginning of a datagram has its whole transport header (RFC 1858, RFC 7112).
fn check_beginning(frame: &[u8], packet: &Packet) -> Result<(), Reason> {
    let at = packet.transport_at;
    let room = packet.end.saturating_sub(at);
    let is_tcp = packet.number == protocol::TCP;
    if room < if is_tcp { TCP_BYTES } else { UDP_BYTES } {
        return Err(Reason::FragmentTiny);
    }
    if is_tcp {
        let header = usize::from(frame[at + 12] >> 4) * 4;
        if header < TCP_BYTES {
            return Err(Reason::Truncated);
        }
        if header > room {
            return Err(Reason::FragmentTiny);
        }
    } else if usize::from(be16(frame, at + 4)) < UDP_BYTES {
        // What it says is the length of the whole datagram.
        return Err(Reason::Truncated);
    }
    Ok(())
}

fn check_length(packet: &Packet, fragment: Fragment, bytes: usize) -> Result<(), Reason> {
    // Headers of every fragment count for the whole packet, but that which makes it one.
    let headers = if packet.v6 {
        fragment.at - 48
    } else {
        fragment.at.max(IPV4_BYTES)
    };
    let uneven = fragment.more && !bytes.is_multiple_of(8);
    if bytes == 0 || uneven || headers + fragment.offset + bytes > BYTES_MAX {
        return Err(Reason::FragmentLength);
    }
    Ok(())
}
