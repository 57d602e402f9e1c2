//! A flow, its hash and its slot: the same for the program, which has a packet, and for the agent,
//! which is asked about one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::hash::{self, FlowHash};

/// Key of `PENDING` and `FLOWS`: a flow with its service. IPv4 addresses fill the first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Client's address, as it stands in the packet.
    pub source: [u64; 2],
    /// Virtual address, as it stands in the packet.
    pub destination: [u64; 2],
    /// Client's port, as it stands in the packet.
    pub source_port_be: u16,
    /// Virtual port, as it stands in the packet.
    pub destination_port_be: u16,
    /// Transport protocol.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// The flow between two endpoints; `None` if they are not of one address family.
    #[must_use]
    pub fn between(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Option<Self> {
        let (from, to, family) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (words4(from), words4(to), 4),
            (IpAddr::V6(from), IpAddr::V6(to)) => (words6(from), words6(to), 6),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        Some(Self {
            source: from,
            destination: to,
            source_port_be: source.port().to_be(),
            destination_port_be: destination.port().to_be(),
            protocol,
            family,
            reserved: 0,
        })
    }

    /// The hash that picks the flow's slot, under the key of the program.
    #[must_use]
    pub const fn hash(&self, key: [u64; 2]) -> u32 {
        let ports = ports(self.source_port_be, self.destination_port_be);
        if self.family == 4 {
            let (source, destination) = (low_address(self.source), low_address(self.destination));
            hash4(key, source, destination, ports, self.protocol)
        } else {
            hash6(key, self.source, self.destination, ports, self.protocol)
        }
    }

    /// The flow's slot in a ring of `slots` slots, under the key of the program.
    #[must_use]
    pub const fn slot(&self, key: [u64; 2], slots: u32) -> u32 {
        hash::slot(self.hash(key), slots)
    }

    /// The hash that picks the slot where a service has all connections of a client go to one
    /// backend.
    #[must_use]
    pub const fn client_hash(&self, key: [u64; 2]) -> u32 {
        if self.family == 4 {
            client_hash4(key, low_address(self.source))
        } else {
            client_hash6(key, self.source)
        }
    }

    /// The tag by which a record says whose it is; see [`crate::record`].
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self) -> u32 {
        // The key of this hash is no secret: a tag tells neighbours in memory apart, not enemies.
        FlowHash::new([0, 0])
            .word(self.source[0] ^ self.destination[0].rotate_left(17))
            .word(self.source[1] ^ self.destination[1].rotate_left(17))
            .word(
                self.source_port_be as u64
                    | (self.destination_port_be as u64) << 16
                    | (self.protocol as u64) << 32
                    | (self.family as u64) << 40,
            )
            .finish()
    }
}

/// Both ports in one word, to be hashed.
#[inline(always)]
#[must_use]
pub const fn ports(source_be: u16, destination_be: u16) -> u64 {
    source_be as u64 | (destination_be as u64) << 16
}

/// Hash of an IPv4 flow: addresses as they stand in memory, and [`ports`].
#[inline(always)]
#[must_use]
pub const fn hash4(key: [u64; 2], source: u32, destination: u32, ports: u64, protocol: u8) -> u32 {
    FlowHash::new(key)
        .word(source as u64 | (destination as u64) << 32)
        .word(ports | (protocol as u64) << 32)
        .finish()
}

/// Hash of an IPv6 flow: addresses as they stand in memory, and [`ports`].
#[inline(always)]
#[must_use]
pub const fn hash6(
    key: [u64; 2],
    source: [u64; 2],
    destination: [u64; 2],
    ports: u64,
    protocol: u8,
) -> u32 {
    // The VIP is not the client's to choose, so that its words may share one with the ports.
    let destination = destination[0] ^ destination[1].rotate_left(23);
    FlowHash::new(key)
        .word(source[0])
        .word(source[1])
        .word(destination ^ ports ^ (protocol as u64) << 32)
        .finish()
}

/// Hash of an IPv4 client: its address as it stands in memory.
#[inline(always)]
#[must_use]
pub const fn client_hash4(key: [u64; 2], source: u32) -> u32 {
    FlowHash::new(key).word(source as u64).finish()
}

