//! IPv6.

use aya_ebpf::bindings::bpf_fib_lookup;
use xlb_common::{
    checksum,
    endpoint::{self, Endpoint6, EndpointTarget},
    flow, gue,
    maps::{Backend, FlowKey, NextHop, feature, protocol},
    reason::Reason,
    wire::{
        ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader, IcmpHeader, Ipv4Header, Ipv6Header,
        UdpHeader,
    },
};
use xlb_ebpf::{lpm, tunnel::Tunnel};

use super::{Family, V4, extensions, v4};
use crate::{
    frame::{Frame, Layout, NETWORK_OFFSET},
    globals,
    maps::{REPLIES6, ROUTES6, VIPS6},
    packet::{self, Fragment, Headers, Packet, Ports},
};

/// IPv6.
pub struct V6;

/// Hop limit of packets that begin here (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// Address family of IPv6 in the kernel.
const AF_INET6: u8 = 10;

impl Family for V6 {
    type Address = [u64; 2];
    type Other = V4;
    const NUMBER: u8 = 6;
    const FEATURE: u32 = feature::IPV6;
    const ICMP: u8 = protocol::ICMPV6;
    const TRANSPORT_OFFSET: usize = NETWORK_OFFSET + size_of::<Ipv6Header>();
    const OUTER_BYTES: usize = size_of::<Ipv6Header>();

    #[inline(always)]
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, Reason> {
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        if u32::from_be(ip.version_class_flow_be) >> 28 != 6 {
            return Err(Reason::BadHeader);
        }
        let ip_bytes = u16::from_be(ip.payload_length_be) as usize + size_of::<Ipv6Header>();
        Ok(Packet {
            source: ip.source,
            destination: ip.destination,
            transport: packet::transport::<Self>(frame, ip.next_header, ip_bytes),
            frame_bytes: frame.length() as u64,
        })
    }

    #[inline(always)]
    fn look_through(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<Headers, Reason> {
        let Ok(ip) = frame.at::<Ipv6Header>(offset) else {
            return Err(Reason::BadHeader);
        };
        if u32::from_be(ip.version_class_flow_be) >> 28 != 6 {
            return Err(Reason::BadHeader);
        }
        let mut headers = Headers {
            number: ip.next_header,
            transport: offset + size_of::<Ipv6Header>(),
            fragment: Fragment::WHOLE,
        };
        extensions::look_through(frame, &mut headers)?;
        Ok(headers)
    }

    #[inline(always)]
    fn check_options(_frame: &Frame<'_, impl Layout>, _headers: &Headers) -> Result<(), Reason> {
        Ok(())
    }

    #[inline(always)]
    fn ends(frame: &Frame<'_, impl Layout>) -> Result<([u64; 2], [u64; 2]), Reason> {
        let Ok(ip) = frame.at::<Ipv6Header>(frame.network()) else {
            return Err(Reason::BadHeader);
        };
        Ok((ip.source, ip.destination))
    }

    #[inline(always)]
    fn find_vip(address: [u64; 2], port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        endpoint::find(
            Endpoint6::new(address, port_be, protocol),
            globals::vips6_mask(),
            |index| VIPS6.get(index),
        )
    }

    #[inline(always)]
    fn find_reply(address: [u64; 2], port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        endpoint::find(
            Endpoint6::new(address, port_be, protocol),
            globals::replies6_mask(),
            |index| REPLIES6.get(index),
        )
    }

    #[inline(always)]
    fn hash(key: [u64; 2], packet: &Packet<Self>, ports: Ports, protocol: u8) -> u32 {
        flow::hash6(
            key,
            packet.source,
            packet.destination,
            ports.word(),
            protocol,
        )
    }

    #[inline(always)]
    fn client_hash(key: [u64; 2], packet: &Packet<Self>) -> u32 {
        flow::client_hash6(key, packet.source)
    }

    #[inline(always)]
    fn flow_key(packet: &Packet<Self>, ports: Ports, protocol: u8) -> FlowKey {
        FlowKey {
            source: packet.source,
            destination: packet.destination,
            source_port_be: ports.source_be,
            destination_port_be: ports.destination_be,
            protocol,
            family: Self::NUMBER,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn address(bytes: &[u8; 16]) -> [u64; 2] {
        // SAFETY: sixteen bytes are read, at whatever alignment they have.
        unsafe { bytes.as_ptr().cast::<[u64; 2]>().read_unaligned() }
    }

    #[inline(always)]
    fn equal(a: [u64; 2], b: [u64; 2]) -> bool {
        a[0] == b[0] && a[1] == b[1]
    }

    #[inline(always)]
    fn ip_bytes(frame: &Frame<'_, impl Layout>) -> Result<usize, Reason> {
        let ip = frame.at::<Ipv6Header>(frame.network())?;
        Ok(u16::from_be(ip.payload_length_be) as usize + size_of::<Ipv6Header>())
    }

    #[inline(always)]
    fn hop(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)?;
        if ip.hop_limit <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.hop_limit -= 1;
        Ok(())
    }

    #[inline(always)]
    fn set_destination(frame: &mut Frame<'_, impl Layout>, new: [u64; 2]) -> Result<u64, Reason> {
        let ip = frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)?;
        let old = ip.destination;
        ip.destination = new;
        Ok(difference(old, new))
    }

    #[inline(always)]
    fn set_source(frame: &mut Frame<'_, impl Layout>, new: [u64; 2]) -> Result<u64, Reason> {
        let ip = frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)?;
        let old = ip.source;
        ip.source = new;
        Ok(difference(old, new))
    }

