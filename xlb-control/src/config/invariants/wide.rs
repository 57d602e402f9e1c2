//! Rules of services of several ports or addresses, and of backends without a port of their own.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

use super::{Subject, Violation, attached, endpoint_name, vip};
use crate::config::{
    At, Backend, Config, Forward, Fragments, Ports, Protocol, Service, Specificity, Vip,
    limits::{MAX_PORT_ENTRIES, MAX_WIDE_ADDRESSES},
    spread::{self, Span},
};

/// Services by where they take packets in.
pub(super) struct Listeners<'a> {
    exact: HashMap<(At, Protocol), &'a Service>,
    wide: Vec<&'a Service>,
}

impl<'a> Listeners<'a> {
    /// Those of a configuration; complains when two take in the same.
    pub(super) fn of(config: &'a Config, found: &mut Vec<Violation>) -> Self {
        let mut listeners = Self {
            exact: HashMap::new(),
            wide: Vec::new(),
        };
        for service in config.services.values() {
            let listener = (service.at(), service.protocol);
            let Some(other) = listeners.exact.get(&listener) else {
                listeners.exact.insert(listener, service);
                if !service.at().is_one() {
                    listeners.wide.push(service);
                }
                continue;
            };
            found.push(Violation {
                at: vip(service),
                other: Some(vip(other)),
                message: format!(
                    "services `{}` and `{}` both have the VIP {}/{}",
                    other.name, service.name, listener.0, listener.1
                ),
                help: "give one of them another VIP, port or protocol".to_owned(),
            });
        }
        listeners
    }

    /// A service that takes in something of what is sent to an address and to one of these ports.
    pub(super) fn find(
        &self,
        address: IpAddr,
        ports: Ports,
        protocol: Protocol,
    ) -> Option<&'a Service> {
        let at = At {
            vip: address.into(),
            ports,
        };
        let exact = self.exact.get(&(at, protocol)).copied();
        exact.or_else(|| {
            self.wide.iter().copied().find(|service| {
                service.protocol == protocol
                    && service.vip.contains(address)
                    && service.port.overlaps(ports)
            })
        })
    }
}

/// Ranges of ports that overlap, of which none is more specific than the other.
pub(super) fn overlaps(config: &Config, found: &mut Vec<Violation>) {
    let mut ranges: BTreeMap<(Vip, Protocol), Vec<&Service>> = BTreeMap::new();
    for service in config.services.values() {
        if service.port.specificity() == Specificity::Range {
            let listeners = ranges.entry((service.vip, service.protocol)).or_default();
            listeners.push(service);
        }
    }
    for services in ranges.values_mut() {
        services.sort_by_key(|service| service.port);
        let mut widest: Option<&Service> = None;
        for service in services.iter() {
            if let Some(before) = widest
                && before.port.overlaps(service.port)
                && before.port != service.port
            {
                found.push(Violation {
                    at: vip(service),
                    other: Some(vip(before)),
                    message: format!(
                        "services `{}` ({}/{}) and `{}` ({}/{}) share ports, and neither range is more \
                         specific than the other",
                        before.name,
                        before.at(),
                        before.protocol,
                        service.name,
                        service.at(),
                        service.protocol,
                    ),
                    help: "let ranges of one VIP not overlap; one port, or a longer prefix of \
                           addresses, may lie within"
                        .to_owned(),
                });
            }
            if widest.is_none_or(|before| before.port.last() < service.port.last()) {
                widest = Some(service);
            }
        }
    }
}

