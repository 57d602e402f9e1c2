//! Rules between the parts of a configuration, for what comes from the file and what commands make
//! of it.

mod wide;

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    Backend, Config, Forward, Fragments, Pool, Protocol, Service, limits::MAX_BACKENDS, suggest,
};
use wide::{Listeners, Repliers};

/// Checks the rules that hold for a configuration as a whole, and returns a sentence for each that
/// is broken: VIPs that collide, pools that don't exist, backends in the wrong family, backends
/// that are a VIP, `dnat` whose replies would be ambiguous, rings with fewer slots than backends.
#[must_use]
pub fn check_invariants(config: &Config) -> Vec<String> {
    violations(config)
        .into_iter()
        .map(|violation| format!("{}; {}", violation.message, violation.help))
        .collect()
}

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// What breaks it.
    pub(super) at: Subject,
    /// What it is at odds with. The message reads the same from both sides.
    pub(super) other: Option<Subject>,
    pub(super) message: String,
    pub(super) help: String,
}

/// A part of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The VIP of a service.
    Vip { service: String },
    /// How a service forwards.
    Forward { service: String },
    /// The pool that a service names.
    PoolOf { service: String },
    /// A pool.
    Pool { pool: String },
    /// A backend of a pool.
    Backend { pool: String, endpoint: SocketAddr },
    /// The whole of it.
    Everything,
}

/// What the kernel sees of a service or of a backend's reply.
type Listener = (SocketAddr, Protocol);

/// Finds what breaks the rules, in time linear in the configuration.
fn violations(config: &Config) -> Vec<Violation> {
    let mut found = between_services(config);
    found.extend(of_backends(config));
    found
}

/// Rules of services among themselves, and of the pools that they name.
pub(super) fn between_services(config: &Config) -> Vec<Violation> {
    let mut found = Vec::new();
    Listeners::of(config, &mut found);
    wide::overlaps(config, &mut found);
    sources(config, &mut found);
    ambiguous_fragments(config, &mut found);
    for service in config.services.values() {
        found.extend(unknown_pool(config, &service.name, &service.pool));
        found.extend(unable_to_carry(service));
        found.extend(wide::of_service(service));
    }
    found
}

/// A protocol that the way of forwarding can't carry.
fn unable_to_carry(service: &Service) -> Option<Violation> {
    let rewrites = match service.forward {
        Forward::Dnat | Forward::FullNat => true,
        Forward::L2Dsr | Forward::Ipip | Forward::Gue | Forward::Local => false,
    };
    (rewrites && service.protocol == Protocol::Sctp).then(|| Violation {
        at: Subject::Forward {
            service: service.name.clone(),
        },
        other: None,
        message: format!(
            "service `{}` is of SCTP, which `{}` can't carry: another port needs a new checksum over \
             the whole packet",
            service.name, service.forward
        ),
        help: "use `l2-dsr`, `ipip`, `gue` or `local`, which leave packets as they are".to_owned(),
    })
}

/// Rules of backends and of the services that they are behind.
pub(super) fn of_backends(config: &Config) -> Vec<Violation> {
    let mut found = Vec::new();
    let listeners = Listeners::of(config, &mut Vec::new());
    misplaced_backends(config, &listeners, &mut found);
    ambiguous_replies(config, &mut found);
    crowded_listeners(config, &mut found);
    wide::unknown_check_ports(config, &mut found);
    too_many_backends(config, &mut found);
    found.extend(wide::too_many_entries(config));
    found
}

/// Fragments but the first have no port: of a VIP whose fragments are chosen for by addresses, there is one
/// service of UDP.
fn ambiguous_fragments(config: &Config, found: &mut Vec<Violation>) {
    let is_udp = |service: &&Service| service.protocol == Protocol::Udp;
    let mut by_address: BTreeMap<IpAddr, &Service> = BTreeMap::new();
    for service in config.services.values().filter(is_udp) {
        if service.fragments == Fragments::Address {
            let address = service.vip.address();
            by_address.entry(address).or_insert(service);
        }
    }
    for service in config.services.values().filter(is_udp) {
        let addresses = service.vip.address()..=service.vip.last();
        let mut others = by_address.range(addresses).map(|(_, &other)| other);
        let Some(other) = others.find(|other| other.name != service.name) else {
            continue;
        };
        found.push(Violation {
            at: vip(service),
            other: Some(vip(other)),
            message: format!(
                "service `{}` has the VIP {} with `fragments = \"address\"`, and service `{}` has it \
                 too: fragments have no port to tell which of the two they are for",
                other.name, other.vip, service.name
            ),
            help: "give one of them another VIP, or leave `fragments` out".to_owned(),
        });
    }
}

/// The pool that a service names must exist.
pub(super) fn unknown_pool(config: &Config, service: &str, pool: &str) -> Option<Violation> {
    (!config.pools.contains_key(pool)).then(|| Violation {
        at: Subject::PoolOf {
            service: service.to_owned(),
        },
        other: None,
        message: format!("service `{service}` names pool `{pool}`, which does not exist"),
        help: pool_advice(config, pool),
    })
}