    #[inline(always)]
    fn encapsulate<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason> {
        let inner = *frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let payload = u32::from(u16::from_be(inner.payload_length_be))
            + size_of::<Ipv6Header>() as u32
            + T::BYTES as u32;
        let has_checksum = !T::IS_UDP || Self::has_checksum(frame, &inner)?;
        let extensions = if T::IS_UDP {
            extensions::sum(frame, Self::TRANSPORT_OFFSET)?
        } else {
            0
        };
        if payload + size_of::<Ipv6Header>() as u32 > u32::from(mtu) {
            return Err(Reason::TooBig);
        }
        let number = if T::IS_UDP {
            protocol::UDP
        } else {
            protocol::IPV6
        };
        frame.grow_front(Self::OUTER_BYTES + T::BYTES)?;
        frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV6_BE;
        // Version and traffic class as inside; the flow label is where routers look for entropy
        // (RFC 6438).
        let class = u32::from_be(inner.version_class_flow_be) & 0xfff0_0000;
        *frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)? = Ipv6Header {
            version_class_flow_be: (class | (entropy & 0x000f_ffff)).to_be(),
            payload_length_be: (payload as u16).to_be(),
            next_header: number,
            hop_limit: xlb_common::maps::OUTER_TTL,
            source: Self::address(&backend.outer_source),
            destination: Self::address(&backend.address),
        };
        if T::IS_UDP {
            let mut udp = UdpHeader {
                source_port_be: gue::source_port_be(entropy),
                destination_port_be: gue::PORT_BE,
                length_be: (payload as u16).to_be(),
                checksum: 0,
            };
            if has_checksum {
                let carries = frame.carries(inner.next_header);
                udp.checksum =
                    gue::checksum6(backend.outer_sum.into(), &udp, &inner, carries, extensions);
            }
            *frame.at_mut::<UdpHeader>(Self::TRANSPORT_OFFSET)? = udp;
        }
        frame.is_within_outer(Self::TRANSPORT_OFFSET, number);
        Ok(())
    }

    #[inline(always)]
    fn encapsulate_across<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason> {
        let outer_bytes = V4::OUTER_BYTES + T::BYTES;
        let inner = *frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let inner_bytes =
            u32::from(u16::from_be(inner.payload_length_be)) + size_of::<Ipv6Header>() as u32;
        let total_length = inner_bytes + outer_bytes as u32;
        if total_length > u32::from(mtu) {
            return Err(Reason::TooBig);
        }
        frame.grow_front(outer_bytes)?;
        frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV4_BE;
        let tos = (u32::from_be(inner.version_class_flow_be) >> 20) as u8;
        let total_length_be = (total_length as u16).to_be();
        // Nobody fragments IPv6 on its way, so that the outer header says so too, and needs no
        // identification (RFC 6864).
        let flags_be = Ipv4Header::DONT_FRAGMENT_BE;
        let number = if T::IS_UDP {
            protocol::UDP
        } else {
            protocol::IPV6
        };
        let sum = u64::from(backend.outer_sum)
            + checksum::difference16(v4::ttl_word(protocol::IPV4), v4::ttl_word(number))
            + (u64::from(tos) << 8)
            + u64::from(total_length_be)
            + u64::from(flags_be);
        *frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)? = Ipv4Header {
            version_ihl: Ipv4Header::VERSION_IHL,
            tos,
            total_length_be,
            identification_be: 0,
            flags_fragment_be: flags_be,
            ttl: xlb_common::maps::OUTER_TTL,
            protocol: number,
            checksum: checksum::finish(sum),
            source_be: V4::address(&backend.outer_source),
            destination_be: V4::address(&backend.address),
        };
        if T::IS_UDP {
            *frame.at_mut::<UdpHeader>(V4::TRANSPORT_OFFSET)? = UdpHeader {
                source_port_be: gue::source_port_be(entropy),
                destination_port_be: gue::PORT_BE,
                length_be: (total_length as u16 - V4::OUTER_BYTES as u16).to_be(),
                // What is within has checksums of its own.
                checksum: 0,
            };
        }
        frame.is_within_outer(V4::TRANSPORT_OFFSET, number);
        Ok(())
    }

    #[inline(always)]
    fn answer_echo(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let icmp = frame.at_mut::<IcmpHeader>(frame.transport(Self::TRANSPORT_OFFSET))?;
        if icmp.type_code != IcmpHeader::ECHO_REQUEST_V6 {
            return Err(Reason::IcmpOther);
        }
        icmp.checksum = checksum::update(
            icmp.checksum,
            checksum::difference16(IcmpHeader::ECHO_REQUEST_V6, IcmpHeader::ECHO_REPLY_V6),
        );
        icmp.type_code = IcmpHeader::ECHO_REPLY_V6;
        let ip = frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)?;
        (ip.source, ip.destination) = (ip.destination, ip.source);
        ip.hop_limit = HOP_LIMIT;
        Ok(())
    }

    #[inline(always)]
    fn route(address: [u64; 2]) -> Option<NextHop> {
        lpm::get6(&ROUTES6, address).map(|&word| NextHop(word))
    }

    #[inline(always)]
    fn fib_request(from: [u64; 2], to: [u64; 2], ifindex: u32) -> bpf_fib_lookup {
        // SAFETY: zeros are a valid value of this struct of integers.
        let mut request: bpf_fib_lookup = unsafe { core::mem::zeroed() };
        request.family = AF_INET6;
        request.ifindex = ifindex;
        request.__bindgen_anon_3.ipv6_src = words(from);
        request.__bindgen_anon_4.ipv6_dst = words(to);
        request
    }

    #[inline(always)]
    fn event_address(address: [u64; 2]) -> [u8; 16] {
        // SAFETY: both are sixteen plain bytes.
        unsafe { core::mem::transmute(address) }
    }
}

