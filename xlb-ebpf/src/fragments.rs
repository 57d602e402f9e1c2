//! Fragments: the first of a datagram has the ports, and the others follow it (RFC 791, RFC 8200); or all
//! of them go where their addresses say, where the service wants that.
//!
//! What a step finds it writes to a map, from where the next one reads it again: so the verifier knows no
//! longer by which of many ways it was found, and walks on for all of them at once.

mod memory;

use aya_ebpf::{
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use xlb_common::{
    fragment::{self, FragmentRecord, Search, UNIT_BYTES, fragment_flag},
    maps::{FlowKey, Service, feature, forward, protocol, service_option},
    reason::Reason,
    wire::extension,
};

use crate::{
    family::{Family, V4, V6},
    frame::{Frame, NETWORK_OFFSET, Network, Odd},
    globals,
    maps::{BACKENDS, SERVICES},
    odd::to_vip,
    packet::{self, Fragment, Packet, Ports, Transport},
    select::{self, Selected},
    services::{self, Found},
    to_backend, to_client, transmit, vlan,
    ways::{self, conclude},
};

/// Bytes that an IP packet can say that it has.
const PACKET_BYTES_MAX: usize = 65_535;

/// What is found out about the fragment at hand. Lives with the programs, unlike other maps.
#[map]
static STEPS: PerCpuArray<Step> = PerCpuArray::with_max_entries(1, 0);

/// What is found out about a fragment.
#[repr(C)]
struct Step {
    /// The datagram's key.
    key: FlowKey,
    /// What will be remembered of the datagram, or is.
    record: FragmentRecord,
    /// What is needed while a fragment is added to others.
    search: Search,
    /// One of [`way`].
    way: u32,
    /// Protocol number of the header whose ports are rewritten.
    protocol: u32,
    /// Ports that the fragment has.
    source_port_be: u32,
    destination_port_be: u32,
    /// Control bits of TCP, or the type of the first chunk of SCTP.
    flags: u32,
    /// Sequence number of TCP.
    sequence: u32,
}

/// Where a fragment's way goes on.
mod way {
    /// To a service that chooses by addresses.
    pub const BY_ADDRESSES: u32 = 1;
    /// The first of a datagram, to a service.
    pub const FIRST: u32 = 2;
    /// The first of a reply.
    pub const FIRST_REPLY: u32 = 3;
    /// Another one than the first.
    pub const LATER: u32 = 4;

    /// Whether a fragment is the first of a datagram that is to be remembered.
    #[inline(always)]
    pub const fn is_first(way: u32) -> bool {
        way == FIRST || way == FIRST_REPLY
    }
}

#[inline(always)]
fn step() -> Result<&'static mut Step, Reason> {
    match STEPS.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value, XDP is not preempted by itself, and no step holds the
        // reference of another.
        Some(step) => Ok(unsafe { &mut *step }),
        None => Err(Reason::Inconsistent),
    }
}

/// The program of fragments.
#[xdp]
#[inline(always)]
pub fn xlb_fragment(ctx: XdpContext) -> u32 {
    let frame = &mut ways::frame(&ctx);
    let done = match frame.network() {
        Network::Ipv4 => balance::<V4>(frame),
        Network::Ipv6 => balance::<V6>(frame),
        Network::Tagged | Network::Other => Err(Reason::NotIp),
    };
    let action = match done {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    };
    vlan::put_back(&ctx, action)
}

#[inline(always)]
fn balance<F: Family>(frame: &mut Frame<'_, Odd>) -> Result<u32, Reason> {
    if !globals::has(F::FEATURE) {
        return Err(Reason::NotForService);
    }
    let (source, destination) = F::ends(frame, NETWORK_OFFSET)?;
    let mut packet = Packet::<F> {
        source,
        destination,
        transport: Transport::Fragment,
        frame_bytes: frame.length() as u64,
    };
    let part = Part::of::<F>(frame);
    // What is wrong with a fragment concerns xlb only if its destination is a VIP, or its datagram is one
    // that is remembered.
    if let Err(reason) = look_into(frame, &mut packet, &part) {
        return Err(to_vip::<F>(destination, reason));
    }
    if step()?.way != way::BY_ADDRESSES {
        memory::note_key(&packet, &part)?;
        let before = memory::remembered::<F>()?;
        if before.is_null() && step()?.way == way::LATER {
            return Err(to_vip::<F>(destination, Reason::Fragment));
        }
        part.check_length::<F>()?;
        if !before.is_null() {
            memory::add(&part, before)?;
        }
    } else {
        part.check_length::<F>()?;
    }
    choose(&mut packet)?;
    // A part of a datagram has no checksum of its own that an outer header could rely on.
    frame.carries_part(extension::FRAGMENT);
    send(frame, &mut packet)
}

