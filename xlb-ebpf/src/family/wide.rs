//! Finds services of several ports or addresses: see [`xlb_common::wide`].

use xlb_common::{endpoint::EndpointTarget, wide};
use xlb_ebpf::lpm;

use crate::maps::{PORTS, WIDE4, WIDE6};

/// What stands at an IPv4 address and a port; port and protocol 0: whether the address leads anywhere.
#[inline(always)]
pub fn find4(direction: u32, address: u32, port_be: u16, protocol: u8) -> Option<EndpointTarget> {
    let &table = lpm::get_word(&WIDE4, wide::place4(direction, address))?;
    in_table(table, port_be, protocol)
}

/// The same with an IPv6 address.
#[inline(always)]
pub fn find6(
    direction: u32,
    address: [u64; 2],
    port_be: u16,
    protocol: u8,
) -> Option<EndpointTarget> {
    let &table = lpm::get_numbered6(&WIDE6, direction, address)?;
    in_table(table, port_be, protocol)
}

#[inline(always)]
fn in_table(table: u64, port_be: u16, protocol: u8) -> Option<EndpointTarget> {
    if protocol == 0 {
        return Some(EndpointTarget {
            service: EndpointTarget::ADDRESS_ONLY,
            ..EndpointTarget::default()
        });
    }
    let &word = lpm::get_word(&PORTS, wide::port(table as u32, protocol, port_be))?;
    Some(wide::target(word))
}
