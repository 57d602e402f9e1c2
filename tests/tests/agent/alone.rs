//! Two agents on one host.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use xlb_tests::lab::{Backend, BackendKind, NetNs, Process, agent_binary, wait_until};

use crate::stage::{CHECK, PATIENCE, Run, Stage, WEB, dataplane, pool, run, service};

/// The three things that no two agents share.
#[derive(Clone)]
struct Paths {
    socket: PathBuf,
    pins: PathBuf,
    state: PathBuf,
}

impl Paths {
    /// Those of an agent of a name of its own.
    fn new(ns: &NetNs, name: &str) -> Self {
        let file = |suffix| ns.lab().directory().join(format!("{name}.{suffix}"));
        Self {
            socket: file("sock"),
            pins: ns.lab().bpffs().join(name),
            state: file("state"),
        }
    }

    fn command(&self, ns: &NetNs, words: &[&str], config: Option<&Path>) -> Command {
        let mut command = ns.command(agent_binary());
        let options = [
            ("--socket", &self.socket),
            ("--pin-dir", &self.pins),
            ("--state-dir", &self.state),
        ];
        for (option, path) in options {
            command.arg(option).arg(path);
        }
        command.args(words).args(config);
        command
    }
}

#[test]
fn a_second_agent_is_refused_with_the_pid_of_the_first() {
    let stage = Stage::start("second", 1);
    let ns = &stage.topology.balancer.ns;
    let first = Paths {
        socket: stage.agent.socket_path(),
        pins: stage.agent.pin_directory().to_owned(),
        state: stage.agent.directory().join("state"),
    };
    let other = Paths::new(ns, "other");
    let try_to_run = |paths: &Paths| -> Run {
        run(&mut paths.command(ns, &["run", "--config"], Some(&stage.agent.config_path())))
    };
    let pid = format!("pid {}", stage.agent.pid());
    for shared in [
        first.clone(),
        Paths {
            socket: first.socket.clone(),
            ..other.clone()
        },
        Paths {
            pins: first.pins.clone(),
            ..other.clone()
        },
        Paths {
            state: first.state.clone(),
            ..other.clone()
        },
    ] {
        try_to_run(&shared).refused_with(&["another agent", &pid, "its own --pin-dir, --socket"]);
    }
    let unload = run(&mut first.command(ns, &["unload"], None));
    unload.refused_with(&["another agent", &pid]);

    // With nothing in common it is the interface that is taken.
    try_to_run(&other).refused_with(&["another XDP program", "is attached to eth0"]);

    // What is no socket is not removed to make place for one.
    let letter = stage.topology.lab.write_file("letter", "Dear reader");
    let misled = Paths {
        socket: letter.clone(),
        ..other
    };
    try_to_run(&misled).refused_with(&["letter is there and is no socket", "--socket"]);
    let kept = std::fs::read_to_string(&letter);
    assert_eq!(kept.expect("read the file"), "Dear reader");

    // All this was nothing to the first one.
    assert_eq!(stage.cli("status").code, 0);
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));
}

/// Another link of the balancer, with a client and a backend. Returns their namespaces, and that of
/// the link, which ends with it.
fn far_link(stage: &Stage) -> [NetNs; 3] {
    let lab = &stage.topology.lab;
    let switch = lab.namespace("far");
    switch.bridge("far");
    let join = |ns: &NetNs, interface: &str, addresses: &[&str]| {
        ns.cable(interface, &switch, ns.name(), None);
        switch.bridge_port("far", ns.name());
        for address in addresses {
            ns.ip(&format!("addr add {address}/24 dev {interface}"));
        }
    };
    let balancer = &stage.topology.balancer.ns;
    join(balancer, "eth1", &["10.81.1.1", "10.81.2.1"]);
    let host = |name: &str, address, gateway| {
        let ns = lab.namespace(name);
        join(&ns, "eth0", &[address]);
        ns.ip(&format!("route add default via {gateway}"));
        ns
    };
    let client = host("far-client", "10.81.2.2", "10.81.2.1");
    let backend = host("far-backend", "10.81.1.11", "10.81.1.1");
    [client, backend, switch]
}

#[test]
fn two_agents_with_interfaces_of_their_own_get_along() {
    let mut stage = Stage::start("two", 1);
    let [far_client, far_backend, _link] = far_link(&stage);
    let backend: SocketAddr = "10.81.1.11:8080".parse().expect("an address");
    let kind = BackendKind::BuiltIn {
        http: vec![backend],
        udp: Vec::new(),
    };
    let _server = Backend::start(&far_backend, "far", kind);
    let vip = "198.51.100.10:80".parse().expect("an address");
    let config = dataplane().replace("eth0", "eth1")
        + &pool("far", &[backend], CHECK)
        + &service("far", vip, "far", "");
    let config = stage.topology.lab.write_file("second.toml", &config);

    let ns = &stage.topology.balancer.ns;
    let second = Paths::new(ns, "second");
    let mut command = second.command(ns, &["run", "--config"], Some(&config));
    command.stderr(Stdio::null());
    let _agent = Process::start(&stage.topology.lab, "second agent", command);
    let status = || run(&mut second.command(ns, &["status", "-o", "json"], None));
    let fetch = || far_client.exec(&["curl", "-sS", "-m", "5", &format!("http://{vip}/")]);
    wait_until("the second agent is well", PATIENCE, || status().code == 0);
    assert_eq!(status().json()["interfaces"][0]["name"], "eth1");
    assert_eq!(fetch(), "far\n");
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));

    // The end of one is nothing to the other.
    stage.agent.stop();
    stage.agent.unload();
    assert_eq!(status().code, 0);
    assert_eq!(fetch(), "far\n");
}
