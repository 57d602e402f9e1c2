//! What the engine is told to bring about.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use xlb_common::{
    maps::{feature, forward, protocol, service_option, service_state},
    next_hop::NextHop,
};
use xlb_control::config::{
    Affinity, AllDown, Config, Forward, Fragments, OnRemove, Policy, Pool, Protocol, Service, Udp,
};

use crate::plan::{Intent, MemberGoal, PoolGoal};

/// What is known of a backend besides its configuration.
pub trait World {
    /// What the operator wants of it.
    fn intent(&self, pool: &str, endpoint: SocketAddr) -> Intent;
    /// What commands said of the connections of backends that they removed from a pool.
    fn removed(&self, _pool: &str) -> BTreeMap<SocketAddr, OnRemove> {
        BTreeMap::new()
    }
    /// Whether its checks find it well, or have found nothing yet.
    fn is_well(&self, pool: &Pool, endpoint: SocketAddr) -> bool;
    /// Where its frames go, and the source of outer headers.
    fn next_hop(&self, address: IpAddr) -> (NextHop, Option<IpAddr>);
}

/// The goal of a pool.
#[must_use]
pub fn of_pool(number: u32, config: &Config, pool: &Pool, world: &impl World) -> PoolGoal {
    let members = pool
        .backends
        .iter()
        .map(|backend| {
            let (next_hop, preferred_source) = world.next_hop(backend.address);
            let configured = match backend.address {
                IpAddr::V4(_) => config.dataplane.tunnel_source_v4.map(IpAddr::V4),
                IpAddr::V6(_) => config.dataplane.tunnel_source_v6.map(IpAddr::V6),
            };
            let unspecified = match backend.address {
                IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            };
            MemberGoal {
                endpoint: backend.endpoint(),
                weight: backend.weight,
                intent: world.intent(&pool.name, backend.endpoint()),
                well: world.is_well(pool, backend.endpoint()),
                next_hop,
                outer_source: configured.or(preferred_source).unwrap_or(unspecified),
            }
        })
        .collect();
    PoolGoal {
        pool: number,
        members,
        down_grace: pool.down_grace,
        slow_start_s: u32::try_from(pool.slow_start.as_secs()).unwrap_or(u32::MAX),
        on_remove: pool.on_remove,
        removed: world.removed(&pool.name),
    }
}

/// A service's entry, but for its counters and its pool's place.
#[must_use]
pub fn of_service(service: &Service) -> xlb_common::maps::Service {
    xlb_common::maps::Service {
        vip: crate::endpoint::bytes(service.vip.address()),
        port_be: service.port.first().to_be(),
        last_port_be: service.port.last().to_be(),
        vip_bits: service.vip.bits(),
        protocol: protocol_number(service.protocol),
        family: crate::endpoint::family(service.vip.address()),
        forward: match service.forward {
            Forward::Dnat => forward::DNAT,
            Forward::L2Dsr => forward::L2_DSR,
            Forward::Ipip => forward::IPIP,
            Forward::Gue => forward::GUE,
            Forward::Local => forward::LOCAL,
            Forward::FullNat => forward::FULL_NAT,
        },
        options: options(service),
        ..xlb_common::maps::Service::default()
    }
}

/// Bits of a service's options.
fn options(service: &Service) -> u8 {
    let mut options = 0;
    if service.second_chance {
        options |= service_option::SECOND_CHANCE;
    }
    if service.fragments == Fragments::Address {
        options |= service_option::FRAGMENTS_BY_ADDRESS;
    }
    if service.port.one().is_none() {
        options |= service_option::SEVERAL_PORTS;
    }
    if !service.vip.is_one() {
        options |= service_option::SEVERAL_ADDRESSES;
    }
    options
}

/// IP protocol number of a service.
#[must_use]
pub const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => protocol::SCTP,
    }
}

