//! What is on the backends: who takes packets out of their outer header there.

use serde_json::Value;

use crate::lab::{Decapsulator, Host, NetNs, Topology};

/// Who gets what the balancer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    /// The server itself: the packet comes without an outer header.
    Server,
    /// `xlb-agent backend run`.
    Xlb,
    /// The kernel's tunnels: ipip, sit and ip6_tunnel, behind fou with `gue`.
    Kernel,
}

/// UDP port of `gue`.
const GUE_PORT: u16 = 6080;

/// The kernel's tunnels that take every packet of their kind.
const TUNNELS: [&str; 3] = ["tunl0", "sit0", "unpack6"];

/// What unpacks on the backends of a topology.
pub(super) struct Unpackers {
    /// Our own, one a backend.
    own: Vec<Decapsulator>,
    /// Backends whose kernel unpacks.
    kernels: Vec<NetNs>,
}

impl Unpackers {
    pub(super) fn start(topology: &Topology, receiver: Receiver, forward: &str) -> Self {
        let (mut own, mut kernels) = (Vec::new(), Vec::new());
        match receiver {
            Receiver::Server => {}
            Receiver::Xlb => {
                let hosts = topology.backends.iter();
                own.extend(hosts.map(|host| Decapsulator::start(&host.ns)));
            }
            Receiver::Kernel => {
                for host in &topology.backends {
                    let_kernel_unpack(host, forward);
                    kernels.push(host.ns.clone());
                }
            }
        }
        Self { own, kernels }
    }

    /// Packets that were taken out of outer headers so far.
    pub(super) fn unpacked(&self) -> u64 {
        let own: u64 = self.own.iter().map(|side| side.packets("delivered")).sum();
        let kernels = self.kernels.iter().map(received_by_tunnels);
        own + kernels.sum::<u64>()
    }

    /// Whether there is anything to unpack.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.kernels.is_empty()
    }
}

/// Opens the kernel's tunnels for any sender, and what takes UDP off in front of them.
fn let_kernel_unpack(host: &Host, forward: &str) {
    let ns = &host.ns;
    ns.ip(&format!(
        "link add name unpack6 type ip6tnl mode any local {} remote ::",
        host.v6
    ));
    for tunnel in TUNNELS {
        ns.ip(&format!("link set {tunnel} up"));
        // Clients are not routed to by a tunnel.
        ns.sysctl(&format!("net/ipv4/conf/{tunnel}/rp_filter"), "0");
    }
    if forward == "gue" {
        ns.ip(&format!("fou add port {GUE_PORT} gue"));
        ns.ip(&format!("-6 fou add port {GUE_PORT} gue"));
    }
}

fn received_by_tunnels(ns: &NetNs) -> u64 {
    let links = ns.ip("-j -s link show");
    let links: Value = serde_json::from_str(&links).expect("JSON of ip");
    let links = links.as_array().into_iter().flatten();
    links
        .filter(|link| {
            TUNNELS
                .iter()
                .any(|name| link["ifname"].as_str() == Some(name))
        })
        .filter_map(|link| link["stats64"]["rx"]["packets"].as_u64())
        .sum()
}
