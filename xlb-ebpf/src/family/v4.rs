//! IPv4.

use aya_ebpf::bindings::bpf_fib_lookup;
use xlb_common::{
    checksum,
    endpoint::{self, Endpoint4, EndpointTarget},
    flow, fragment, gue,
    maps::{Backend, FlowKey, NextHop, feature, protocol},
    reason::Reason,
    wide::direction,
    wire::{IcmpHeader, Ipv4Header, UdpHeader, option},
};
use xlb_ebpf::{lpm, tunnel::Tunnel};

use super::{
    Family, V6,
    outer::{self, Inner},
    wide,
};
use crate::{
    frame::{Frame, Layout, NETWORK_OFFSET, bounded},
    globals,
    maps::{REPLIES4, ROUTES4, VIPS4},
    packet::{self, Fragment, Headers, Packet, Ports},
};

/// IPv4.
pub struct V4;

/// TTL of packets that begin here (RFC 1700).
const TTL: u8 = 64;

/// Address family of IPv4 in the kernel.
const AF_INET: u8 = 2;

impl Family for V4 {
    type Address = u32;
    type Other = V6;
    const NUMBER: u8 = 4;
    const FEATURE: u32 = feature::IPV4;
    const ICMP: u8 = protocol::ICMP;
    const TRANSPORT_OFFSET: usize = NETWORK_OFFSET + size_of::<Ipv4Header>();
    const OUTER_BYTES: usize = size_of::<Ipv4Header>();
    const FRAGMENTS_LIFETIME_S: u32 = fragment::LIFETIME4_S;
    const FRAGMENT_BYTES_UNCOUNTED: usize = 0;

    #[inline(always)]
    fn parse(frame: &Frame<'_>) -> Result<Packet<Self>, Reason> {
        let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        if ip.version_ihl != Ipv4Header::VERSION_IHL
            || ip.flags_fragment_be & Ipv4Header::FRAGMENT_BE != 0
        {
            return Err(Reason::BadHeader);
        }
        let ip_bytes = u16::from_be(ip.total_length_be) as usize;
        Ok(Packet {
            source: ip.source_be,
            destination: ip.destination_be,
            transport: packet::transport::<Self>(frame, ip.protocol, ip_bytes),
            frame_bytes: frame.length() as u64,
        })
    }

