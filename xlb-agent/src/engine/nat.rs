//! The source addresses of full NAT, and their ports.

use std::{collections::BTreeSet, net::IpAddr};

use xlb_common::nat::{NatPool, NatPort, NatSource, PORTS_OF_SOURCE, SOURCES_MAX, Timeouts, state};
use xlb_control::config::{Config, Forward, NatTimeouts, Pool, Protocol, Service};

use super::Engine;
use crate::endpoint;

/// Entries of `NAT_PORTS` that a configuration needs.
pub(super) fn ports_needed(config: &Config) -> u32 {
    (sources_of(config).len() as u32 * PORTS_OF_SOURCE).max(1)
}

/// Entries of `NAT_FLOWS` that a configuration needs: one for each port and protocol.
pub(super) fn flows_needed(config: &Config) -> u32 {
    let ports = config.dataplane.nat_ports;
    let count = u32::from(ports.last - ports.first) + 1;
    (sources_of(config).len() as u32 * count * 2).max(1)
}

/// For how long an open connection of a service may be idle, seconds: as long as its record in
/// `FLOWS`, without which nobody would know its backend.
pub(super) fn idle_s(service: &Service, pool: Option<&Pool>) -> u32 {
    let idle = match service.protocol {
        Protocol::Tcp => pool.map_or_else(Default::default, |pool| pool.idle_timeout),
        Protocol::Udp | Protocol::Sctp => service.udp_idle_timeout,
    };
    u32::try_from(idle.as_secs()).unwrap_or(u32::MAX)
}

/// The addresses that are in use: none while no service wants one.
fn sources_of(config: &Config) -> &[IpAddr] {
    let mut services = config.services.values();
    if services.any(|service| service.forward == Forward::FullNat) {
        &config.dataplane.nat_source
    } else {
        &[]
    }
}

impl Engine {
    /// Source addresses with their numbers, those too that are no longer configured.
    #[must_use]
    pub fn sources(&self) -> &[(u32, IpAddr)] {
        &self.sources
    }

    /// Brings the tables of sources in line with the configuration. An address keeps its number, and
    /// so its connections their ports, also over a restart; one that is no longer configured gives no
    /// new connection a port, and keeps those that there are until its number is needed.
    pub(super) fn sync_sources(&mut self, config: &Config) {
        let wanted = sources_of(config);
        let maps = self.dataplane.maps_mut();
        let room = (maps.nat_ports.len() / PORTS_OF_SOURCE).min(SOURCES_MAX);
        let mut known: Vec<(u32, IpAddr)> = (0..room)
            .filter_map(|number| Some((number, address_of(&maps.nat_sources.read(number)?)?)))
            .collect();
        for &address in wanted {
            if known.iter().any(|&(_, known)| known == address) {
                continue;
            }
            let taken: BTreeSet<u32> = known.iter().map(|&(number, _)| number).collect();
            let free = (0..room).find(|number| !taken.contains(number));
            let left = || {
                let mut known = known.iter();
                known
                    .find(|(_, known)| !wanted.contains(known))
                    .map(|&(number, _)| number)
            };
            let Some(number) = free.or_else(left) else {
                tracing::warn!(%address, "there is no room for this source of full NAT");
                continue;
            };
            known.retain(|&(known, _)| known != number);
            for port in 0..PORTS_OF_SOURCE {
                let index = number * PORTS_OF_SOURCE + port;
                let _ = maps
                    .nat_ports
                    .store_u64(index, std::mem::offset_of!(NatPort, word), 0);
            }
            let source = NatSource {
                address: endpoint::bytes(address),
                family: endpoint::family(address).into(),
                reserved: 0,
            };
            let _ = maps.nat_sources.write(number, source);
            known.push((number, address));
        }
        for (index, v6) in [(0, false), (1, true)] {
            let mut pool = NatPool {
                first: config.dataplane.nat_ports.first,
                last: config.dataplane.nat_ports.last - config.dataplane.nat_ports.first,
                timeouts: timeouts(&config.dataplane.nat_timeouts),
                ..NatPool::default()
            };
            let numbers = known
                .iter()
                .filter(|(_, address)| address.is_ipv6() == v6 && wanted.contains(address));
            for (place, &(number, _)) in pool.sources.iter_mut().zip(numbers) {
                *place = number as u8;
                pool.length += 1;
            }
            let _ = maps.nat_pools.write(index, pool);
        }
        self.sources = known;
    }
}

/// The timeouts as the program reads them.
fn timeouts(of: &NatTimeouts) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (state, time) in [
        (state::OPENING, of.tcp_syn),
        (state::ANSWERED, of.tcp_syn),
        (state::CLIENT_CLOSED, of.tcp_fin_wait),
        (state::BACKEND_CLOSED, of.tcp_fin_wait),
        (state::CLOSED, of.tcp_time_wait),
        (state::RESET, of.tcp_close),
        (state::ONE_WAY, of.udp),
    ] {
        timeouts.0[usize::from(state)] = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    }
    timeouts
}

fn address_of(source: &NatSource) -> Option<IpAddr> {
    match source.family {
        4 => {
            let [a, b, c, d, ..] = source.address;
            Some(IpAddr::from([a, b, c, d]))
        }
        6 => Some(IpAddr::from(source.address)),
        _ => None,
    }
}