/// What a service of several addresses or ports can't have.
pub(super) fn of_service(service: &Service) -> Option<Violation> {
    let name = &service.name;
    let (message, help) = if service.at().is_one() {
        return None;
    } else if service.forward == Forward::FullNat {
        (
            format!(
                "service `{name}` takes in {}, and `full-nat` is for one address and one port",
                service.at()
            ),
            "make a service for each, or use another way to forward",
        )
    } else if service.fragments == Fragments::Address {
        (
            format!(
                "service `{name}` takes in {}, and `fragments = \"address\"` is for one address and one \
                 port",
                service.at()
            ),
            "leave `fragments` out: they follow the first of their datagram",
        )
    } else if service.vip.is_one() {
        return None;
    } else if service.forward == Forward::Dnat {
        (
            format!(
                "service `{name}` has the prefix {} as its VIP, which `dnat` can't carry: a reply would \
                 not tell which of the addresses it belongs to",
                service.vip
            ),
            "make a service for each address, or use `l2-dsr`, `ipip` or `gue`",
        )
    } else if service.forward == Forward::Local {
        (
            format!(
                "service `{name}` has the prefix {} as its VIP, and `local` puts single addresses on \
                 this host",
                service.vip
            ),
            "make a service for each address",
        )
    } else if let Some(announce) = service.announce {
        (
            format!(
                "service `{name}` has the prefix {} as its VIP, and `announce = \"{announce}\"` is for \
                 single addresses",
                service.vip
            ),
            "remove `announce`, and have a router send the prefix here; or make a service for each \
             address",
        )
    } else {
        return None;
    };
    Some(Violation {
        at: vip(service),
        other: None,
        message,
        help: help.to_owned(),
    })
}

/// A backend under full NAT, whose port has to be known.
pub(super) fn needs_port(service: &Service, backend: &Backend) -> Option<(String, String)> {
    (service.forward == Forward::FullNat && backend.port == 0).then(|| {
        let message = format!(
            "backend {} of service `{}` has no port, which `full-nat` needs",
            backend.address, service.name
        );
        (message, "write where it listens: `port = 8080`".to_owned())
    })
}

/// A backend whose replies to a service of several ports would all come from one.
pub(super) fn one_port_for_all(service: &Service, backend: &Backend) -> Option<(String, String)> {
    if service.forward != Forward::Dnat || service.port.one().is_some() || backend.port == 0 {
        return None;
    }
    let message = format!(
        "backend {} has one port for the ports of service `{}` ({}): its replies would not tell which \
         port a client used",
        backend.endpoint(),
        service.name,
        service.port
    );
    let help =
        "leave out the backend's `port`: packets keep theirs; or make a service for each port";
    Some((message, help.to_owned()))
}

/// Backends of which the check does not know which port to ask.
pub(super) fn unknown_check_ports(config: &Config, found: &mut Vec<Violation>) {
    for pool in config.pools.values() {
        if pool.check.as_ref().is_none_or(|check| check.port.is_some()) {
            continue;
        }
        let is_local = config
            .services
            .get(&pool.name)
            .is_some_and(|service| service.forward == Forward::Local);
        for backend in pool.backends.iter().filter(|backend| backend.port == 0) {
            found.push(Violation {
                at: Subject::Backend {
                    pool: pool.name.clone(),
                    endpoint: backend.endpoint(),
                },
                other: None,
                message: if is_local {
                    format!(
                        "service `{}` has several ports, and its check does not know which to ask",
                        pool.name
                    )
                } else {
                    format!(
                        "backend {} of pool `{}` has no port, and the check does not say which to ask",
                        backend.address, pool.name
                    )
                },
                help: if is_local {
                    "say by `listener = \"127.0.0.1:443\"` where the server is asked".to_owned()
                } else {
                    "give the check a `port`, or the backend".to_owned()
                },
            });
        }
    }
}

/// Ports that replies of a backend under `dnat` come from.
pub(super) fn reply_ports(service: &Service, backend: &Backend) -> Ports {
    match backend.port {
        0 => service.port,
        port => port.into(),
    }
}

/// Replies under `dnat` by their ports, to find services that have some in common.
#[derive(Default)]
pub(super) struct Repliers<'a> {
    exact: HashMap<(SocketAddr, Protocol), &'a Service>,
    ranges: HashMap<(IpAddr, Protocol), Vec<(Ports, &'a Service)>>,
}

