//! A host whose agent has filled the maps, for programs that are run there without traffic.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use aya::maps::{HashMap, Map, PerCpuArray};
use xlb_common::{maps::name, reason::Reason};
use xlb_control::api::{BackendState, Change};
use xlb_tests::lab::{Lab, NetNs};

use super::{harness::Loaded, traffic::nth};
use crate::{daemon::Daemon, maps::open_map};

/// Port of TCP services.
pub const TCP_PORT: u16 = 80;
/// Port of UDP services.
pub const UDP_PORT: u16 = 53;
/// Port of backends.
pub const BACKEND_PORT: u16 = 8080;
/// The VIPs, of IPv4 and IPv6.
pub const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
];
/// Addresses that are no VIPs.
pub const NO_VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10)),
];
/// The first backends that a gateway leads to.
pub const BACKENDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 128, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 1)),
];
/// The first backends on the link.
pub const NEIGHBOURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 80, 1, 11)),
    IpAddr::V6(Ipv6Addr::new(0xfd80, 0, 0, 1, 0, 0, 0, 0x11)),
];
/// MAC address of the gateway.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 10, 80, 1, 254];
/// The first of many VIPs. Their prefix is one of those for private use.
pub const MANY_VIPS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
/// Backends of a pool.
pub const BACKEND_COUNT: u32 = 100;
/// Slots of a pool's ring: Maglev's size (NSDI'16, section 5.3).
const RING_SLOTS: u32 = 65_537;
/// Backends of a pool that many services share.
const SHARED_BACKENDS: u32 = 10;
/// Backends of each pool where there are many.
const FEW_BACKENDS: u32 = 2;
/// The smallest ring that a configuration may have.
const SMALL_RING_SLOTS: u32 = 251;
/// Room in each of the tables of flows: twice the flows, so that none is refused.
const TABLE_ENTRIES: u32 = 1 << 21;

/// What a host's agent is configured to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Forward TCP and UDP of both families in one mode.
    Mode(&'static str),
    /// Forward to many services by `ipip`.
    Many {
        /// Services.
        services: u32,
        /// Whether each has a pool of its own, or all share one.
        own_pools: bool,
    },
    /// Be in the middle of a change of every slot, under `ipip`.
    Moving,
}

impl Plan {
    /// Where backends are.
    #[must_use]
    pub fn backends(self, v6: bool) -> SocketAddr {
        let first = match self {
            Self::Mode("l2-dsr") => NEIGHBOURS,
            Self::Mode(_) | Self::Many { .. } | Self::Moving => BACKENDS,
        };
        SocketAddr::new(first[usize::from(v6)], BACKEND_PORT)
    }

    /// Backends in all.
    #[must_use]
    pub const fn backend_count(self) -> u32 {
        match self {
            Self::Mode(_) => BACKEND_COUNT,
            Self::Many {
                services,
                own_pools: true,
            } => services * FEW_BACKENDS,
            Self::Many {
                own_pools: false, ..
            } => SHARED_BACKENDS,
            Self::Moving => 2,
        }
    }

    /// The text of the agent's configuration.
    #[must_use]
    pub fn config(self) -> String {
        let mut text = "[dataplane]\ninterfaces = [\"eth0\"]\n\
                        hash_key = \"000102030405060708090a0b0c0d0e0f\"\n"
            .to_owned();
        match self {
            Self::Mode(forward) => {
                for v6 in [false, true] {
                    let name = if v6 { "v6" } else { "v4" };
                    pool(
                        &mut text,
                        name,
                        RING_SLOTS,
                        self.backends(v6),
                        BACKEND_COUNT,
                    );
                    let vip = VIPS[usize::from(v6)];
                    for (protocol, port) in [("tcp", TCP_PORT), ("udp", UDP_PORT)] {
                        let vip = SocketAddr::new(vip, port);
                        service(
                            &mut text,
                            &format!("{protocol}-{name}"),
                            vip,
                            protocol,
                            forward,
                            name,
                        );
                    }
                }
            }
            Self::Many {
                services,
                own_pools,
            } => {
                if !own_pools {
                    let first = self.backends(false);
                    pool(&mut text, "shared", RING_SLOTS, first, SHARED_BACKENDS);
                }
                for number in 0..services {
                    let own = format!("pool{number}");
                    if own_pools {
                        let first = nth(self.backends(false), number * FEW_BACKENDS);
                        pool(&mut text, &own, SMALL_RING_SLOTS, first, FEW_BACKENDS);
                    }
                    let name = if own_pools { own.as_str() } else { "shared" };
                    let vip = nth(SocketAddr::new(MANY_VIPS.into(), TCP_PORT), number);
                    service(
                        &mut text,
                        &format!("service{number}"),
                        vip,
                        "tcp",
                        "ipip",
                        name,
                    );
                }
                // The same features as with one service.
                pool(&mut text, "v6", RING_SLOTS, self.backends(true), 1);
                let vip = SocketAddr::new(VIPS[1], TCP_PORT);
                service(&mut text, "tcp-v6", vip, "tcp", "ipip", "v6");
            }
            Self::Moving => {
                let _ = writeln!(
                    text,
                    "max_pending = {TABLE_ENTRIES}\nmax_flows = {TABLE_ENTRIES}"
                );
                pool(&mut text, "v4", RING_SLOTS, self.backends(false), 1);
                let vip = SocketAddr::new(VIPS[0], TCP_PORT);
                service(&mut text, "tcp-v4", vip, "tcp", "ipip", "v4");
                pool(&mut text, "v6", RING_SLOTS, self.backends(true), 1);
                let vip = SocketAddr::new(VIPS[1], TCP_PORT);
                service(&mut text, "tcp-v6", vip, "tcp", "ipip", "v6");
            }
        }
        text
    }

