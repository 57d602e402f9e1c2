//! Client, balancer and backend of a contender: three network namespaces in a row.
//!
//! ```text
//! client 10.80.2.2 --- 10.80.2.1 balancer 10.80.1.1 --- 10.80.1.11 to .14 backend
//! ```
//!
//! The backend is one nginx on four addresses. Under direct server return, it has a cable of its own
//! to the client, and the VIP on its loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Stdio,
    time::Duration,
};

use xlb_control::api::BackendState;
use xlb_tests::lab::{Lab, NetNs, Process, wait_until};

use super::config;
use crate::{clock, daemon::Daemon};

/// The VIP.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Port of the VIP.
pub(super) const VIP_PORT: u16 = 80;
/// Port of backends.
pub(super) const BACKEND_PORT: u16 = 8080;
/// Addresses of the backend.
pub(super) const BACKENDS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 80, 1, 11),
    Ipv4Addr::new(10, 80, 1, 12),
    Ipv4Addr::new(10, 80, 1, 13),
    Ipv4Addr::new(10, 80, 1, 14),
];
/// Name of xlb's service.
const SERVICE: &str = "web";
/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(20);

/// Who balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nobody: the host in the middle routes.
    Direct,
    /// nftables, which takes backends in turn.
    NftablesNumgen,
    /// nftables, which takes a backend by a hash.
    NftablesJhash,
    /// HAProxy in TCP mode.
    Haproxy,
    /// nginx with its stream module.
    NginxStream,
    /// xlb, in a forwarding mode.
    Xlb(&'static str),
}

impl Kind {
    /// Everybody.
    pub(super) const ALL: [Self; 7] = [
        Self::Direct,
        Self::NftablesNumgen,
        Self::NftablesJhash,
        Self::Haproxy,
        Self::NginxStream,
        Self::Xlb("dnat"),
        Self::Xlb("l2-dsr"),
    ];

    /// The name in the report.
    pub(super) fn name(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::NftablesNumgen => "nftables-numgen".to_owned(),
            Self::NftablesJhash => "nftables-jhash".to_owned(),
            Self::Haproxy => "haproxy-tcp".to_owned(),
            Self::NginxStream => "nginx-stream".to_owned(),
            Self::Xlb(mode) => format!("xlb-{mode}"),
        }
    }
}

/// What network devices do for the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offloads {
    /// Nothing: every packet is as it would be on a wire with an MTU of 1,500, checksum included.
    None,
    /// What they do by default. xlb needs whole checksums, which they leave out among themselves.
    Defaults,
}

/// The three hosts of a contender.
pub(super) struct Site {
    pub(super) kind: Kind,
    pub(super) client: NetNs,
    /// Where clients ask.
    pub(super) target: SocketAddr,
    interfaces: Vec<(NetNs, &'static str)>,
    processes: Vec<Process>,
    daemon: Option<Daemon>,
    _lab: Lab,
}

impl Site {
    /// Builds it and waits until it serves.
    pub(super) fn build(agent: &Path, kind: Kind) -> Self {
        let lab = Lab::new("bench-peers");
        let [client, balancer, backend] =
            ["client", "balancer", "backend"].map(|name| lab.namespace(name));
        let mut site = Self {
            kind,
            client,
            target: SocketAddr::new(VIP.into(), VIP_PORT),
            interfaces: Vec::new(),
            processes: Vec::new(),
            daemon: None,
            _lab: lab.clone(),
        };
        site.connect(&balancer, &backend);
        site.processes.push(start(
            &backend,
            "backend",
            &["nginx", "-c"],
            &config::nginx_backend(&lab),
        ));
        wait_for(&backend, SocketAddr::new(BACKENDS[0].into(), BACKEND_PORT));
        match kind {
            Kind::Direct => site.target = SocketAddr::new(BACKENDS[0].into(), BACKEND_PORT),
            Kind::NftablesNumgen => nft(&lab, &balancer, "numgen inc mod 4"),
            Kind::NftablesJhash => nft(
                &lab,
                &balancer,
                "jhash ip saddr . tcp sport mod 4 seed 0x5eed",
            ),
            Kind::Haproxy | Kind::NginxStream => site.start_proxy(&lab, &balancer),
            Kind::Xlb(mode) => site.start_xlb(agent, &balancer, &backend, mode),
        }
        wait_for(&site.client, site.target);
        for process in &site.processes {
            clock::pin_process_to_last(process.pid());
        }
        site
    }

    fn connect(&mut self, balancer: &NetNs, backend: &NetNs) {
        let client = self.client.clone();
        for ns in [&client, balancer, backend] {
            for path in ["all", "default"] {
                ns.sysctl(&format!("net/ipv4/conf/{path}/rp_filter"), "0");
                ns.sysctl(&format!("net/ipv6/conf/{path}/disable_ipv6"), "1");
            }
        }
        // Connections that are over keep their ports for a minute.
        client.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        self.cable(&client, "eth0", balancer, "eth0");
        self.cable(backend, "eth0", balancer, "eth1");
        balancer.sysctl("net/ipv4/ip_forward", "1");
        balancer.ip("addr add 10.80.2.1/24 dev eth0");
        balancer.ip("addr add 10.80.1.1/24 dev eth1");
        client.ip("addr add 10.80.2.2/24 dev eth0");
        client.ip("route add default via 10.80.2.1");
        for address in BACKENDS {
            backend.ip(&format!("addr add {address}/24 dev eth0"));
        }
        backend.ip("route add default via 10.80.1.1");
    }

