//! A client, a balancer with the real agent, and two backends: traffic passes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use super::{
    Check, Counted,
    receiver::{Receiver, Unpackers},
    traffic,
};
use crate::lab::{Agent, Backend, BackendKind, Lab, Replies, Topology, VIP_V4, VIP_V6, wait_until};

/// How long backends may take to be up on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of an IPv6 header and one of UDP.
const OUTER_HEADER_BYTES: u16 = 48;

const WEB_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;

/// How packets pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    forward: &'static str,
    receiver: Receiver,
    /// The family of the VIP.
    v6: bool,
    /// The family of the backends' addresses.
    backends_v6: bool,
}

impl Passage {
    /// VIP and backends are of one family.
    pub(super) const fn new(forward: &'static str, receiver: Receiver, v6: bool) -> Self {
        Self {
            forward,
            receiver,
            v6,
            backends_v6: v6,
        }
    }

    pub(super) fn into_check(self) -> Check {
        let family = |v6| if v6 { "IPv6" } else { "IPv4" };
        let to = match self.receiver {
            Receiver::Server => String::new(),
            Receiver::Xlb => format!(" over {} to xlb", family(self.backends_v6)),
            Receiver::Kernel => format!(" over {} to the kernel", family(self.backends_v6)),
        };
        Check {
            name: format!("{} of {}{to}", self.forward, family(self.v6)),
            run: Box::new(move || self.pass()),
        }
    }

    fn pass(&self) -> Counted {
        let lab = Lab::new("guest");
        let topology = Topology::one_link(&lab, 2);
        if self.forward != "dnat" {
            topology.widen_back_link(1500 + OUTER_HEADER_BYTES);
            topology.put_vips_on_backends();
            topology.route_replies(Replies::Direct);
        }
        let unpackers = Unpackers::start(&topology, self.receiver, self.forward);
        let _servers: Vec<Backend> = topology
            .backends
            .iter()
            .map(|host| {
                let own = host.address(self.backends_v6);
                let kind = BackendKind::BuiltIn {
                    http: self.served(own, WEB_PORT),
                    udp: self.served(own, ECHO_PORT),
                };
                Backend::start(&host.ns, host.name(), kind)
            })
            .collect();
        let agent = Agent::start(&topology.balancer.ns, &self.config(&topology));
        wait_until("every backend is up", PATIENCE, || {
            let health = agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.iter().all(|backend| backend["state"] == "up")
        });
        let status = agent.cli(&["status", "-o", "json"]);
        assert_eq!(status["interfaces"][0]["mode"], "native", "{status}");

        let client = &topology.client.ns;
        traffic::requests(client, SocketAddr::new(self.vip(), WEB_PORT));
        traffic::datagrams(client, SocketAddr::new(self.vip(), ECHO_PORT));
        let packets = forwarded(&agent);
        assert!(packets > 0, "xlb has forwarded nothing");
        if !unpackers.is_empty() {
            wait_until("the last packets are unpacked", PATIENCE, || {
                unpackers.unpacked() >= packets
            });
        }
        Counted {
            packets,
            ..Counted::default()
        }
    }

    const fn vip(&self) -> IpAddr {
        if self.v6 {
            IpAddr::V6(VIP_V6)
        } else {
            IpAddr::V4(VIP_V4)
        }
    }

    /// The sockets of a server: on the VIP, where packets for it come, and on the host's own address,
    /// for checks of its health and for `dnat`.
    fn served(&self, own: IpAddr, port: u16) -> Vec<SocketAddr> {
        let mut sockets = vec![SocketAddr::new(own, port)];
        if self.forward != "dnat" {
            sockets.push(SocketAddr::new(self.vip(), port));
        }
        sockets
    }

    fn config(&self, topology: &Topology) -> String {
        let service = |name: &str, protocol: &str, port: u16| {
            let backends = topology.backends.iter().map(|host| {
                let address = host.address(self.backends_v6);
                format!("{{ address = \"{address}\", port = {port} }}, ")
            });
            let (backends, vip, forward) = (backends.collect::<String>(), self.vip(), self.forward);
            format!(
                r#"
[[service]]
name = "{name}"
vip = "{vip}"
port = {port}
protocol = "{protocol}"
forward = "{forward}"
backends = [{backends}]
check = {{ type = "tcp", port = {WEB_PORT}, interval = "1s", timeout = "1s", rise = 1 }}
"#
            )
        };
        let services = service("web", "tcp", WEB_PORT) + &service("echo", "udp", ECHO_PORT);
        format!("[dataplane]\ninterfaces = [\"eth0\"]\nmode = \"native\"\n{services}")
    }
}

/// Packets that were sent to backends, by all services.
pub(super) fn forwarded(agent: &Agent) -> u64 {
    let services: Value = agent.cli(&["service", "list", "-o", "json"]);
    let services = services.as_array().into_iter().flatten();
    services
        .filter_map(|service| service["counters"]["packets"].as_u64())
        .sum()
}