    /// Names of some services by which to tell whether the agent is ready.
    const fn services(self) -> &'static [&'static str] {
        match self {
            Self::Mode(_) => &["tcp-v4", "udp-v4", "tcp-v6", "udp-v6"],
            Self::Many { .. } => &["service0", "tcp-v6"],
            Self::Moving => &["tcp-v4", "tcp-v6"],
        }
    }
}

fn pool(text: &mut String, name: &str, ring_slots: u32, first: SocketAddr, count: u32) {
    let _ = write!(
        text,
        "\n[[pool]]\nname = \"{name}\"\nring_slots = {ring_slots}\nbackends = [\n"
    );
    for number in 0..count {
        let backend = nth(first, number);
        let _ = writeln!(
            text,
            "  {{ address = \"{}\", port = {} }},",
            backend.ip(),
            backend.port()
        );
    }
    text.push_str("]\n");
}

fn service(
    text: &mut String,
    name: &str,
    vip: SocketAddr,
    protocol: &str,
    forward: &str,
    pool: &str,
) {
    let _ = write!(
        text,
        "\n[[service]]\nname = \"{name}\"\nvip = \"{}\"\nport = {}\nprotocol = \"{protocol}\"\n\
         forward = \"{forward}\"\npool = \"{pool}\"\n",
        vip.ip(),
        vip.port()
    );
}

/// A host whose maps are filled, and its program, loaded several times. No agent runs there.
pub struct World {
    plan: Plan,
    daemon: Daemon,
    wire: NetNs,
    programs: Vec<Loaded>,
    _lab: Lab,
}

impl World {
    /// Builds the host, has an agent start there as often as loads are wanted, and keeps the program
    /// of each start.
    #[must_use]
    pub fn build(agent: &Path, plan: Plan, loads: usize) -> Self {
        let lab = Lab::new("bench-cost");
        let (host, wire) = (lab.namespace("host"), lab.namespace("wire"));
        connect(&host, &wire);
        if plan == Plan::Mode("l2-dsr") {
            add_neighbours(&lab, &host);
        }
        let mut daemon = Daemon::prepare(agent, &host, &plan.config());
        let first = plan.services()[0];
        let mut programs = Vec::new();
        for load in 0..loads {
            daemon.start(first);
            if load == 0 {
                wait_until_resolved(&daemon, plan);
                if plan == Plan::Moving {
                    move_all_slots(&daemon, plan);
                }
            }
            let program = Loaded::on_host(&host, &daemon.pin("program"));
            programs.push(program.unwrap_or_else(|error| panic!("{error:#}")));
            daemon.stop();
        }
        Self {
            plan,
            daemon,
            wire,
            programs,
            _lab: lab,
        }
    }

    /// What it was built by.
    #[must_use]
    pub const fn plan(&self) -> Plan {
        self.plan
    }

    /// The other end of the host's cable.
    #[must_use]
    pub const fn wire(&self) -> &NetNs {
        &self.wire
    }

    /// The program of each load.
    #[must_use]
    pub fn programs(&self) -> &[Loaded] {
        &self.programs
    }

    /// Packets by reason so far.
    #[must_use]
    pub fn reasons(&self) -> Vec<u64> {
        let map = PerCpuArray::<_, u64>::try_from(self.map(name::REASONS)).expect("per-CPU counts");
        (0..Reason::COUNT as u32)
            .map(|index| map.get(&index, 0).expect("a count").iter().sum())
            .collect()
    }