    fn cable(&mut self, a: &NetNs, at_a: &'static str, b: &NetNs, at_b: &'static str) {
        a.ip(&format!(
            "link add name {at_a} type veth peer name {at_b} netns {}",
            b.path()
        ));
        for (ns, interface) in [(a, at_a), (b, at_b)] {
            ns.ip(&format!("link set {interface} up"));
            self.interfaces.push((ns.clone(), interface));
        }
    }

    fn start_proxy(&mut self, lab: &Lab, balancer: &NetNs) {
        balancer.ip(&format!("addr add {VIP}/32 dev lo"));
        let process = if self.kind == Kind::Haproxy {
            let config = config::haproxy(lab);
            start(balancer, "haproxy", &["haproxy", "-db", "-f"], &config)
        } else {
            let config = config::nginx_stream(lab);
            start(balancer, "nginx-stream", &["nginx", "-c"], &config)
        };
        self.processes.push(process);
    }

    fn start_xlb(&mut self, agent: &Path, balancer: &NetNs, backend: &NetNs, mode: &'static str) {
        if mode == "l2-dsr" {
            let client = self.client.clone();
            self.cable(backend, "eth1", &client, "eth1");
            backend.ip("addr add 10.80.3.1/24 dev eth1");
            client.ip("addr add 10.80.3.2/24 dev eth1");
            backend.ip("route add 10.80.2.2/32 via 10.80.3.2");
            backend.ip(&format!("addr add {VIP}/32 dev lo"));
        }
        // What XDP sends reaches an interface that looks for it.
        self.client.take_in_from_xdp("eth0");
        backend.take_in_from_xdp("eth0");
        self.set_offloads(Offloads::Defaults);
        let mut daemon = Daemon::prepare(agent, balancer, &config::xlb(mode));
        daemon.start(SERVICE);
        wait_until("every backend of xlb is up", READY, || {
            let health = daemon.call(async |client| client.health(Some(SERVICE)).await);
            let health = health.unwrap_or_else(|error| panic!("ask for health: {error}"));
            health
                .iter()
                .all(|backend| backend.state == BackendState::Up)
        });
        self.daemon = Some(daemon);
    }

    /// Says what devices do from now on.
    pub(super) fn set_offloads(&self, offloads: Offloads) {
        let features: &[&str] = match (offloads, self.kind) {
            (Offloads::None, _) => &["tx", "off", "tso", "off", "gso", "off", "gro", "off"],
            (Offloads::Defaults, Kind::Xlb(_)) => &["tx", "off", "gso", "on"],
            (Offloads::Defaults, _) => &["tx", "on", "tso", "on", "gso", "on"],
        };
        for (ns, interface) in &self.interfaces {
            let words: Vec<&str> = ["ethtool", "-K", interface]
                .iter()
                .chain(features)
                .copied()
                .collect();
            ns.exec(&words);
        }
    }

    /// Processes whose time counts, other than the client, which is a thread of ours.
    pub(super) fn pids(&self) -> Vec<u32> {
        let agent = self.daemon.as_ref().map(Daemon::pid);
        self.processes
            .iter()
            .map(Process::pid)
            .chain(agent)
            .collect()
    }

    /// Connections that went through xlb, if it is xlb's site.
    pub(super) fn connections_through_xlb(&self) -> Option<u64> {
        let daemon = self.daemon.as_ref()?;
        let services = daemon.call(async |client| client.services().await);
        let services = services.unwrap_or_else(|error| panic!("ask for services: {error}"));
        Some(services.iter().map(|s| s.counters.connections).sum())
    }
}

fn start(ns: &NetNs, name: &str, words: &[&str], config: &Path) -> Process {
    let log = std::fs::File::create(config.with_extension("log")).expect("make a log");
    let mut command = ns.command(words[0]);
    command
        .args(&words[1..])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("another descriptor"))
        .stderr(log);
    Process::start(ns.lab(), name, command)
}

fn nft(lab: &Lab, balancer: &NetNs, choice: &str) {
    let path = lab.write_file("rules.nft", &config::nftables(choice));
    balancer.exec(&["nft", "-f", &path.display().to_string()]);
}

fn wait_for(ns: &NetNs, address: SocketAddr) {
    let timeout = Duration::from_millis(200);
    wait_until(&format!("{address} answers"), READY, || {
        ns.run(|| TcpStream::connect_timeout(&address, timeout))
            .is_ok()
    });
}

/// Where the backend's address is one of [`BACKENDS`].
pub(super) fn backend_endpoints() -> impl Iterator<Item = SocketAddr> {
    BACKENDS
        .into_iter()
        .map(|address| SocketAddr::new(IpAddr::V4(address), BACKEND_PORT))
}
