//! A lab with servers on its backends, and an agent that balances them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use xlb_control::api::{BackendStatus, Counters, ServiceStatus};
use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Host, Lab, Replies, Shape, Topology, VIP_V4, VIP_V6,
    wait_until,
};

/// How long backends may take to be well.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of an IPv6 header and one of UDP.
const OUTER_HEADER_BYTES: u16 = 48;

/// A service of the stage: its name, which is its pool's too, and what is behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    /// Port of the backends where the mode can change it.
    pub(crate) nat_port: u16,
    /// Backends; the first so many.
    pub(crate) backends: usize,
}

/// nginx.
pub(crate) const WEB: Service = Service {
    name: "web",
    protocol: "tcp",
    port: 80,
    nat_port: 8080,
    backends: 2,
};

/// The echo of UDP datagrams.
pub(crate) const ECHO: Service = Service {
    name: "echo",
    protocol: "udp",
    port: 7,
    nat_port: 7007,
    backends: 2,
};

/// iperf3, whose two connections have to come to the same server.
pub(crate) const IPERF: Service = Service {
    name: "iperf",
    protocol: "tcp",
    port: 5201,
    nat_port: 5301,
    backends: 1,
};

pub(crate) const SERVICES: [Service; 3] = [WEB, ECHO, IPERF];

/// What varies between stages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// `forward` of every service.
    pub(crate) forward: &'static str,
    pub(crate) v6: bool,
    pub(crate) two_interfaces: bool,
    /// Whether backends have addresses of the other family than the VIP.
    pub(crate) across: bool,
    /// Whether datagrams in fragments go by their addresses.
    pub(crate) fragments_by_address: bool,
}

impl Setting {
    /// On one interface, with backends of the VIP's family.
    pub(crate) const fn new(forward: &'static str, v6: bool) -> Self {
        Self {
            forward,
            v6,
            two_interfaces: false,
            across: false,
            fragments_by_address: false,
        }
    }

    pub(crate) const fn vip(self) -> IpAddr {
        if self.v6 {
            IpAddr::V6(VIP_V6)
        } else {
            IpAddr::V4(VIP_V4)
        }
    }

    /// Whether packets come to the backends within others.
    pub(crate) fn is_tunnelled(self) -> bool {
        ["ipip", "gue"].contains(&self.forward)
    }

    /// Whether the backends have the VIP, and answer clients themselves.
    pub(crate) fn is_direct(self) -> bool {
        self.forward != "dnat" && !self.is_full_nat()
    }

    /// Whether backends know nothing of clients.
    pub(crate) fn is_full_nat(self) -> bool {
        self.forward == "full-nat"
    }

    const fn backend_port(self, service: Service) -> u16 {
        if matches!(self.forward.as_bytes(), b"dnat" | b"full-nat") {
            service.nat_port
        } else {
            service.port
        }
    }
}

/// Clients on the link and behind a router, a balancer with an agent, and two backends.
pub(crate) struct Stage {
    /// First, since what is first is dropped first.
    pub(crate) agent: Agent,
    _servers: Vec<Backend>,
    /// What unpacks packets on the backends, where they come packed.
    pub(crate) unpackers: Vec<Decapsulator>,
    pub(crate) topology: Topology,
    pub(crate) setting: Setting,
}

impl Stage {
    pub(crate) fn build(label: &str, setting: Setting) -> Self {
        let shape = Shape {
            backends: 2,
            two_interfaces: setting.two_interfaces,
            routed_client: true,
        };
        let topology = Topology::build(&Lab::new(label), shape);
        let unpackers = match setting.forward {
            "dnat" | "full-nat" => Vec::new(),
            "l2-dsr" => {
                topology.put_vips_on_backends();
                Vec::new()
            }
            _ => unpack_on_backends(&topology),
        };
        if setting.is_direct() {
            topology.route_replies(Replies::Direct);
        }
        let servers = topology
            .backends
            .iter()
            .flat_map(|host| start_servers(host, setting))
            .collect();
        let agent = Agent::start(&topology.balancer.ns, &config(&topology, setting));
        let stage = Self {
            agent,
            _servers: servers,
            unpackers,
            topology,
            setting,
        };
        stage.wait_until_well();
        stage
    }

    /// The clients: one behind a router, and that router, which is on the balancer's link.
    pub(crate) fn clients(&self) -> [&Host; 2] {
        let router = self.topology.router.as_ref();
        [&self.topology.client, router.expect("a stage has a router")]
    }