/// Which part of which datagram a packet is.
struct Part {
    fragment: Fragment,
    /// Protocol number of what it carries, or of what the datagram begins with.
    number: u8,
    /// Offset in the frame of its end.
    end: usize,
}

impl Part {
    #[inline(always)]
    fn of<F: Family>(frame: &Frame<'_, Odd>) -> Self {
        let handover = ways::handed_over();
        Self {
            fragment: handover.fragment(),
            number: handover.number as u8,
            end: match F::ip_bytes(frame) {
                Ok(bytes) => NETWORK_OFFSET + bytes,
                Err(_) => usize::MAX,
            },
        }
    }

    /// Where it begins and ends in its datagram, in bytes.
    #[inline(always)]
    const fn range(&self) -> (u32, u32) {
        let start = self.fragment.offset as u32;
        let bytes = self.end as u32 - self.fragment.start as u32;
        (start, start + bytes)
    }

    /// All fragments but the last have a multiple of eight bytes, all have some, and no packet is longer
    /// than its length can say.
    #[inline(always)]
    const fn check_length<F: Family>(&self) -> Result<(), Reason> {
        let (start, end) = self.range();
        let headers = self.fragment.start as usize - NETWORK_OFFSET;
        if start == end
            || (self.fragment.more && end % UNIT_BYTES != 0)
            || headers + end as usize > PACKET_BYTES_MAX + F::FRAGMENT_BYTES_UNCOUNTED
        {
            return Err(Reason::FragmentLength);
        }
        Ok(())
    }
}

/// Looks into a fragment as far as it has to be looked into, and notes what it is of.
#[inline(always)]
fn look_into<F: Family>(
    frame: &Frame<'_, Odd>,
    packet: &mut Packet<F>,
    part: &Part,
) -> Result<(), Reason> {
    if part.end > frame.length() {
        return Err(Reason::Truncated);
    }
    // Whoever has the address puts it together: xlb answers whole messages or nothing.
    if part.number == F::ICMP {
        return Err(Reason::IcmpOther);
    }
    if part.fragment.offset == 0 {
        return begin(frame, packet, part);
    }
    // With extension headers in the datagram itself, only its first fragment says what they lead to.
    if !is_balanced(part.number) && !F::is_between(part.number) {
        return Err(Reason::OtherProtocol);
    }
    if part.end < part.fragment.start as usize {
        return Err(Reason::Truncated);
    }
    let step = step()?;
    step.protocol = extension::FRAGMENT.into();
    step.way = way::LATER;
    let port_be = fragment::endpoint_port_be(part.number);
    if let Some(target) = F::find_vip(packet.destination, port_be, fragment::ENDPOINT_PROTOCOL) {
        step.record.service = target.service;
        step.way = way::BY_ADDRESSES;
    }
    Ok(())
}

/// Whether a service may be of this protocol.
#[inline(always)]
fn is_balanced(number: u8) -> bool {
    number == protocol::TCP
        || number == protocol::UDP
        || globals::has(feature::SCTP) && number == protocol::SCTP
}

/// Looks into the first fragment of a datagram.
#[inline(always)]
fn begin<F: Family>(
    frame: &Frame<'_, Odd>,
    packet: &mut Packet<F>,
    part: &Part,
) -> Result<(), Reason> {
    if !is_balanced(part.number) {
        return Err(Reason::OtherProtocol);
    }
    packet.transport = packet::beginning::<F>(frame, part.number, part.end)?;
    let step = step()?;
    step.protocol = part.number.into();
    (step.flags, step.sequence) = match packet.transport {
        Transport::Tcp {
            flags, sequence, ..
        } => (flags.into(), sequence),
        Transport::Sctp { chunk_type, .. } => (chunk_type.into(), 0),
        _ => (0, 0),
    };
    if let Some((_, ports)) = packet.transport.endpoint() {
        step.source_port_be = ports.source_be.into();
        step.destination_port_be = ports.destination_be.into();
    }
    match services::find(packet)? {
        Found::Service(service, ..)
            if globals::has(feature::FULL_NAT) && service.forward == forward::FULL_NAT =>
        {
            return Err(Reason::Fragment);
        }
        Found::Service(service, ..) => {
            step.record.service = service.number;
            step.way = if service.options & service_option::FRAGMENTS_BY_ADDRESS != 0 {
                way::BY_ADDRESSES
            } else {
                way::FIRST
            };
        }
        // Full NAT remembers connections by ports, which the other fragments have not.
        Found::Source(..) => return Err(Reason::Fragment),
        Found::Reply(service, backend) => {
            step.record.service = service.number;
            step.record.backend = backend;
            step.way = way::FIRST_REPLY;
        }
    }
    Ok(())
}

