//! A balancer with an agent, a client, backends, and the words of a configuration.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use xlb_tests::lab::{
    Agent, Backend, BackendKind, Host, KeepAlive, KeepAliveConnection, KeepAliveOptions, Lab,
    LoadOptions, Topology, VIP_V4, agent_binary, wait_until,
};

/// How long something may take that takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Where the service `web` is.
pub(crate) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP_V4), 80);
/// Where the service `echo` is.
pub(crate) const ECHO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP_V4), 7);

/// A check that finds out quickly.
pub(crate) const CHECK: &str =
    r#"check = { type = "tcp", interval = "200ms", timeout = "200ms", rise = 2, fall = 2 }"#;
/// The same for backends of UDP, whose hosts serve HTTP too.
const CHECK_OF_ECHO: &str = r#"check = { type = "tcp", port = 8080, interval = "200ms", timeout = "200ms", rise = 2, fall = 2 }"#;

/// A balancer with an agent, a client and backends.
pub(crate) struct Stage {
    /// First, since what is first is dropped first.
    pub(crate) agent: Agent,
    pub(crate) backends: Vec<Backend>,
    pub(crate) topology: Topology,
}

impl Stage {
    /// A stage on which the services `web` and `echo` run, and all is well.
    #[track_caller]
    pub(crate) fn start(label: &str, backends: u8) -> Self {
        let mut stage = Self::prepare(label, backends, usual);
        stage.agent.start_again();
        stage.wait_until_well();
        stage
    }

    /// A stage whose backends serve and whose agent is still to be started.
    pub(crate) fn prepare(
        label: &str,
        backends: u8,
        config: impl FnOnce(&Topology) -> String,
    ) -> Self {
        let topology = Topology::one_link(&Lab::new(label), backends);
        let backends = topology.backends.iter().map(serve).collect();
        let config = config(&topology);
        Self {
            agent: Agent::prepare(&agent_binary(), &topology.balancer.ns, &config),
            backends,
            topology,
        }
    }

    /// Where a backend serves the service `web`.
    pub(crate) fn web(&self, backend: usize) -> SocketAddr {
        at(&self.topology.backends[backend], 8080)
    }

    /// A client of the service `web`, patient enough for a busy machine.
    pub(crate) fn load(&self) -> LoadOptions {
        LoadOptions {
            every: Duration::from_millis(10),
            timeout: Duration::from_secs(2),
            ..LoadOptions::new(WEB)
        }
    }

    /// Opens connections to the service `web` that stay open, and waits until each was answered.
    #[track_caller]
    pub(crate) fn keep_connections(&self) -> KeepAlive {
        let options = KeepAliveOptions {
            pause: Duration::from_millis(100),
            timeout: Duration::from_secs(5),
            ..KeepAliveOptions::new(WEB, 32)
        };
        let clients = KeepAlive::start(&self.topology.client.ns, options);
        wait_until("every connection is answered", PATIENCE, || {
            clients.snapshot().iter().all(|kept| kept.answers > 0)
        });
        clients
    }

    #[track_caller]
    pub(crate) fn wait_until_well(&self) {
        wait_until("all is well and was probed", PATIENCE, || {
            let rows = self.cli("health -o json").json();
            let rows = rows.as_array().expect("health is a list");
            rows.iter().all(|row| row["state"] == "up") && self.cli("status").code == 0
        });
    }