/// What a service's policy says of its state.
#[must_use]
pub const fn policy_state(service: &Service) -> u32 {
    let policy = match service.policy {
        Policy::Maglev => 0,
        Policy::RoundRobin => service_state::ROUND_ROBIN | service_state::TRACKED,
        Policy::LeastConnections => service_state::LEAST_CONNECTIONS | service_state::TRACKED,
    };
    let affinity = match service.affinity {
        Some(Affinity::ClientIp) => service_state::CLIENT_IP,
        None => 0,
    };
    let udp = match service.udp {
        Udp::Stateless => 0,
        Udp::Tracked => service_state::TRACKED,
    };
    // The backend must stay what it was when the connection got its source port.
    let forward = match service.forward {
        Forward::FullNat => service_state::TRACKED,
        Forward::Dnat | Forward::L2Dsr | Forward::Ipip | Forward::Gue | Forward::Local => 0,
    };
    policy | affinity | udp | forward
}

/// Features that services in this state need.
#[must_use]
pub const fn features_of_state(state: u32) -> u32 {
    let mut features = 0;
    if state & service_state::TRACKED != 0 {
        features |= feature::TRACKED;
    }
    if state & service_state::BY_CONNECTION != 0 {
        features |= feature::BY_CONNECTION;
    }
    if state & service_state::CLIENT_IP != 0 {
        features |= feature::CLIENT_IP;
    }
    features
}

/// Features that a configuration uses.
#[must_use]
pub fn features(config: &Config) -> u32 {
    let mut features = if config.dataplane.interfaces.len() > 1 {
        feature::REDIRECT
    } else {
        0
    };
    if !config.dataplane.vlans.is_empty() {
        features |= feature::VLAN;
    }
    for service in config.services.values() {
        features |= if service.vip.is_ipv4() {
            feature::IPV4
        } else {
            feature::IPV6
        };
        features |= match service.forward {
            Forward::Dnat => feature::DNAT,
            Forward::L2Dsr => feature::L2_DSR,
            Forward::Ipip => feature::IPIP,
            Forward::Gue => feature::GUE,
            Forward::Local => feature::LOCAL,
            Forward::FullNat => feature::FULL_NAT,
        };
        if service.protocol == Protocol::Sctp {
            features |= feature::SCTP;
        }
        if service.second_chance {
            features |= feature::SECOND_CHANCE;
        }
        features |= features_of_state(policy_state(service));
        let pool = config.pools.get(&service.pool);
        let has_portless = || {
            let mut backends = pool.into_iter().flat_map(|pool| &pool.backends);
            backends.any(|backend| backend.port == 0)
        };
        if !service.at().is_one() || service.forward == Forward::Dnat && has_portless() {
            features |= feature::WIDE;
        }
        let mut backends = pool.into_iter().flat_map(|pool| &pool.backends);
        let across = backends.any(|backend| backend.address.is_ipv4() != service.vip.is_ipv4());
        if is_tunnelled(service.forward) && across {
            features |= FEATURES_ACROSS;
        }
    }
    features
}

/// Features that outer headers of another family than the packet's need: messages about them come
/// in that family.
pub const FEATURES_ACROSS: u32 = feature::MIXED | feature::IPV4 | feature::IPV6;

/// Whether packets get an outer header.
#[must_use]
pub const fn is_tunnelled(forward: Forward) -> bool {
    match forward {
        Forward::Ipip | Forward::Gue => true,
        Forward::Dnat | Forward::L2Dsr | Forward::Local | Forward::FullNat => false,
    }
}

/// Whether a service refuses packets while none of its backends is well.
#[must_use]
pub fn refuses(service: &Service) -> bool {
    service.all_down == AllDown::Drop
}

/// Names of the services in front of each pool.
#[must_use]
pub fn services_by_pool(config: &Config) -> BTreeMap<&str, Vec<&Service>> {
    let mut services: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in config.services.values() {
        services.entry(&service.pool).or_default().push(service);
    }
    services
}