/// Hash of an IPv6 client: its address as it stands in memory.
#[inline(always)]
#[must_use]
pub const fn client_hash6(key: [u64; 2], source: [u64; 2]) -> u32 {
    FlowHash::new(key).word(source[0]).word(source[1]).finish()
}

/// An IPv4 address out of the words of a key.
const fn low_address(words: [u64; 2]) -> u32 {
    let [a, b, c, d, ..] = words[0].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn words4(address: Ipv4Addr) -> [u64; 2] {
    let [a, b, c, d] = address.octets();
    [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0]
}

/// An address in words, as it stands in memory.
pub(crate) fn words6(address: Ipv6Addr) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

    fn flow(source: &str, destination: &str, protocol: u8) -> FlowKey {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an endpoint");
        FlowKey::between(parse(source), parse(destination), protocol).expect("one family")
    }

    /// The hash decides where established connections go: another one moves them all.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_hash_of_a_flow_never_changes() {
        let v4 = flow("203.0.113.9:51812", "192.0.2.10:443", 6);
        let v6 = flow("[2001:db8:c::9]:51812", "[2001:db8::10]:443", 17);
        assert_eq!((v4.hash(KEY), v6.hash(KEY)), (1_881_071_657, 3_435_897_176));
        assert_eq!((v4.slot(KEY, 65_537), v6.slot(KEY, 65_537)), (28703, 52428));
    }

    #[test]
    fn every_part_of_a_flow_counts() {
        for (base, others) in [
            (
                flow("203.0.113.9:51812", "192.0.2.10:443", 6),
                [
                    flow("203.0.113.8:51812", "192.0.2.10:443", 6),
                    flow("203.0.113.9:51813", "192.0.2.10:443", 6),
                    flow("203.0.113.9:51812", "192.0.2.11:443", 6),
                    flow("203.0.113.9:51812", "192.0.2.10:444", 6),
                    flow("203.0.113.9:51812", "192.0.2.10:443", 17),
                ],
            ),
            (
                flow("[2001:db8:c::9]:51812", "[2001:db8::10]:443", 6),
                [
                    flow("[2001:db8:c::8]:51812", "[2001:db8::10]:443", 6),
                    flow("[2001:db8:c::9]:51813", "[2001:db8::10]:443", 6),
                    flow("[2001:db8:c::9]:51812", "[2001:db8::11]:443", 6),
                    flow("[2001:db8:c::9]:51812", "[2001:db8::10]:444", 6),
                    flow("[2001:db8:c::9]:51812", "[2001:db8::10]:443", 17),
                ],
            ),
        ] {
            for other in others {
                assert_ne!(base.hash(KEY), other.hash(KEY), "{base:?} and {other:?}");
                assert_ne!(base.tag(), other.tag(), "{base:?} and {other:?}");
            }
        }
    }

    #[test]
    fn of_a_client_only_its_address_counts() {
        for (one, same, other) in [
            (
                flow("203.0.113.9:51812", "192.0.2.10:443", 6),
                flow("203.0.113.9:2", "192.0.2.11:80", 17),
                flow("203.0.113.8:51812", "192.0.2.10:443", 6),
            ),
            (
                flow("[2001:db8:c::9]:51812", "[2001:db8::10]:443", 6),
                flow("[2001:db8:c::9]:2", "[2001:db8::11]:80", 17),
                flow("[2001:db8:c::8]:51812", "[2001:db8::10]:443", 6),
            ),
        ] {
            assert_eq!(one.client_hash(KEY), same.client_hash(KEY));
            assert_ne!(one.client_hash(KEY), other.client_hash(KEY));
        }
    }

    /// Another hash moves the connections of every client.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_hash_of_a_client_never_changes() {
        let v4 = flow("203.0.113.9:51812", "192.0.2.10:443", 6);
        let v6 = flow("[2001:db8:c::9]:51812", "[2001:db8::10]:443", 17);
        assert_eq!(
            (v4.client_hash(KEY), v6.client_hash(KEY)),
            (2_093_801_176, 1_255_342_864)
        );
    }

    #[test]
    fn no_flow_is_between_two_families() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an endpoint");
        let (v4, v6) = (parse("192.0.2.10:443"), parse("[2001:db8::10]:443"));
        assert_eq!(FlowKey::between(v4, v6, 6), None);
        assert_eq!(FlowKey::between(v6, v4, 6), None);
    }
}