    /// Waits until the backend of the pool `web` is in a state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, backend: SocketAddr, state: &str) {
        wait_until(&format!("{backend} is {state}"), PATIENCE, || {
            self.backend("web", backend)["state"] == state
        });
    }

    /// What `backend list` says of a backend.
    #[track_caller]
    pub(crate) fn backend(&self, pool: &str, backend: SocketAddr) -> Value {
        let rows = self.cli(&format!("backend list {pool} -o json")).json();
        let rows = rows.as_array().expect("backends are a list");
        let row = rows
            .iter()
            .find(|row| row["endpoint"] == backend.to_string());
        row.cloned().unwrap_or_default()
    }

    /// The status, however the agent is.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.cli("status -o json").json()
    }

    /// Packets that left the program for a reason.
    pub(crate) fn packets(&self, reason: &str) -> u64 {
        let status = self.status();
        let reasons = status["reasons"].as_array().expect("reasons are a list");
        let found = reasons.iter().find(|row| row["reason"] == reason);
        found.and_then(|row| row["packets"].as_u64()).unwrap_or(0)
    }

    /// Runs the CLI with the words of a line.
    #[track_caller]
    pub(crate) fn cli(&self, line: &str) -> Run {
        let words: Vec<&str> = line.split_whitespace().collect();
        Run::of(self.agent.cli_output(&words))
    }

    /// Starts an agent that is not to run, and returns what it said.
    pub(crate) fn start_that_fails(&self) -> Run {
        let agent = self.agent.run_command();
        let mut command = self.topology.balancer.ns.command("timeout");
        command.arg("20").arg(agent.get_program());
        run(command.args(agent.get_args()))
    }

    /// Asks for a page by a new connection. An answer is the backend's name, a failure what curl
    /// says.
    pub(crate) fn fetch(&self, from: SocketAddr) -> Result<String, String> {
        let mut curl = self.topology.client.ns.command("curl");
        let run = run(curl.args(["-sS", "-m", "1", &format!("http://{from}/")]));
        if run.code == 0 {
            Ok(run.out.trim_end().to_owned())
        } else {
            Err(run.err)
        }
    }
}

/// Of the connections that began on a backend, whether each goes on.
pub(crate) fn kept_on(connections: &[KeepAliveConnection], backend: &str) -> Vec<bool> {
    let on_it = connections.iter().filter(|kept| kept.backend == backend);
    on_it.map(|kept| kept.broken.is_none()).collect()
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks that the command was refused: code 1, nothing on stdout, and all of this on stderr.
    #[track_caller]
    pub(crate) fn refused_with(&self, words: &[&str]) {
        assert_eq!(self.code, 1, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        for words in words {
            assert!(self.err.contains(words), "`{words}` is missing in {self:?}");
        }
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.output();
    Run::of(output.unwrap_or_else(|error| panic!("run {command:?}: {error}")))
}

/// Serves HTTP on two ports, and an echo, as every backend here does.
pub(crate) fn serve(host: &Host) -> Backend {
    let kind = BackendKind::BuiltIn {
        http: vec![at(host, 8080), at(host, 8081)],
        udp: vec![at(host, 7007)],
    };
    Backend::start(&host.ns, host.name(), kind)
}

pub(crate) fn at(host: &Host, port: u16) -> SocketAddr {
    SocketAddr::new(host.v4.into(), port)
}

/// The services `web` and `echo`, on every backend.
pub(crate) fn usual(topology: &Topology) -> String {
    let on = |port| -> Vec<SocketAddr> {
        let hosts = topology.backends.iter();
        hosts.map(|host| at(host, port)).collect()
    };
    [
        dataplane(),
        pool("web", &on(8080), CHECK),
        service("web", WEB, "web", ""),
        pool("echo", &on(7007), CHECK_OF_ECHO),
        service("echo", ECHO, "echo", "protocol = \"udp\""),
    ]
    .concat()
}

pub(crate) fn dataplane() -> String {
    "[dataplane]\ninterfaces = [\"eth0\"]\n".to_owned()
}

pub(crate) fn pool(name: &str, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|at| format!("{{ address = \"{}\", port = {} }}", at.ip(), at.port()))
        .collect();
    let backends = backends.join(",\n  ");
    format!("\n[[pool]]\nname = \"{name}\"\nbackends = [\n  {backends},\n]\n{more}\n")
}

pub(crate) fn service(name: &str, at: SocketAddr, pool: &str, more: &str) -> String {
    let (vip, port) = (at.ip(), at.port());
    format!(
        "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nforward = \"dnat\"\n\
         pool = \"{pool}\"\n{more}\n"
    )
}
