//! Flows, and the frames in which they come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{PacketBuilder, TcpHeader};

/// What follows the transport's header: of TCP the first ten bytes, of UDP all, so that all frames of
/// a family have the same length.
const PAYLOAD: [u8; 22] = *b"benchmark!benchmark!!!";
/// Bytes of it after a TCP header.
const TCP_PAYLOAD_BYTES: usize = 10;
/// Clients: the prefix that is set aside for benchmarks (RFC 2544, appendix C.2.2).
const CLIENTS4: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Addresses of clients.
const CLIENTS: u32 = 1 << 17;
/// Sequence number of every SYN.
const ISN: u32 = 1_000_000;
/// MAC address of the interface that frames come in on, and of who sends them.
const MACS: [[u8; 6]; 2] = [[2, 0, 10, 80, 1, 1], [2, 0, 10, 80, 1, 254]];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A segment of an open TCP connection.
    Segment,
    /// The SYN of a new TCP connection.
    Syn,
    /// A UDP datagram.
    Datagram,
}

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From clients to a service, of which there may be several: one port each, then one address.
    ToServices {
        /// The first service.
        first: SocketAddr,
        /// Services, with consecutive addresses.
        count: u32,
    },
    /// From backends, with consecutive addresses, to clients.
    ToClients {
        /// The first backend.
        first: SocketAddr,
        /// Backends.
        count: u32,
    },
}

/// Traffic that a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Between whom.
    pub way: Way,
    /// What the frames carry.
    pub carries: Carries,
}

/// A flow: from where to where.
pub type Flow = (SocketAddr, SocketAddr);

impl Traffic {
    /// Whether its frames are IPv6.
    #[must_use]
    pub const fn is_v6(&self) -> bool {
        let (Way::ToServices { first, .. } | Way::ToClients { first, .. }) = &self.way;
        first.is_ipv6()
    }

    /// A flow by its number. No two numbers below 2^22 give the same one.
    #[must_use]
    pub fn flow(&self, number: u32) -> Flow {
        let client = client(number, self.is_v6());
        match self.way {
            Way::ToServices { first, count } => (client, nth(first, pick(number, count))),
            Way::ToClients { first, count } => (nth(first, pick(number, count)), client),
        }
    }

    /// The frame of a flow.
    #[must_use]
    pub fn frame(&self, number: u32) -> Vec<u8> {
        let (from, to) = self.flow(number);
        frame(from, to, self.carries)
    }

    /// Numbers of `flows` flows in a random order, always the same.
    #[must_use]
    pub fn order(flows: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..flows).collect();
        // Fisher and Yates, as Knuth has it (TAOCP 2, section 3.4.2, algorithm P).
        for last in (1..flows).rev() {
            let other = below(mix(u64::from(last)), last + 1);
            order.swap(last as usize, other as usize);
        }
        order
    }
}

fn frame(from: SocketAddr, to: SocketAddr, carries: Carries) -> Vec<u8> {
    let [destination_mac, source_mac] = MACS;
    let ethernet = PacketBuilder::ethernet2(source_mac, destination_mac);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 60),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 60),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("a flow from {from} to {to}")
        }
    };
    let mut bytes = Vec::new();
    let syn = carries == Carries::Syn;
    match carries {
        Carries::Segment | Carries::Syn => {
            let sequence = if syn { ISN } else { ISN + 1 };
            let mut header = TcpHeader::new(from.port(), to.port(), sequence, 64_240);
            (header.syn, header.ack) = (syn, !syn);
            ip.tcp_header(header)
                .write(&mut bytes, &PAYLOAD[..TCP_PAYLOAD_BYTES])
        }
        Carries::Datagram => ip.udp(from.port(), to.port()).write(&mut bytes, &PAYLOAD),
    }
    .expect("a frame of a valid description");
    bytes
}

