//! The values of the maps for what a world has.

use std::net::IpAddr;

use xlb_agent::endpoint;
use xlb_common::maps::{self, Egress, NextHop, outer_sum, outer_sum6, service_option};

use crate::model::{Backend, Interface, Service, Way, World, whole};

pub(super) fn next_hop(way: Way) -> NextHop {
    NextHop::new(way.mac, way.egress)
}

pub(super) const fn egress(interface: &Interface) -> Egress {
    Egress {
        mac: interface.mac,
        mtu: interface.mtu,
        ifindex: interface.ifindex,
        tag: interface.tag,
    }
}

pub(super) fn service(world: &World, number: u32, service: &Service) -> maps::Service {
    let pool = &world.pools[service.pool];
    maps::Service {
        vip: endpoint::bytes(service.vip.ip()),
        port_be: service.vip.port().to_be(),
        protocol: service.protocol,
        family: endpoint::family(service.vip.ip()),
        forward: service.forward,
        options: options(service),
        vip_bits: service.bits,
        last_port_be: service.last_port.to_be(),
        ring_offset: pool.offset,
        ring_slots: pool.slots.len() as u32,
        state: world.state(service),
        counter_base: service.counter_base,
        number,
        sequence_length: pool.sequence.len() as u32,
        ..maps::Service::default()
    }
}

fn options(service: &Service) -> u8 {
    let mut options = 0;
    if service.second_chance {
        options |= service_option::SECOND_CHANCE;
    }
    if service.fragments_by_address {
        options |= service_option::FRAGMENTS_BY_ADDRESS;
    }
    if service.has_several_ports() {
        options |= service_option::SEVERAL_PORTS;
    }
    if service.bits != whole(service.vip.ip()) {
        options |= service_option::SEVERAL_ADDRESSES;
    }
    options
}

pub(super) fn backend(backend: &Backend) -> maps::Backend {
    let address = backend.address.ip();
    let outer = match (backend.outer_source, address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => outer_sum(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => outer_sum6(from.octets(), to.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    maps::Backend {
        next_hop: backend.next_hop.map_or(NextHop::NONE, next_hop).0,
        flags: backend.flags,
        port_be: backend.address.port().to_be(),
        position: backend.position,
        outer_sum: outer,
        address: endpoint::bytes(address),
        outer_source: endpoint::bytes(backend.outer_source),
        family: endpoint::family(address),
        weight: backend.weight,
        ..maps::Backend::default()
    }
}