    #[inline(always)]
    fn look_through(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<Headers, Reason> {
        let Ok(ip) = frame.at::<Ipv4Header>(offset) else {
            return Err(Reason::BadHeader);
        };
        if !matches!(ip.version_ihl, 0x45..=0x4f) {
            return Err(Reason::BadHeader);
        }
        let flags = u16::from_be(ip.flags_fragment_be);
        let transport = offset + (ip.version_ihl & 0x0f) as usize * 4;
        Ok(Headers {
            number: ip.protocol,
            transport,
            fragment: Fragment {
                offset: flags << 3,
                more: ip.flags_fragment_be & Ipv4Header::MORE_FRAGMENTS_BE != 0,
                identification_be: ip.identification_be.into(),
                start: transport as u16,
            },
        })
    }

    #[inline(always)]
    fn check_options(frame: &Frame<'_, impl Layout>, headers: &Headers) -> Result<(), Reason> {
        let end = headers.transport;
        let mut at = NETWORK_OFFSET + size_of::<Ipv4Header>();
        for _ in 0..option::BYTES_MAX {
            at = bounded(at);
            if at >= end {
                break;
            }
            match *frame.at::<u8>(at)? {
                option::END => break,
                option::NOTHING => at += 1,
                option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE => {
                    return Err(Reason::SourceRoute);
                }
                _ => {
                    let bytes = *frame.at::<u8>(at + 1)? as usize;
                    if bytes < 2 || at + bytes > end {
                        return Err(Reason::BadOptions);
                    }
                    at += bytes;
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn ends(frame: &Frame<'_, impl Layout>, offset: usize) -> Result<(u32, u32), Reason> {
        let Ok(ip) = frame.at::<Ipv4Header>(offset) else {
            return Err(Reason::BadHeader);
        };
        Ok((ip.source_be, ip.destination_be))
    }

    #[inline(always)]
    fn find_vip(address: u32, port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        let exact = endpoint::find(
            Endpoint4::new(address, port_be, protocol),
            globals::vips4_mask(),
            |index| VIPS4.get(index),
        );
        if globals::has(feature::WIDE) && exact.is_none() {
            return wide::find4(direction::VIP, address, port_be, protocol);
        }
        exact
    }

    #[inline(always)]
    fn find_reply(address: u32, port_be: u16, protocol: u8) -> Option<EndpointTarget> {
        let exact = endpoint::find(
            Endpoint4::new(address, port_be, protocol),
            globals::replies4_mask(),
            |index| REPLIES4.get(index),
        );
        if globals::has(feature::WIDE) && exact.is_none() {
            return wide::find4(direction::REPLY, address, port_be, protocol);
        }
        exact
    }

    #[inline(always)]
    fn hash(key: [u64; 2], packet: &Packet<Self>, ports: Ports, protocol: u8) -> u32 {
        flow::hash4(
            key,
            packet.source,
            packet.destination,
            ports.word(),
            protocol,
        )
    }

    #[inline(always)]
    fn client_hash(key: [u64; 2], packet: &Packet<Self>) -> u32 {
        flow::client_hash4(key, packet.source)
    }

    #[inline(always)]
    fn flow_key(packet: &Packet<Self>, ports: Ports, protocol: u8) -> FlowKey {
        FlowKey {
            source: [u64::from(packet.source), 0],
            destination: [u64::from(packet.destination), 0],
            source_port_be: ports.source_be,
            destination_port_be: ports.destination_be,
            protocol,
            family: Self::NUMBER,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn address(bytes: &[u8; 16]) -> u32 {
        // SAFETY: four of the sixteen bytes are read, at whatever alignment they have.
        unsafe { bytes.as_ptr().cast::<u32>().read_unaligned() }
    }

    #[inline(always)]
    fn key(address: u32) -> [u64; 2] {
        [u64::from(address), 0]
    }

    #[inline(always)]
    fn of_key(words: [u64; 2]) -> u32 {
        words[0] as u32
    }

    #[inline(always)]
    fn is_between(_number: u8) -> bool {
        false
    }

    #[inline(always)]
    fn equal(a: u32, b: u32) -> bool {
        a == b
    }

    #[inline(always)]
    fn share(a: u32, b: u32, bits: u8) -> bool {
        let differ = u64::from(u32::from_be(a ^ b));
        differ >> (32_u32.wrapping_sub(bits.into()) & 63) == 0
    }

    #[inline(always)]
    fn ip_bytes(frame: &Frame<'_, impl Layout>) -> Result<usize, Reason> {
        let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        Ok(u16::from_be(ip.total_length_be) as usize)
    }

    #[inline(always)]
    fn hop(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let ip = frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)?;
        if ip.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        ip.ttl -= 1;
        ip.checksum = checksum::after_hop(ip.checksum);
        Ok(())
    }

    #[inline(always)]
    fn set_destination(frame: &mut Frame<'_, impl Layout>, new: u32) -> Result<u64, Reason> {
        let ip = frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)?;
        let difference = checksum::difference32(ip.destination_be, new);
        ip.destination_be = new;
        ip.checksum = checksum::update(ip.checksum, difference);
        Ok(difference)
    }

    #[inline(always)]
    fn set_source(frame: &mut Frame<'_, impl Layout>, new: u32) -> Result<u64, Reason> {
        let ip = frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)?;
        let difference = checksum::difference32(ip.source_be, new);
        ip.source_be = new;
        ip.checksum = checksum::update(ip.checksum, difference);
        Ok(difference)
    }

    #[inline(always)]
    fn encapsulate<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason> {
        let ip = *frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        // Fragmentable packets stay so, and then need an identification (RFC 2003, section 3.1).
        let flags_be = ip.flags_fragment_be & Ipv4Header::DONT_FRAGMENT_BE;
        let inner = within(&ip, entropy);
        // Fragments of a datagram have one identification, and what is around each of them is a
        // datagram of its own.
        let identification_be = if frame.may_be_fragment() {
            ip.identification_be ^ (ip.flags_fragment_be & Ipv4Header::FRAGMENT_OFFSET_BE)
        } else {
            ip.identification_be
        };
        outer::ipv4::<T>(frame, backend, mtu, &inner, flags_be, identification_be)
    }

    #[inline(always)]
    fn encapsulate_across<T: Tunnel>(
        frame: &mut Frame<'_, impl Layout>,
        backend: &Backend,
        mtu: u16,
        entropy: u32,
    ) -> Result<(), Reason> {
        let ip = *frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        let has_checksum = T::IS_UDP && Self::has_checksum(frame, &ip)?;
        let inner = within(&ip, entropy);
        outer::ipv6::<T>(frame, backend, mtu, &inner, |udp| {
            if has_checksum {
                gue::checksum4(backend.outer_sum.into(), udp, &ip)
            } else {
                0
            }
        })
    }

    #[inline(always)]
    fn answer_echo(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let icmp = frame.at_mut::<IcmpHeader>(frame.transport(Self::TRANSPORT_OFFSET))?;
        if icmp.type_code != IcmpHeader::ECHO_REQUEST {
            return Err(Reason::IcmpOther);
        }
        let checksum = checksum::update(
            icmp.checksum,
            checksum::difference16(IcmpHeader::ECHO_REQUEST, IcmpHeader::ECHO_REPLY),
        );
        // An answer of nothing but zeros adds up to 0, and the other zero is right for all.
        icmp.checksum = if checksum == 0 { 0xffff } else { checksum };
        icmp.type_code = IcmpHeader::ECHO_REPLY;
        let ip = frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)?;
        (ip.source_be, ip.destination_be) = (ip.destination_be, ip.source_be);
        set_ttl(ip, TTL);
        Ok(())
    }

    #[inline(always)]
    fn route(address: u32) -> Option<NextHop> {
        lpm::get4(&ROUTES4, address).map(|&word| NextHop(word))
    }

    #[inline(always)]
    fn fib_request(from: u32, to: u32, ifindex: u32) -> bpf_fib_lookup {
        // SAFETY: zeros are a valid value of this struct of integers.
        let mut request: bpf_fib_lookup = unsafe { core::mem::zeroed() };
        request.family = AF_INET;
        request.ifindex = ifindex;
        request.__bindgen_anon_3.ipv4_src = from;
        request.__bindgen_anon_4.ipv4_dst = to;
        request
    }

    #[inline(always)]
    fn event_address(address: u32) -> [u8; 16] {
        let mut bytes = [0; 16];
        [bytes[0], bytes[1], bytes[2], bytes[3]] = address.to_ne_bytes();
        bytes
    }
}

impl V4 {
    /// Whether a packet has a checksum that covers all of it but its IP header. Around one that has
    /// not, a UDP header over IPv6 goes without as well (RFC 6935).
    #[inline(always)]
    fn has_checksum(frame: &Frame<'_, impl Layout>, ip: &Ipv4Header) -> Result<bool, Reason> {
        if ip.flags_fragment_be & Ipv4Header::FRAGMENT_BE != 0 {
            return Ok(false);
        }
        Ok(match ip.protocol {
            protocol::TCP | protocol::ICMP => true,
            protocol::UDP => {
                let offset = frame.transport(Self::TRANSPORT_OFFSET);
                let udp = frame.at::<UdpHeader>(offset)?;
                let ip_bytes = u16::from_be(ip.total_length_be) as usize;
                let udp_bytes = u16::from_be(udp.length_be) as usize;
                // What may follow the datagram is not covered.
                udp.checksum != 0 && offset - NETWORK_OFFSET + udp_bytes == ip_bytes
            }
            _ => false,
        })
    }
}

/// What outer headers take from a packet.
#[inline(always)]
fn within(ip: &Ipv4Header, entropy: u32) -> Inner {
    Inner {
        bytes: u16::from_be(ip.total_length_be).into(),
        number: protocol::IPV4,
        traffic_class: ip.tos,
        ttl: ip.ttl,
        entropy,
    }
}

#[inline(always)]
fn set_ttl(ip: &mut Ipv4Header, ttl: u8) {
    let old = u16::from_ne_bytes([ip.ttl, ip.protocol]);
    let new = u16::from_ne_bytes([ttl, ip.protocol]);
    ip.checksum = checksum::update(ip.checksum, checksum::difference16(old, new));
    ip.ttl = ttl;
}
