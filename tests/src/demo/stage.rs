//! The lab of the demonstration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::lab::{
    Agent, Backend, DatagramOptions, Host, KeepAliveOptions, Lab, LoadOptions, Topology, VIP_V4,
    agent_binary, wait_until,
};

/// The check of the lab: time from probe to probe.
pub(super) const CHECK_INTERVAL_MS: u32 = 100;
/// The check of the lab: time after which a probe has failed.
pub(super) const CHECK_TIMEOUT_MS: u32 = 100;
/// The check of the lab: failures in a row after which a backend is down.
pub(super) const CHECK_FALL: u32 = 2;

const BACKENDS: u8 = 3;
const WEB_PORT: u16 = 80;
const ECHO_PORT: u16 = 7;
const BACKEND_HTTP_PORT: u16 = 8080;
const BACKEND_ECHO_PORT: u16 = 7007;

/// How long backends may take to be well.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);

/// A client, a balancer with a real agent, and three backends.
pub(super) struct Stage {
    /// First, since what is first is dropped first.
    pub(super) agent: Agent,
    pub(super) backends: Vec<Backend>,
    pub(super) topology: Topology,
    binary: PathBuf,
}

impl Stage {
    pub(super) fn build(agent: Option<&Path>, keep: bool) -> Self {
        let binary = agent.map_or_else(agent_binary, Path::to_owned);
        let lab = if keep {
            Lab::new_keepable("demo")
        } else {
            Lab::new("demo")
        };
        let topology = Topology::one_link(&lab, BACKENDS);
        let backends = topology
            .backends
            .iter()
            .map(|host| Backend::on_host(host, BACKEND_HTTP_PORT, BACKEND_ECHO_PORT))
            .collect();
        let agent = Agent::start_binary(&binary, &topology.balancer.ns, &config(&topology));
        let stage = Self {
            agent,
            backends,
            topology,
            binary,
        };
        stage.wait_until_well();
        stage
    }

    /// Waits until every backend of every service is up.
    pub(super) fn wait_until_well(&self) {
        wait_until("every backend is up", HEALTH_LIMIT, || {
            let health = self.agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.len() >= 2 * usize::from(BACKENDS)
                && backends.iter().all(|backend| backend["state"] == "up")
        });
    }

    /// The state of a backend of the pool `web`.
    pub(super) fn state(&self, backend: SocketAddr) -> String {
        let list = self.agent.cli(&["backend", "list", "web", "-o", "json"]);
        let backends = list.as_array().expect("backends are a list");
        let found = backends
            .iter()
            .find(|row| row["endpoint"] == backend.to_string());
        let state = found.and_then(|row| row["state"].as_str());
        state
            .unwrap_or_else(|| panic!("{backend} is not in {list}"))
            .to_owned()
    }

    pub(super) fn load(&self) -> LoadOptions {
        LoadOptions::new(SocketAddr::new(VIP_V4.into(), WEB_PORT))
    }

    pub(super) fn keep_alive(&self) -> KeepAliveOptions {
        KeepAliveOptions::new(self.load().target, 24)
    }

    pub(super) fn datagrams(&self) -> DatagramOptions {
        DatagramOptions::new(SocketAddr::new(VIP_V4.into(), ECHO_PORT))
    }

    /// Where a backend serves HTTP.
    pub(super) fn endpoint(&self, index: usize) -> SocketAddr {
        http_endpoint(&self.topology.backends[index])
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.iter().map(Backend::name)
    }

    pub(super) fn description(&self) -> Vec<String> {
        let status: Value = self.agent.cli(&["status", "-o", "json"]);
        let mode = status["interfaces"][0]["mode"]
            .as_str()
            .unwrap_or("unknown");
        let load = self.load();
        vec![
            format!(
                "virtual IP: {} over TCP, {} over UDP, forward = \"dnat\"",
                load.target,
                self.datagrams().target
            ),
            format!(
                "agent: {} (pid {}), XDP in {mode} mode",
                self.binary.display(),
                self.agent.pid()
            ),
            format!(
                "check: TCP every {CHECK_INTERVAL_MS} ms, timeout {CHECK_TIMEOUT_MS} ms, \
                 down after {CHECK_FALL} failures"
            ),
            format!(
                "client: a new connection every {} ms, failed when not answered in {} ms",
                load.every.as_millis(),
                load.timeout.as_millis()
            ),
        ]
    }

    /// Leaves the lab up, and returns the script that takes it down.
    pub(super) fn keep(&self) -> PathBuf {
        self.topology.lab.keep()
    }

    pub(super) fn how_to_look_around(&self, removal_script: &Path) -> Vec<String> {
        let balancer = self.topology.balancer.ns.full_name();
        let client = self.topology.client.ns.full_name();
        let backend = self.topology.backends[0].ns.full_name();
        let agent = format!("ip netns exec {balancer} {}", self.binary.display());
        let socket = self.agent.socket_path();
        let pins = self.agent.pin_directory();
        vec![
            format!(
                "a request:      ip netns exec {client} curl http://{}/",
                self.load().target
            ),
            format!(
                "the agent:      export XLB_SOCKET={} XLB_PIN_DIR={}",
                socket.display(),
                pins.display()
            ),
            format!("                {agent} status"),
            format!("                {agent} health"),
            format!("                {agent} backend list"),
            format!("the packets:    ip netns exec {backend} tcpdump -ni eth0"),
            format!("configuration:  {}", self.agent.config_path().display()),
            format!("log:            {}", self.agent.log_path().display()),
            format!("take it down:   sh {}", removal_script.display()),
        ]
    }
}

fn http_endpoint(host: &Host) -> SocketAddr {
    SocketAddr::new(host.address(false), BACKEND_HTTP_PORT)
}

fn config(topology: &Topology) -> String {
    let backends = |port: u16| -> String {
        let lines = topology
            .backends
            .iter()
            .map(|host| format!("    {{ address = \"{}\", port = {port} }},\n", host.v4));
        lines.collect()
    };
    let check = format!(
        "type = \"tcp\", interval = \"{CHECK_INTERVAL_MS}ms\", timeout = \"{CHECK_TIMEOUT_MS}ms\", \
         rise = 2, fall = {CHECK_FALL}"
    );
    format!(
        r#"[dataplane]
interfaces = ["eth0"]

[[pool]]
name = "web"
backends = [
{web}]
check = {{ {check} }}

[[service]]
name = "web"
vip = "{VIP_V4}"
port = {WEB_PORT}
protocol = "tcp"
forward = "dnat"
pool = "web"

[[pool]]
name = "echo"
backends = [
{echo}]
check = {{ {check}, port = {BACKEND_HTTP_PORT} }}

[[service]]
name = "echo"
vip = "{VIP_V4}"
port = {ECHO_PORT}
protocol = "udp"
forward = "dnat"
pool = "echo"
"#,
        web = backends(BACKEND_HTTP_PORT),
        echo = backends(BACKEND_ECHO_PORT),
    )
}