/// An address and port of a client, another one for each number below 2^22.
fn client(number: u32, v6: bool) -> SocketAddr {
    /// Ports of a client that may be taken for its flow of the same rank.
    const PORTS: u32 = 1_900;
    // An odd factor permutes the addresses.
    let host = number.wrapping_mul(0x9e37_79b1) % CLIENTS;
    let rank = number / CLIENTS;
    let port = 1_024 + rank * PORTS + below(mix(u64::from(number)), PORTS);
    let address = if v6 {
        IpAddr::V6(Ipv6Addr::from_bits(CLIENTS6 + u128::from(host)))
    } else {
        IpAddr::V4(Ipv4Addr::from_bits(CLIENTS4 + host))
    };
    SocketAddr::new(
        address,
        u16::try_from(port).expect("32 ranks of 1,900 ports"),
    )
}

/// Clients: the IPv6 prefix that is set aside for benchmarks (RFC 5180, section 8).
const CLIENTS6: u128 = 0x2001_0002 << 96;

fn pick(number: u32, count: u32) -> u32 {
    below(mix(u64::from(number) | 1 << 40), count)
}

/// The endpoint whose address is `n` further.
#[must_use]
pub fn nth(first: SocketAddr, n: u32) -> SocketAddr {
    let address = match first.ip() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() + n)),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() + u128::from(n))),
    };
    SocketAddr::new(address, first.port())
}

/// A random number of 64 bits for each number (SplitMix64, by Steele, Lea and Flood, OOPSLA 2014).
const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random number below `bound`.
const fn below(random: u64, bound: u32) -> u32 {
    (((random >> 32) * bound as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    fn traffic(first: &str, count: u32, carries: Carries) -> Traffic {
        Traffic {
            way: Way::ToServices {
                first: first.parse().expect("an endpoint"),
                count,
            },
            carries,
        }
    }

    #[test]
    fn no_two_flows_are_the_same() {
        let traffic = traffic("192.0.2.10:80", 1, Carries::Segment);
        let flows: HashSet<Flow> = (0..1 << 18).map(|number| traffic.flow(number)).collect();
        assert_eq!(flows.len(), 1 << 18);
        let last = traffic.flow((1 << 22) - 1);
        assert!(last.0.port() > 50_000, "{last:?}");
    }

    #[test]
    fn the_order_is_a_permutation_and_no_identity() {
        let order = Traffic::order(1_024);
        let sorted: HashSet<u32> = order.iter().copied().collect();
        assert_eq!(sorted.len(), 1_024);
        let fixed = (0..).zip(&order).filter(|&(index, &at)| index == at);
        assert!(fixed.count() < 10);
        assert_eq!(Traffic::order(1), [0]);
    }

    #[test]
    fn services_share_the_flows_evenly() {
        let traffic = traffic("192.0.2.10:80", 100, Carries::Segment);
        let mut counts = [0_u32; 100];
        for number in 0..100_000 {
            let IpAddr::V4(to) = traffic.flow(number).1.ip() else {
                panic!("an IPv4 flow");
            };
            counts[usize::from(to.octets()[3]) - 10] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn frames_are_what_they_say() {
        for (first, carries, length) in [
            ("192.0.2.10:80", Carries::Syn, 64),
            ("192.0.2.10:53", Carries::Datagram, 64),
            ("[2001:db8::10]:80", Carries::Segment, 84),
            ("[2001:db8::10]:53", Carries::Datagram, 84),
        ] {
            let traffic = traffic(first, 1, carries);
            let bytes = traffic.frame(7);
            assert_eq!(bytes.len(), length, "{first} {carries:?}");
            let packet = SlicedPacket::from_ethernet(&bytes).expect("a frame");
            let (from, to) = traffic.flow(7);
            match packet.transport.expect("a transport") {
                TransportSlice::Tcp(tcp) => {
                    assert_eq!(
                        (tcp.source_port(), tcp.destination_port()),
                        (from.port(), to.port())
                    );
                    assert_eq!(
                        (tcp.syn(), tcp.ack()),
                        (carries == Carries::Syn, carries != Carries::Syn)
                    );
                }
                TransportSlice::Udp(udp) => {
                    assert_eq!(
                        (udp.source_port(), udp.destination_port()),
                        (from.port(), to.port())
                    );
                }
                TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => {
                    panic!("no such frame was asked for")
                }
            }
        }
    }
}
