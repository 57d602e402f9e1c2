//! Full NAT: the client's packets get a source address and port of this host's, by which the backend's
//! replies come back and are told apart. What a port's word means stands in [`xlb_common::nat`].

mod error;
mod ports;

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, macros::xdp, programs::XdpContext};
use xlb_common::{
    checksum,
    maps::{Backend, Service, feature, protocol, way},
    nat::{self, Says, Sender, state},
    reason::Reason,
    wire::{TcpHeader, UdpHeader},
};

use self::ports::{Flow, Used};
use crate::{
    counters,
    family::{Family, V4, V6},
    frame::{Frame, Network, Odd},
    globals,
    icmp::quoted::IcmpFamily,
    maps::{BACKENDS, SERVICES},
    packet::{Packet, Ports, Transport},
    rewrite::udp_checksum,
    transmit, vlan,
    ways::{self, Handover, conclude, task},
};

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// The program of services under full NAT, of what comes to its source addresses, and of errors about
/// either.
#[xdp]
#[inline(always)]
pub fn xlb_nat(ctx: XdpContext) -> u32 {
    if !globals::has(feature::FULL_NAT) {
        return conclude(Reason::WayMissing);
    }
    let way = match Frame::new(&ctx).network() {
        Network::Ipv4 if globals::has(feature::IPV4) => translate::<V4>(&mut ways::frame(&ctx)),
        Network::Ipv6 if globals::has(feature::IPV6) => translate::<V6>(&mut ways::frame(&ctx)),
        _ => Err(Reason::NotIp),
    };
    let action = match way {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    };
    vlan::put_back(&ctx, action)
}

#[inline(always)]
fn translate<F: IcmpFamily>(frame: &mut Frame<'_, Odd>) -> Result<u32, Reason> {
    let handover = ways::handed_over();
    match handover.task {
        task::NAT_ERROR => error::towards_backend::<F>(frame, &handover),
        task::NAT_ERROR_REPLY => error::towards_client::<F>(frame, &handover),
        task::NAT_REPLY => towards_client(frame, &parse::<F>(frame)?, handover.service),
        _ => towards_backend(frame, &parse::<F>(frame)?, &handover),
    }
}

/// A packet whose headers the program before has looked at.
#[inline(always)]
fn parse<F: Family>(frame: &Frame<'_, Odd>) -> Result<Packet<F>, Reason> {
    let (source, destination) = F::ends(frame, crate::frame::NETWORK_OFFSET)?;
    let offset = frame.transport(F::TRANSPORT_OFFSET);
    let transport = match frame.carries(0) {
        protocol::TCP => {
            let tcp = frame.at::<TcpHeader>(offset)?;
            Transport::Tcp {
                ports: Ports {
                    source_be: tcp.source_port_be,
                    destination_be: tcp.destination_port_be,
                },
                flags: tcp.flags,
                sequence: 0,
            }
        }
        protocol::UDP => {
            let udp = frame.at::<UdpHeader>(offset)?;
            Transport::Udp {
                ports: Ports {
                    source_be: udp.source_port_be,
                    destination_be: udp.destination_port_be,
                },
            }
        }
        _ => return Err(Reason::NotForService),
    };
    Ok(Packet {
        source,
        destination,
        transport,
        frame_bytes: frame.length() as u64,
    })
}