/// What to write instead of the name of a pool that does not exist.
pub(super) fn pool_advice(config: &Config, written: &str) -> String {
    if config.pools.is_empty() {
        return "there is no pool yet; add a [[pool]] to the file".to_owned();
    }
    suggest::advice(written, config.pools.keys().map(String::as_str))
}

/// Backends of another family than the VIP, and backends that are a VIP. Each is named once, though
/// several services may share it.
fn misplaced_backends(config: &Config, listeners: &Listeners<'_>, found: &mut Vec<Violation>) {
    let mut named: HashSet<(&str, SocketAddr)> = HashSet::new();
    for (service, pool) in attached(config) {
        for backend in &pool.backends {
            let fault = wrong_family(service, backend)
                .or_else(|| own_vip(service, backend))
                .or_else(|| own_source(config, service, backend))
                .or_else(|| wide::needs_port(service, backend))
                .or_else(|| wide::one_port_for_all(service, backend))
                .or_else(|| wide::loops(service, backend, listeners));
            if let Some((message, help)) = fault
                && named.insert((&pool.name, backend.endpoint()))
            {
                found.push(Violation {
                    at: Subject::Backend {
                        pool: pool.name.clone(),
                        endpoint: backend.endpoint(),
                    },
                    other: None,
                    message,
                    help,
                });
            }
        }
    }
}

fn wrong_family(service: &Service, backend: &Backend) -> Option<(String, String)> {
    let needs_same_family = match service.forward {
        Forward::Dnat | Forward::L2Dsr | Forward::FullNat => true,
        // An outer header may be of either, and a listener may take in both.
        Forward::Ipip | Forward::Gue | Forward::Local => false,
    };
    if !needs_same_family || service.vip.is_ipv4() == backend.address.is_ipv4() {
        return None;
    }
    let message = format!(
        "backend {} is {}, and the VIP {} of service `{}` is {}: `{}` needs both in one family",
        backend.address,
        family(backend.address),
        service.vip,
        service.name,
        family(service.vip.address()),
        service.forward,
    );
    let help = "make a pool for each family, and a service for each".to_owned();
    Some((message, help))
}

fn own_vip(service: &Service, backend: &Backend) -> Option<(String, String)> {
    let is_sent = service.forward != Forward::Local;
    (is_sent && service.vip.contains(backend.address)).then(|| {
        let message = format!(
            "backend {} has the VIP of service `{}` as its address: packets would come back to the balancer",
            backend.endpoint(),
            service.name
        );
        let help = "write the address that the backend has for itself".to_owned();
        (message, help)
    })
}

fn own_source(config: &Config, service: &Service, backend: &Backend) -> Option<(String, String)> {
    let is_sent = service.forward == Forward::FullNat;
    (is_sent && config.dataplane.nat_source.contains(&backend.address)).then(|| {
        let message = format!(
            "backend {} of service `{}` has an address that is in `nat_source`: packets would come \
             from where they go to",
            backend.endpoint(),
            service.name
        );
        let help =
            "use an address in `nat_source` that leads to this host, and to no other".to_owned();
        (message, help)
    })
}

/// Replies under `dnat` are told apart by the backend's address, port and protocol alone.
fn ambiguous_replies(config: &Config, found: &mut Vec<Violation>) {
    let mut repliers = Repliers::default();
    let mut shared: BTreeMap<(&str, &str), Vec<Listener>> = BTreeMap::new();
    for (service, pool) in attached(config) {
        match service.forward {
            Forward::Dnat => {}
            // Replies are told apart by the port that they come to.
            Forward::L2Dsr | Forward::Ipip | Forward::Gue | Forward::Local | Forward::FullNat => {
                continue;
            }
        }
        for backend in &pool.backends {
            if let Some((owner, replies_from)) = repliers.add(service, backend) {
                let pair = (owner.name.as_str(), service.name.as_str());
                shared.entry(pair).or_default().push(replies_from);
            }
        }
    }
    for ((first, second), backends) in shared {
        let more = match backends.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let example = backends
            .first()
            .map_or(String::new(), |&one| endpoint_name(one));
        found.push(Violation {
            at: Subject::PoolOf { service: second.to_owned() },
            other: Some(Subject::PoolOf { service: first.to_owned() }),
            message: format!(
                "services `{first}` and `{second}` both reach {example}{more} by `dnat`: its replies \
                 would not tell which service they belong to"
            ),
            help: "give each service backends, or ports of the backends, of its own; or use \
                   `full-nat`, which tells replies apart by port"
                .to_owned(),
        });
    }
}

/// The one backend of a service of this host's own stack is its listener, and nobody else's.
fn crowded_listeners(config: &Config, found: &mut Vec<Violation>) {
    let is_local = |service: &&Service| service.forward == Forward::Local;
    for service in config.services.values().filter(is_local) {
        let Some(pool) = config.pools.get(&service.pool) else {
            continue;
        };
        let mut others = config.services.values();
        let is_shared = pool.name != service.name
            || others.any(|other| other.pool == pool.name && other.name != service.name);
        if !is_shared && pool.backends.len() == 1 {
            continue;
        }
        let (name, backends) = (&service.name, pool.backends.len());
        found.push(Violation {
            at: Subject::PoolOf {
                service: name.clone(),
            },
            other: None,
            message: if is_shared {
                format!(
                    "service `{name}` is `local`, and shares pool `{}` with other services, or \
                     takes the backends of another",
                    pool.name
                )
            } else {
                format!(
                    "service `{name}` is `local`, whose only backend is its listener on this host, \
                     and would have {backends}"
                )
            },
            help:
                "such a service stands in the file, without a pool; its `listener` says where it \
                   listens, if not at its own port"
                    .to_owned(),
        });
    }
}