    /// Empties the tables of flows.
    pub fn forget_flows(&self) {
        for name in [name::PENDING, name::FLOWS] {
            let mut map = HashMap::<_, [u8; 40], [u8; 16]>::try_from(self.map(name))
                .expect("a table of flows");
            let keys: Vec<_> = map.keys().map(|key| key.expect("a key")).collect();
            for key in keys {
                map.remove(&key).expect("nobody else removes it");
            }
        }
    }

    fn map(&self, name: &str) -> Map {
        open_map(self.daemon.ns(), &self.daemon.pin(name))
    }
}

/// A cable with addresses, and a gateway that is known without being there.
pub fn connect(host: &NetNs, wire: &NetNs) {
    let mac = [2, 0, 10, 80, 1, 1];
    host.cable("eth0", wire, "eth0", Some(mac));
    // What this end says by itself is nothing that should be counted.
    wire.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1");
    for line in [
        "addr add 10.80.1.1/24 dev eth0",
        "addr add fd80:0:0:1::1/64 dev eth0 nodad",
        "neigh replace 10.80.1.254 lladdr 02:00:0a:50:01:fe dev eth0 nud permanent",
        "neigh replace fd80:0:0:1::fe lladdr 02:00:0a:50:01:fe dev eth0 nud permanent",
        "route add default via 10.80.1.254",
        "-6 route add default via fd80:0:0:1::fe",
    ] {
        host.ip(line);
    }
}

fn add_neighbours(lab: &Lab, host: &NetNs) {
    let mut batch = String::new();
    for first in NEIGHBOURS {
        for number in 0..BACKEND_COUNT {
            let address = nth(SocketAddr::new(first, 0), number).ip();
            let _ = writeln!(
                batch,
                "neigh replace {address} lladdr {} dev eth0 nud permanent",
                neighbour_mac(number)
                    .map(|byte| format!("{byte:02x}"))
                    .join(":")
            );
        }
    }
    let path = lab.write_file("neighbours", &batch);
    host.exec(&["ip", "-batch", &path.display().to_string()]);
}

/// MAC address of a backend on the link.
#[must_use]
pub fn neighbour_mac(number: u32) -> [u8; 6] {
    [2, 1, 0, 0, 0, u8::try_from(number).expect("few neighbours")]
}

fn wait_until_resolved(daemon: &Daemon, plan: Plan) {
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
    xlb_tests::lab::wait_until("every backend's next hop is known", LIMIT, || {
        plan.services().iter().all(|service| {
            let health = daemon
                .call(async |client| client.health(Some(service)).await)
                .unwrap_or_else(|error| panic!("ask for health: {error}"));
            !health.is_empty()
                && health
                    .iter()
                    .all(|backend| backend.state != BackendState::Unresolved)
        })
    });
}

/// Adds a backend to a pool of one, and drains the one: every slot moves.
fn move_all_slots(daemon: &Daemon, plan: Plan) {
    for (pool, v6) in [("v4", false), ("v6", true)] {
        let first = plan.backends(v6);
        let changes = [
            Change::BackendAdd {
                pool: pool.to_owned(),
                endpoint: nth(first, 1),
                weight: 1,
            },
            Change::BackendDrain {
                pool: pool.to_owned(),
                endpoint: first,
                timeout_s: None,
            },
        ];
        for change in &changes {
            daemon
                .call(async |client| client.change(change).await)
                .unwrap_or_else(|error| panic!("{change:?}: {error}"));
        }
    }
    let status = daemon
        .call(async |client| client.status().await)
        .unwrap_or_else(|error| panic!("ask for the status: {error}"));
    for pool in status.pools {
        assert_eq!(pool.moving_slots, pool.ring_slots, "every slot moves");
    }
}

#[cfg(test)]
mod tests {
    use xlb_control::config::Config;

    use super::*;

    #[test]
    fn the_configurations_are_valid() {
        for (plan, services) in [
            (Plan::Mode("ipip"), 4),
            (Plan::Mode("dnat"), 4),
            (Plan::Mode("l2-dsr"), 4),
            (
                Plan::Many {
                    services: 10_000,
                    own_pools: true,
                },
                10_001,
            ),
            (
                Plan::Many {
                    services: 10_000,
                    own_pools: false,
                },
                10_001,
            ),
            (Plan::Moving, 2),
        ] {
            let loaded = Config::parse("bench.toml", &plan.config())
                .unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            assert_eq!(loaded.config.services.len(), services, "{plan:?}");
            for name in plan.services() {
                assert!(loaded.config.services.contains_key(*name), "{name}");
            }
        }
    }
}