/// The service that a fragment is of.
#[inline(always)]
fn service_of(step: &Step) -> Result<&'static Service, Reason> {
    SERVICES
        .get(step.record.service)
        .ok_or(Reason::Inconsistent)
}

/// What a fragment has of its datagram's transport.
#[inline(always)]
fn transport_of(step: &Step) -> (Transport, Ports) {
    let ports = Ports {
        source_be: step.source_port_be as u16,
        destination_be: step.destination_port_be as u16,
    };
    let protocol = step.protocol as u8;
    let transport = if protocol == protocol::TCP {
        Transport::Tcp {
            ports,
            flags: step.flags as u8,
            sequence: step.sequence,
        }
    } else if globals::has(feature::SCTP) && protocol == protocol::SCTP {
        Transport::Sctp {
            ports,
            chunk_type: step.flags as u8,
        }
    } else if protocol == protocol::UDP {
        Transport::Udp { ports }
    } else {
        Transport::Fragment
    };
    (transport, ports)
}

/// Chooses a fragment's backend, and notes it.
#[inline(always)]
fn choose<F: Family>(packet: &mut Packet<F>) -> Result<(), Reason> {
    let step = step()?;
    let service = service_of(step)?;
    let (transport, ports) = transport_of(step);
    packet.transport = transport;
    let way = step.way;
    let selected = if way == way::BY_ADDRESSES {
        select::by_addresses(packet, service)?
    } else if way == way::FIRST {
        select::select(packet, service, ports, step.protocol as u8)?
    } else {
        remembered_backend(step)?
    };
    if way == way::LATER {
        let is_same_end = if step.record.flags & fragment_flag::REPLY != 0 {
            F::equal(F::address(&selected.backend.address), packet.source)
        } else {
            services::has_address::<F>(service, packet.destination)
        };
        if !is_same_end || fragment::identity(selected.backend) != step.record.identity {
            // One of them went meanwhile.
            return Err(Reason::Fragment);
        }
    } else {
        step.record.backend = selected.number;
        step.record.identity = fragment::identity(selected.backend);
        step.record.hash = selected.hash;
        step.record.flags = if way == way::FIRST_REPLY {
            fragment_flag::REPLY
        } else {
            0
        };
    }
    Ok(())
}

/// The backend that was noted, without an alternative: the other fragments of a datagram could not be told
/// from those of flows that the backend has.
#[inline(always)]
fn remembered_backend(step: &Step) -> Result<Selected, Reason> {
    let number = step.record.backend;
    let backend = BACKENDS
        .get(u32::from(number))
        .ok_or(Reason::Inconsistent)?;
    Ok(Selected {
        backend,
        number,
        hash: step.record.hash,
        alternative: 0,
    })
}

/// Sends a fragment on its way, and remembers where the first one of a datagram went.
#[inline(always)]
fn send<F: Family>(frame: &mut Frame<'_, Odd>, packet: &mut Packet<F>) -> Result<u32, Reason> {
    let step = step()?;
    let service = service_of(step)?;
    let selected = remembered_backend(step)?;
    (packet.transport, _) = transport_of(step);
    let protocol = step.protocol as u8;
    let is_reply = step.record.flags & fragment_flag::REPLY != 0;
    let sent = if globals::has(feature::DNAT) && is_reply {
        to_client(frame, packet, service, selected.number, protocol)
    } else {
        to_backend(frame, packet, service, &selected, protocol)
    };
    let has_gone = match sent {
        Ok(action) => transmit::has_left(action),
        Err(Reason::Local) => true,
        Err(_) => false,
    };
    if has_gone {
        memory::remember()?;
    }
    sent
}