/// Services under full NAT have a source address of their family, which is nobody else's.
fn sources(config: &Config, found: &mut Vec<Violation>) {
    let sources = &config.dataplane.nat_source;
    for service in config.services.values() {
        let name = &service.name;
        let (message, help) = if sources.iter().any(|&source| service.vip.contains(source)) {
            (
                format!(
                    "the VIP of service `{name}` is in `nat_source`: packets to it could be replies too"
                ),
                "use an address that is for this alone",
            )
        } else if service.forward == Forward::FullNat
            && !sources
                .iter()
                .any(|source| source.is_ipv4() == service.vip.is_ipv4())
        {
            let family = if service.vip.is_ipv4() {
                "IPv4"
            } else {
                "IPv6"
            };
            (
                format!(
                    "service `{name}` is `full-nat`, and there is no source address of {family}"
                ),
                "name one in `nat_source` of [dataplane], which is routed to this host",
            )
        } else {
            continue;
        };
        found.push(Violation {
            at: Subject::Vip {
                service: name.clone(),
            },
            other: None,
            message,
            help: help.to_owned(),
        });
    }
}

fn too_many_backends(config: &Config, found: &mut Vec<Violation>) {
    for pool in config.pools.values() {
        if pool.backends.len() as u64 > u64::from(pool.ring_slots) {
            found.push(Violation {
                at: Subject::Pool {
                    pool: pool.name.clone(),
                },
                other: None,
                message: format!(
                    "pool `{}` has {} backends for {} slots: some would get no connection",
                    pool.name,
                    pool.backends.len(),
                    pool.ring_slots
                ),
                help: "set `ring_slots` to a prime of at least a hundred times the backends"
                    .to_owned(),
            });
        }
    }
    found.extend(too_many_together(total_backends(config)));
}

fn too_many_together(total: usize) -> Option<Violation> {
    (total > MAX_BACKENDS).then(|| Violation {
        at: Subject::Everything,
        other: None,
        message: format!(
            "the pools have {total} backends together, and a host at most {MAX_BACKENDS}"
        ),
        help: "let services share pools, or spread them over several balancers".to_owned(),
    })
}

/// As [`check_invariants`] for `config` with one pool as it is here, if `config` breaks no rule:
/// looks only at what the pool can be at odds with. The first sentence only.
#[must_use]
pub(super) fn check_pool(config: &Config, pool: &Pool) -> Option<String> {
    let endpoints: HashSet<SocketAddr> = pool.backends.iter().map(Backend::endpoint).collect();
    let addresses: HashSet<IpAddr> = endpoints.iter().map(SocketAddr::ip).collect();
    let has_own_ports = endpoints.iter().any(|endpoint| endpoint.port() == 0);
    let mut near = Config {
        dataplane: config.dataplane.clone(),
        pools: BTreeMap::from([(pool.name.clone(), pool.clone())]),
        services: BTreeMap::new(),
    };
    let mut others = 0;
    for other in config
        .pools
        .values()
        .filter(|other| other.name != pool.name)
    {
        others += other.backends.len();
        // Without a port of its own, a backend may have the ports of others.
        let is_near = |backend: &Backend| {
            endpoints.contains(&backend.endpoint())
                || addresses.contains(&backend.address) && (backend.port == 0 || has_own_ports)
        };
        if other.backends.iter().any(is_near) {
            near.pools.insert(other.name.clone(), other.clone());
        }
    }
    let is_hit = |service: &Service| {
        addresses.contains(&service.vip.address())
            || !service.vip.is_one() && addresses.iter().any(|&it| service.vip.contains(it))
    };
    for service in config.services.values() {
        if near.pools.contains_key(&service.pool) || is_hit(service) {
            near.services.insert(service.name.clone(), service.clone());
        }
    }
    let together = too_many_together(others + pool.backends.len());
    let mut broken = of_backends(&near).into_iter().chain(together);
    broken
        .next()
        .map(|violation| format!("{}; {}", violation.message, violation.help))
}

fn total_backends(config: &Config) -> usize {
    config.pools.values().map(|pool| pool.backends.len()).sum()
}

/// Services with their pools, those that exist.
fn attached(config: &Config) -> impl Iterator<Item = (&Service, &Pool)> {
    config
        .services
        .values()
        .filter_map(|service| Some((service, config.pools.get(&service.pool)?)))
}

fn vip(service: &Service) -> Subject {
    Subject::Vip {
        service: service.name.clone(),
    }
}

fn endpoint_name((endpoint, protocol): Listener) -> String {
    format!("{endpoint}/{protocol}")
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}
