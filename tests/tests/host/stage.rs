//! An agent in front of backends that answer HTTP.

use std::{net::IpAddr, time::Duration};

use xlb_tests::lab::{Agent, Backend, Host, NetNs, Topology, VIP_V4, agent_binary, wait_until};

/// Where the backends serve HTTP.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Where they echo datagrams.
pub(crate) const ECHO_PORT: u16 = 7000;
/// Port of the services.
const PORT: u16 = 80;

/// How long something may take on a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A service on each of some VIPs.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) forward: &'static str,
    /// Further keys of each service.
    pub(crate) keys: &'static str,
    pub(crate) interfaces: Vec<&'static str>,
    /// Further keys of the data path.
    pub(crate) dataplane: &'static str,
}

impl Services {
    /// The usual IPv4 VIP on the usual interface.
    pub(crate) fn plain() -> Self {
        Self {
            vips: vec![VIP_V4.into()],
            forward: "dnat",
            keys: "",
            interfaces: vec!["eth0"],
            dataplane: "",
        }
    }

    /// The configuration file, with all the backends behind each service.
    pub(crate) fn config(&self, backends: &[Host]) -> String {
        let Self {
            keys,
            forward,
            interfaces,
            dataplane,
            ..
        } = self;
        let services: String = self
            .vips
            .iter()
            .enumerate()
            .map(|(index, vip)| {
                let backends: String = backends
                    .iter()
                    .map(|host| {
                        let address = host.address(vip.is_ipv6());
                        format!("{{ address = \"{address}\", port = {HTTP_PORT} }}, ")
                    })
                    .collect();
                format!(
                    "[[service]]\nname = \"web{index}\"\nvip = \"{vip}\"\nport = {PORT}\n\
                     forward = \"{forward}\"\nbackends = [{backends}]\n\
                     check = {{ type = \"tcp\", interval = \"500ms\", timeout = \"500ms\" }}\n{keys}\n"
                )
            })
            .collect();
        format!("[dataplane]\ninterfaces = {interfaces:?}\n{dataplane}\n{services}")
    }
}

/// Starts a server on each backend.
pub(crate) fn serve(topology: &Topology) -> Vec<Backend> {
    topology
        .backends
        .iter()
        .map(|host| Backend::on_host(host, HTTP_PORT, ECHO_PORT))
        .collect()
}

/// Waits until every backend of every service is up.
pub(crate) fn wait_until_well(agent: &Agent) {
    wait_until("every backend is up", LIMIT, || {
        let health = agent.cli(&["health", "-o", "json"]);
        let backends = health.as_array().expect("health is a list");
        !backends.is_empty() && backends.iter().all(|backend| backend["state"] == "up")
    });
}

/// Whether a request to the VIP is answered by a backend within a second.
pub(crate) fn answers(client: &NetNs, vip: IpAddr) -> bool {
    answers_to(client, vip, "eth0")
}

/// The same, asked from an address of the client, or from one of an interface.
pub(crate) fn answers_to(client: &NetNs, vip: IpAddr, from: &str) -> bool {
    let url = match vip {
        IpAddr::V4(vip) => format!("http://{vip}:{PORT}/"),
        IpAddr::V6(vip) => format!("http://[{vip}]:{PORT}/"),
    };
    let output = client
        .command("curl")
        .args(["-sS", "--max-time", "1", "--interface", from, &url])
        .output()
        .expect("run curl");
    output.status.success() && output.stdout.starts_with(b"backend")
}

/// Packets that the agent counts under a reason.
pub(crate) fn reason(agent: &Agent, name: &str) -> u64 {
    let status = agent.cli(&["status", "-o", "json"]);
    let reasons = status["reasons"].as_array().expect("reasons are a list");
    let found = reasons.iter().find(|reason| reason["reason"] == name);
    found
        .and_then(|reason| reason["packets"].as_u64())
        .unwrap_or(0)
}

/// Runs an agent that is not to start, and returns what it says. `launcher` starts it.
pub(crate) fn refusal(ns: &NetNs, config: &str, launcher: &[&str]) -> String {
    let mut agent = Agent::prepare(&agent_binary(), ns, config);
    let limited: Vec<&str> = ["timeout", "20"].iter().chain(launcher).copied().collect();
    agent.start_through(&limited);
    let output = agent.run_command().output().expect("run the agent");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    std::fs::remove_dir_all(agent.directory()).expect("make room for another agent");
    said
}

/// Exit code and standard error of a command.
pub(crate) fn exit_of(agent: &Agent, arguments: &[&str]) -> (Option<i32>, String) {
    let output = agent.cli_output(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}