    pub(crate) fn wait_until_well(&self) {
        wait_until("every backend is up", HEALTH_LIMIT, || {
            let health = self.agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.iter().all(|backend| backend["state"] == "up")
        });
    }

    /// Where clients find a service.
    pub(crate) fn target(&self, service: Service) -> SocketAddr {
        SocketAddr::new(self.setting.vip(), service.port)
    }

    /// Counters of a service.
    #[track_caller]
    pub(crate) fn counters(&self, service: Service) -> Counters {
        let list = self.agent.cli(&["service", "list", "-o", "json"]);
        let services: Vec<ServiceStatus> = serde_json::from_value(list).expect("services");
        let found = services.iter().find(|found| found.name == service.name);
        found.expect("the service is there").counters
    }

    /// Packets that backends have unpacked.
    pub(crate) fn unpacked(&self) -> u64 {
        let unpacked = self.unpackers.iter().map(|side| side.packets("delivered"));
        unpacked.sum()
    }

    /// Packets to each backend of a service.
    #[track_caller]
    pub(crate) fn packets_by_backend(&self, service: Service) -> Vec<u64> {
        let words = ["backend", "list", service.name, "-o", "json"];
        let backends: Vec<BackendStatus> =
            serde_json::from_value(self.agent.cli(&words)).expect("backends");
        let packets = backends.iter().map(|backend| backend.counters.packets);
        packets.collect()
    }
}

/// Has backends unpack what they get, which puts the VIPs on them too, and makes room for the outer
/// header on the way to them.
fn unpack_on_backends(topology: &Topology) -> Vec<Decapsulator> {
    topology.widen_back_link(1500 + OUTER_HEADER_BYTES);
    let hosts = topology.backends.iter();
    hosts.map(|host| Decapsulator::start(&host.ns)).collect()
}

/// nginx, the echo and iperf3, where the mode has them: on the host's own address, or on the VIP,
/// besides what the checks of health need.
fn start_servers(host: &Host, setting: Setting) -> Vec<Backend> {
    let own = host.address(setting.v6 != setting.across);
    let served = if setting.is_direct() {
        setting.vip()
    } else {
        own
    };
    let web_port = setting.backend_port(WEB);
    let mut http = vec![SocketAddr::new(own, web_port)];
    if served != own {
        http.push(SocketAddr::new(served, web_port));
    }
    let udp = vec![SocketAddr::new(served, setting.backend_port(ECHO))];
    let kinds = [
        BackendKind::Nginx { http },
        BackendKind::BuiltIn {
            http: Vec::new(),
            udp,
        },
        BackendKind::Iperf {
            port: setting.backend_port(IPERF),
        },
    ];
    kinds
        .into_iter()
        .map(|kind| Backend::start(&host.ns, host.name(), kind))
        .collect()
}

fn config(topology: &Topology, setting: Setting) -> String {
    let interfaces = topology.interfaces();
    let services = SERVICES.map(|service| service_config(topology, setting, service));
    // The host's own address, whose ephemeral ports are others.
    let nat = if setting.is_full_nat() {
        let source = topology.balancer.address(setting.v6);
        format!("nat_source = [\"{source}\"]\nnat_ports = \"1024-30000\"\n")
    } else {
        String::new()
    };
    format!(
        "[dataplane]\ninterfaces = {interfaces:?}\n{nat}{}",
        services.concat()
    )
}

/// Every check is of nginx: the echo has no TCP, and to iperf3 each probe would be a client.
fn service_config(topology: &Topology, setting: Setting, service: Service) -> String {
    let Service {
        name,
        protocol,
        port,
        ..
    } = service;
    let Setting {
        forward,
        v6,
        across,
        ..
    } = setting;
    let vip = setting.vip();
    let backend_port = setting.backend_port(service);
    let check_port = setting.backend_port(WEB);
    let fragments = if setting.fragments_by_address && protocol == "udp" {
        "fragments = \"address\"\n"
    } else {
        ""
    };
    let backends: String = topology.backends[..service.backends]
        .iter()
        .map(|host| {
            let address = host.address(v6 != across);
            format!("  {{ address = \"{address}\", port = {backend_port} }},\n")
        })
        .collect();
    format!(
        r#"
[[pool]]
name = "{name}"
backends = [
{backends}]
check = {{ type = "tcp", port = {check_port}, interval = "500ms", timeout = "500ms", rise = 1, fall = 3 }}

[[service]]
name = "{name}"
vip = "{vip}"
port = {port}
protocol = "{protocol}"
forward = "{forward}"
pool = "{name}"
{fragments}"#
    )
}
