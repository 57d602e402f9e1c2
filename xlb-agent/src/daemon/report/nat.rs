//! Connections and ports of `full-nat`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use xlb_common::{
    maps::{FlowKey, protocol},
    nat::{NatPort, PORTS_OF_SOURCE, Word, index, port_of, state},
};
use xlb_control::{
    api::{NatConnection, NatSourceStatus, NatStatus},
    config::Protocol,
};

use super::super::{Daemon, now_s};
use crate::engine::{self, goal};

/// Connections of a list at most: more would keep the event loop from its work.
const LISTED_MAX: usize = 100_000;

impl Daemon {
    /// Connections of a service, or of all, and how many ports are taken.
    pub(in crate::daemon) fn nat_status(
        &self,
        service: Option<&str>,
        limit: usize,
    ) -> Result<NatStatus, String> {
        let services = &self.merged.config.services;
        if let Some(name) = service
            && !services.contains_key(name)
        {
            return Err(format!("there is no service `{name}`"));
        }
        let names: HashMap<u32, &str> = services
            .values()
            .filter_map(|service| {
                let key = engine::key_of(&goal::of_service(service));
                let &(number, _) = self.engine.services.get(&key)?;
                Some((number, service.name.as_str()))
            })
            .collect();
        let mut status = NatStatus {
            sources: Vec::new(),
            connections: Vec::new(),
            left_out: 0,
        };
        for &(number, address) in self.engine.sources() {
            for (is_udp, protocol) in [(false, Protocol::Tcp), (true, Protocol::Udp)] {
                let mut source = self.nat_source(address, protocol);
                self.taken_ports(number, is_udp, |index, port| {
                    source.in_use += 1;
                    let state = state_name(port);
                    *source.by_state.entry(state.to_owned()).or_default() += 1;
                    let name = names.get(&port.service).copied();
                    if service.is_some() && service != name {
                        return;
                    }
                    if status.connections.len() >= limit.min(LISTED_MAX) {
                        status.left_out += 1;
                        return;
                    }
                    let from = SocketAddr::new(address, port_of(index));
                    status.connections.push(self.connection(port, name, from));
                });
                status.sources.push(source);
            }
        }
        Ok(status)
    }

    /// How many ports are taken of each source address and protocol.
    pub(in crate::daemon) fn nat_usage(&self) -> Vec<NatSourceStatus> {
        self.nat_status(None, 0)
            .map_or_else(|_| Vec::new(), |status| status.sources)
    }

    fn nat_source(&self, source: IpAddr, protocol: Protocol) -> NatSourceStatus {
        let dataplane = &self.merged.config.dataplane;
        let range = dataplane.nat_ports;
        let is_configured = dataplane.nat_source.contains(&source);
        NatSourceStatus {
            source,
            protocol,
            ports: if is_configured {
                u32::from(range.last - range.first) + 1
            } else {
                0
            },
            in_use: 0,
            by_state: [].into(),
        }
    }

    fn taken_ports(&self, source: u32, is_udp: bool, mut visit: impl FnMut(u32, &NatPort)) {
        let ports = &self.engine.dataplane.maps().nat_ports;
        let now_s = now_s();
        for port in 0..=u16::MAX {
            let index = index(source, is_udp, port);
            let Some(port) = ports.read(index) else {
                debug_assert!(index >= PORTS_OF_SOURCE || ports.len() < PORTS_OF_SOURCE);
                return;
            };
            let word = Word(port.word);
            if word.state() > state::CLAIMED && !word.is_free(now_s) {
                visit(index, &port);
            }
        }
    }

    fn connection(&self, port: &NatPort, name: Option<&str>, source: SocketAddr) -> NatConnection {
        let backend = self.engine.dataplane.maps().backends.read(port.backend);
        let word = Word(port.word);
        let (client, vip) = ends(&port.flow);
        NatConnection {
            service: name.map(str::to_owned),
            protocol: if port.flow.protocol == protocol::UDP {
                Protocol::Udp
            } else {
                Protocol::Tcp
            },
            state: state_name(port).to_owned(),
            expires_in_s: word.until_s().saturating_sub(now_s()),
            client,
            vip,
            source,
            backend: backend.as_ref().map(crate::endpoint::of),
        }
    }
}

fn state_name(port: &NatPort) -> &'static str {
    let number = usize::from(Word(port.word).state());
    state::NAMES.get(number).copied().unwrap_or("unknown")
}

/// Client and VIP of a flow.
fn ends(flow: &FlowKey) -> (SocketAddr, SocketAddr) {
    let address = |words: [u64; 2]| {
        let [a, b, c, d, ..] = words[0].to_ne_bytes();
        if flow.family == 4 {
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        } else {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
            bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    };
    let end = |words, port_be: u16| SocketAddr::new(address(words), u16::from_be(port_be));
    (
        end(flow.source, flow.source_port_be),
        end(flow.destination, flow.destination_port_be),
    )
}