impl V6 {
    /// Whether a packet has a checksum that covers all of it but its IP header. Around one that has
    /// not, a UDP header goes without as well (RFC 6935).
    #[inline(always)]
    fn has_checksum(frame: &Frame<'_, impl Layout>, ip: &Ipv6Header) -> Result<bool, Reason> {
        Ok(match frame.carries(ip.next_header) {
            protocol::TCP | protocol::ICMPV6 => true,
            protocol::UDP => {
                let offset = frame.transport(Self::TRANSPORT_OFFSET);
                let udp = frame.at::<UdpHeader>(offset)?;
                let end = size_of::<Ipv6Header>() + u16::from_be(ip.payload_length_be) as usize;
                let udp_bytes = u16::from_be(udp.length_be) as usize;
                // What may follow the datagram is not covered.
                udp.checksum != 0 && offset - NETWORK_OFFSET + udp_bytes == end
            }
            _ => false,
        })
    }
}

#[inline(always)]
fn words(address: [u64; 2]) -> [u32; 4] {
    // SAFETY: both are sixteen plain bytes.
    unsafe { core::mem::transmute(address) }
}

/// The change of a sum when an address becomes another.
#[inline(always)]
pub fn difference(old: [u64; 2], new: [u64; 2]) -> u64 {
    checksum::difference32(old[0] as u32, new[0] as u32)
        + checksum::difference32((old[0] >> 32) as u32, (new[0] >> 32) as u32)
        + checksum::difference32(old[1] as u32, new[1] as u32)
        + checksum::difference32((old[1] >> 32) as u32, (new[1] >> 32) as u32)
}
