//! Addresses and ports, as they stand in the maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xlb_common::maps::Backend;

/// An address as it stands in a map: IPv4 in the first four bytes.
#[must_use]
pub const fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address of a family, 4 or 6, out of a map.
#[must_use]
pub const fn address(bytes: [u8; 16], family: u8) -> IpAddr {
    if family == 4 {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from_octets(bytes))
    }
}

/// 4 or 6.
#[must_use]
pub const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

/// Address and port of a backend.
#[must_use]
pub const fn of(entry: &Backend) -> SocketAddr {
    SocketAddr::new(
        address(entry.address, entry.family),
        u16::from_be(entry.port_be),
    )
}

/// A backend's entry of which only the identity is known.
#[must_use]
pub const fn blank(pool: u32, endpoint: SocketAddr) -> Backend {
    Backend {
        next_hop: 0,
        flags: 0,
        port_be: endpoint.port().to_be(),
        position: 0,
        outer_sum: 0,
        address: bytes(endpoint.ip()),
        outer_source: [0; 16],
        family: family(endpoint.ip()),
        reserved: [0; 15],
        pool,
        weight: 0,
        cause: 0,
        down_since_s: 0,
        drain_deadline_s: 0,
        serving_since_s: 0,
        reserved_end: [0; 11],
    }
}
