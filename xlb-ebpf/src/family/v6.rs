//! IPv6.

use aya_ebpf::bindings::bpf_fib_lookup;
use xlb_common::{
    checksum,
    endpoint::{self, Endpoint6, EndpointTarget},
    flow, fragment, gue,
    maps::{Backend, FlowKey, NextHop, feature, protocol},
    reason::Reason,
    wide::direction,
    wire::{IcmpHeader, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, UdpHeader},
};
use xlb_ebpf::{lpm, tunnel::Tunnel};

use super::{
    Family, V4, extensions,
    outer::{self, Inner},
    wide,
};
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
    const FRAGMENTS_LIFETIME_S: u32 = fragment::LIFETIME6_S;
    const FRAGMENT_BYTES_UNCOUNTED: usize =
        size_of::<Ipv6Header>() + size_of::<Ipv6FragmentHeader>();

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
    fn ends(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<([u64; 2], [u64; 2]), Reason> {
        let Ok(ip) = frame.at::<Ipv6Header>(offset) else {
            return Err(Reason::BadHeader);
        };
        Ok((ip.source, ip.destination))
    }

    #[inline(always)]
    fn find_vip(address: [u64; 2], port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        let exact = endpoint::find(
            Endpoint6::new(address, port_be, protocol),
            globals::vips6_mask(),
            |index| VIPS6.get(index),
        );
        if globals::has(feature::WIDE) && exact.is_none() {
            return wide::find6(direction::VIP, address, port_be, protocol);
        }
        exact
    }

    #[inline(always)]
    fn find_reply(address: [u64; 2], port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        let exact = endpoint::find(
            Endpoint6::new(address, port_be, protocol),
            globals::replies6_mask(),
            |index| REPLIES6.get(index),
        );
        if globals::has(feature::WIDE) && exact.is_none() {
            return wide::find6(direction::REPLY, address, port_be, protocol);
        }
        exact
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
    fn key(address: [u64; 2]) -> [u64; 2] {
        address
    }

    #[inline(always)]
    fn of_key(words: [u64; 2]) -> [u64; 2] {
        words
    }

    #[inline(always)]
    fn is_between(number: u8) -> bool {
        extensions::is_one(number)
    }

    #[inline(always)]
    fn equal(a: [u64; 2], b: [u64; 2]) -> bool {
        a[0] == b[0] && a[1] == b[1]
    }

    #[inline(always)]
    fn share(a: [u64; 2], b: [u64; 2], bits: u8) -> bool {
        let (high, low) = (u64::from_be(a[0] ^ b[0]), u64::from_be(a[1] ^ b[1]));
        if bits <= 64 {
            high >> (64_u32.wrapping_sub(bits.into()) & 63) == 0
        } else {
            high == 0 && low >> (128_u32.wrapping_sub(bits.into()) & 63) == 0
        }
    }

    #[inline(always)]
    fn ip_bytes(frame: &Frame<'_, impl Layout>) -> Result<usize, Reason> {
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
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
        let ip = *frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let has_checksum = T::IS_UDP && Self::has_checksum(frame, &ip)?;
        let extensions = if T::IS_UDP {
            extensions::sum(frame, Self::TRANSPORT_OFFSET)?
        } else {
            0
        };
        let carries = frame.carries(ip.next_header);
        let inner = within(&ip, entropy);
        outer::ipv6::<T>(frame, backend, mtu, &inner, |udp| {
            if has_checksum {
                gue::checksum6(backend.outer_sum.into(), udp, &ip, carries, extensions)
            } else {
                0
            }
        })
    }

    #[inline(always)]
    fn encapsulate_across<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason> {
        let ip = *frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        // Nobody fragments IPv6 on its way, so that the outer header says so too, and needs no
        // identification (RFC 6864).
        let flags_be = Ipv4Header::DONT_FRAGMENT_BE;
        outer::ipv4::<T>(frame, backend, mtu, &within(&ip, entropy), flags_be, 0)
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

/// What outer headers take from a packet.
#[inline(always)]
fn within(ip: &Ipv6Header, entropy: u32) -> Inner {
    Inner {
        bytes: u32::from(u16::from_be(ip.payload_length_be)) + size_of::<Ipv6Header>() as u32,
        number: protocol::IPV6,
        traffic_class: (u32::from_be(ip.version_class_flow_be) >> 20) as u8,
        ttl: ip.hop_limit,
        entropy,
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