/// Sends a client's packet to the backend that was selected, from the port that its connection has.
#[inline(always)]
fn towards_backend<F: Family>(
    frame: &mut Frame<'_, Odd>,
    packet: &Packet<F>,
    handover: &Handover,
) -> Result<u32, Reason> {
    let (protocol, ports) = packet.transport.endpoint().ok_or(Reason::NotForService)?;
    let service = SERVICES.get(handover.service).ok_or(Reason::Inconsistent)?;
    let backend = BACKENDS.get(handover.backend).ok_or(Reason::Inconsistent)?;
    let hop = transmit::hop_of(backend)?;
    if !fits::<F>(frame, hop.egress.mtu)? {
        return Ok(too_big(frame, hop.egress.mtu));
    }
    let now_s = now_s();
    let flow = ports::flow::<F>(packet.source, packet.destination, ports, protocol);
    let flags = flags(packet.transport);
    let row = row(Sender::Client, flags);
    let used = ports::of_flow::<F>(&flow, handover.backend, now_s, row);
    let index = match used {
        Used::Port(index) => index,
        Used::None if flags & OPENS == 0 => return Err(Reason::NatUnknown),
        // If it has moved, the backend that it was at is no more: the next one answers by a reset.
        Used::None | Used::Moved => {
            let hash = F::hash(globals::hash_key(), packet, ports, protocol);
            open::<F>(service, handover.backend, &flow, hash, now_s)?
        }
    };
    let source = ports::source(index).ok_or(Reason::Inconsistent)?;
    F::hop(frame)?;
    let to = (F::address(&backend.address), backend.port_be);
    let from = (F::address(&source.address), nat::port_of(index).to_be());
    set_ends::<F>(frame, protocol, from, to)?;
    let action = transmit::transmit(frame, &hop)?;
    counters::forwarded(service, backend, packet);
    Ok(action)
}

/// Finds a port for a new connection.
#[inline(always)]
fn open<F: Family>(
    service: &Service,
    backend: u32,
    flow: &Flow,
    hash: u32,
    now_s: u32,
) -> Result<u32, Reason> {
    let wanted = ports::Wanted {
        service: service.number,
        backend,
        idle_s: service.idle_s,
        is_udp: ports::protocol_of(flow) == protocol::UDP,
        hash: xlb_common::hash::another(hash),
    };
    ports::open(F::NUMBER == 6, flow, &wanted, now_s)
}

/// Sends a backend's reply to the client whose connection has the port, as from the VIP.
#[inline(always)]
fn towards_client<F: Family>(
    frame: &mut Frame<'_, Odd>,
    packet: &Packet<F>,
    source: u32,
) -> Result<u32, Reason> {
    let (protocol, ports) = packet.transport.endpoint().ok_or(Reason::NotForService)?;
    let is_udp = protocol == protocol::UDP;
    let index = nat::index(source, is_udp, u16::from_be(ports.destination_be));
    let now_s = now_s();
    let held = ports::held::<F>(index, now_s)?;
    let backend = BACKENDS.get(held.backend).ok_or(Reason::Inconsistent)?;
    if !is_from::<F>(backend, packet.source, ports.source_be) {
        return Err(Reason::NotForService);
    }
    if held.has_moved {
        return Err(Reason::NatUnknown);
    }
    let service = SERVICES.get(held.service).ok_or(Reason::Inconsistent)?;
    let (client, vip) = (
        ports::client_of::<F>(&held.flow),
        ports::vip_of::<F>(&held.flow),
    );
    let route = transmit::route_to::<F>(client)?;
    if let Some(mtu) = transmit::mtu_of(route)
        && !fits::<F>(frame, mtu)?
    {
        return Ok(too_big(frame, mtu));
    }
    let row = row(Sender::Backend, flags(packet.transport));
    if !ports::touch::<F>(held.entry, held.word, held.idle_s, now_s, row) {
        return Err(Reason::NatRaced);
    }
    F::hop(frame)?;
    let ends = ports::ports_of(&held.flow);
    let (from, to) = ((vip, ends.destination_be), (client, ends.source_be));
    set_ends::<F>(frame, protocol, from, to)?;
    let action = transmit::to_client::<F>(frame, route, vip, client)?;
    counters::replied(service, held.backend as u16, packet);
    Ok(action)
}

/// Whether a packet comes from where a backend has its service.
#[inline(always)]
fn is_from<F: Family>(backend: &Backend, address: F::Address, port_be: u16) -> bool {
    F::equal(F::address(&backend.address), address) && backend.port_be == port_be
}