impl<'a> Repliers<'a> {
    /// Adds the replies of a backend to a service; gives another service that has some of them, and an
    /// example.
    pub(super) fn add(
        &mut self,
        service: &'a Service,
        backend: &Backend,
    ) -> Option<(&'a Service, (SocketAddr, Protocol))> {
        let (address, protocol) = (backend.address, service.protocol);
        let ports = reply_ports(service, backend);
        let ranges = self.ranges.entry((address, protocol)).or_default();
        let mut others = ranges
            .iter()
            .filter(|(theirs, other)| theirs.overlaps(ports) && other.name != service.name);
        if let Some(&(theirs, other)) = others.next() {
            let port = theirs.first().max(ports.first());
            return Some((other, (SocketAddr::new(address, port), protocol)));
        }
        let Some(port) = ports.one() else {
            ranges.push((ports, service));
            let mut exact = self.exact.iter();
            return exact
                .find(|((at, of), other)| {
                    at.ip() == address
                        && *of == protocol
                        && ports.contains(at.port())
                        && other.name != service.name
                })
                .map(|(&at, &other)| (other, at));
        };
        let at = (SocketAddr::new(address, port), protocol);
        let owner = *self.exact.entry(at).or_insert(service);
        (owner.name != service.name).then_some((owner, at))
    }
}

/// More than the tables of the data path hold.
pub(super) fn too_many_entries(config: &Config) -> Option<Violation> {
    let mut spans = Vec::new();
    let mut addresses = 0;
    let mut entries = 0;
    let is_wide = |service: &Service| !service.at().is_one();
    for (service, pool) in attached(config).filter(|(service, _)| is_wide(service)) {
        spans.push(Span {
            at: service.at(),
            // Any number that tells protocols apart.
            protocol: service.protocol as u8,
            what: (),
        });
        if service.forward == Forward::Dnat {
            addresses += pool.backends.len();
            entries += pool.backends.len() * service.port.prefixes().len();
        }
    }
    let tables = spread::tables(&spans);
    addresses += tables.len();
    entries += tables.iter().map(spread::Table::entries).sum::<usize>();
    let (what, much, most) = if entries > MAX_PORT_ENTRIES {
        ("entries", entries, MAX_PORT_ENTRIES)
    } else if addresses > MAX_WIDE_ADDRESSES {
        ("addresses", addresses, MAX_WIDE_ADDRESSES)
    } else {
        return None;
    };
    Some(Violation {
        at: Subject::Everything,
        other: None,
        message: format!(
            "services of several ports or addresses need {much} {what} in the data path, and a host has \
             at most {most}"
        ),
        help:
            "use `\"all\"`, or ranges whose ends are multiples of powers of two, such as 8192-8447"
                .to_owned(),
    })
}

/// A backend under `dnat` that is itself where a service takes packets in.
pub(super) fn loops(
    service: &Service,
    backend: &Backend,
    listeners: &Listeners<'_>,
) -> Option<(String, String)> {
    match service.forward {
        Forward::Dnat | Forward::FullNat => {}
        // The packet keeps the VIP as its destination, or gets an outer header that is no service's.
        Forward::L2Dsr | Forward::Ipip | Forward::Gue | Forward::Local => return None,
    }
    let ports = reply_ports(service, backend);
    let target = listeners.find(backend.address, ports, service.protocol)?;
    let at = SocketAddr::new(backend.address, ports.first());
    let message = format!(
        "backend {} of service `{}` is the VIP of service `{}`: packets would come back to the balancer",
        endpoint_name((at, service.protocol)),
        service.name,
        target.name
    );
    let help = format!(
        "use the backends of `{}` instead: `pool = \"{}\"`",
        target.name, target.pool
    );
    Some((message, help))
}