/// Whether a packet fits the interface that it leaves by, which only matters where that is another than
/// it came in by.
#[inline(always)]
fn fits<F: Family>(frame: &Frame<'_, Odd>, mtu: u16) -> Result<bool, Reason> {
    Ok(!globals::has(feature::REDIRECT) || mtu == 0 || F::ip_bytes(frame)? <= usize::from(mtu))
}

/// Has the sender told that its packet is too big.
#[inline(always)]
fn too_big(frame: &Frame<'_, Odd>, mtu: u16) -> u32 {
    let handover = Handover {
        task: task::TOO_BIG,
        mtu: mtu.into(),
        ..Handover::default()
    };
    ways::hand_over(frame, way::ICMP, handover)
}

/// Sets source and destination, and follows with the checksums.
#[inline(always)]
fn set_ends<F: Family>(
    frame: &mut Frame<'_, Odd>,
    protocol: u8,
    from: (F::Address, u16),
    to: (F::Address, u16),
) -> Result<(), Reason> {
    let addresses = F::set_source(frame, from.0)? + F::set_destination(frame, to.0)?;
    let transport = frame.transport(F::TRANSPORT_OFFSET);
    if protocol == protocol::TCP {
        let tcp = frame.at_mut::<TcpHeader>(transport)?;
        let difference = addresses
            + checksum::difference16(tcp.source_port_be, from.1)
            + checksum::difference16(tcp.destination_port_be, to.1);
        (tcp.source_port_be, tcp.destination_port_be) = (from.1, to.1);
        tcp.checksum = checksum::update(tcp.checksum, difference);
    } else {
        let udp = frame.at_mut::<UdpHeader>(transport)?;
        let difference = addresses
            + checksum::difference16(udp.source_port_be, from.1)
            + checksum::difference16(udp.destination_port_be, to.1);
        (udp.source_port_be, udp.destination_port_be) = (from.1, to.1);
        udp.checksum = udp_checksum(udp.checksum, difference);
    }
    Ok(())
}

/// Stands for a datagram among the flags of segments.
const DATAGRAM: u32 = 1 << 8;
/// Among the flags: the packet may open a connection.
const OPENS: u32 = 1 << 9;

/// The flags of a segment. A number rather than booleans, which would go over the stack, where the
/// compiler reads two of them at once at an odd offset, and the verifier refuses that.
#[inline(always)]
const fn flags(transport: Transport) -> u32 {
    match transport {
        Transport::Tcp { flags, .. } if TcpHeader::opens(flags) => flags as u32 | OPENS,
        Transport::Tcp { flags, .. } => flags as u32,
        _ => DATAGRAM | OPENS,
    }
}

/// The row of the table of states that packets with these flags have.
#[inline(always)]
const fn row(from: Sender, flags: u32) -> u32 {
    let from = nat::row(from, false, NOTHING);
    if flags & DATAGRAM != 0 {
        return from | nat::row(Sender::Client, true, NOTHING);
    }
    const {
        // The row's bits are those of the segment, in another order.
        assert!(TcpHeader::FIN == 1 && TcpHeader::SYN == 2 && TcpHeader::RST == 4);
    }
    from | flags & 1 | (flags & 2) << 1 | (flags & 4) >> 1
}

/// Of a packet that says nothing of its connection.
const NOTHING: Says = Says {
    syn: false,
    fin: false,
    rst: false,
};

/// State of a new connection.
#[inline(always)]
const fn first(is_udp: bool) -> u8 {
    if is_udp {
        state::ONE_WAY
    } else {
        state::OPENING
    }
}

#[inline(always)]
fn now_s() -> u32 {
    // SAFETY: the helper takes nothing and gives a number.
    (unsafe { bpf_ktime_get_coarse_ns() } / SECOND_NS) as u32
}
