//! Interfaces that are added and taken away while packets flow over another one.

use std::net::SocketAddr;

use xlb_tests::lab::{
    Agent, Backend, DatagramOptions, Datagrams, Lab, NetNs, Topology, VIP_V4, VIP_V6, subnet_v4,
    subnet_v6, wait_until,
};

use crate::stage::{
    ECHO_PORT, HTTP_PORT, LIMIT, Services, answers, exit_of, serve, wait_until_well,
};

/// One link with client and backends, and another client on a link of its own.
struct Links {
    topology: Topology,
    side: NetNs,
    services: Services,
    _servers: Vec<Backend>,
}

impl Links {
    fn new(label: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 2);
        let side = topology.lab.namespace("side");
        let balancer = &topology.balancer.ns;
        balancer.cable("eth1", &side, "eth0", None);
        for (ns, interface, host) in [(balancer, "eth1", 1), (&side, "eth0", 2)] {
            let (v4, v6) = (subnet_v4(4, host), subnet_v6(4, host));
            ns.ip(&format!("address add {v4}/24 dev {interface}"));
            ns.ip(&format!("address add {v6}/64 dev {interface} nodad"));
        }
        for (vip, gateway) in [
            (VIP_V4.to_string(), subnet_v4(4, 1).to_string()),
            (VIP_V6.to_string(), subnet_v6(4, 1).to_string()),
        ] {
            side.ip(&format!("route add {vip} via {gateway}"));
        }
        let services = Services {
            vips: vec![VIP_V4.into(), VIP_V6.into()],
            ..Services::plain()
        };
        let servers = serve(&topology);
        Self {
            topology,
            side,
            services,
            _servers: servers,
        }
    }

    /// The services on these interfaces, and one that echoes datagrams.
    fn config(&self, interfaces: &[&'static str], dataplane: &'static str) -> String {
        let services = Services {
            interfaces: interfaces.to_vec(),
            dataplane,
            ..self.services.clone()
        };
        let backends: String = self
            .topology
            .backends
            .iter()
            .map(|host| format!("{{ address = \"{}\", port = {ECHO_PORT} }}, ", host.v4))
            .collect();
        services.config(&self.topology.backends)
            + &format!(
                "[[service]]\nname = \"echo\"\nvip = \"{VIP_V4}\"\nport = {ECHO_PORT}\n\
                 protocol = \"udp\"\nforward = \"dnat\"\nbackends = [{backends}]\n\
                 check = {{ type = \"tcp\", port = {HTTP_PORT}, interval = \"500ms\", \
                 timeout = \"500ms\" }}\n"
            )
    }

    fn start(&self, interfaces: &[&'static str]) -> Agent {
        let agent = Agent::start(&self.topology.balancer.ns, &self.config(interfaces, ""));
        wait_until_well(&agent);
        for vip in &self.services.vips {
            wait_until("the link's client is answered", LIMIT, || {
                answers(&self.topology.client.ns, *vip)
            });
        }
        agent
    }

    fn reload(&self, agent: &Agent, interfaces: &[&'static str]) {
        agent.write_config(&self.config(interfaces, ""));
        agent.cli(&["reload", "-o", "json"]);
    }

    /// Whether the other client is answered, once that is so.
    fn wait_for_the_side(&self, answered: bool) {
        for vip in &self.services.vips {
            wait_until(
                &format!("{vip} answers the side: {answered}"),
                LIMIT,
                || answers(&self.side, *vip) == answered,
            );
        }
    }

    /// Datagrams of the link's client.
    fn datagrams(&self) -> Datagrams {
        let target = SocketAddr::new(VIP_V4.into(), ECHO_PORT);
        Datagrams::start(&self.topology.client.ns, DatagramOptions::new(target))
    }
}

fn attached(agent: &Agent) -> Vec<(String, String)> {
    let status = agent.cli(&["status", "-o", "json"]);
    let interfaces = status["interfaces"].as_array().expect("a list").iter();
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    interfaces
        .map(|interface| (text(&interface["name"]), text(&interface["mode"])))
        .collect()
}

fn has_redirect(agent: &Agent) -> bool {
    let status = agent.cli(&["status", "-o", "json"]);
    let features = status["program"]["features"].as_array().expect("a list");
    features.iter().any(|feature| feature == "redirect")
}

#[test]
fn a_reload_adds_and_removes_interfaces_and_loses_nothing_on_those_that_stay() {
    let links = Links::new("reload");
    let mut agent = links.start(&["eth0"]);
    assert!(!has_redirect(&agent));
    links.wait_for_the_side(false);
    let datagrams = links.datagrams();

    // The one that stays is not the first in the list any more.
    links.reload(&agent, &["eth1", "eth0"]);
    let names: Vec<String> = attached(&agent).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["eth1", "eth0"]);
    assert!(has_redirect(&agent));
    links.wait_for_the_side(true);

    // An agent that starts finds each in its place, whatever the order is now.
    agent.kill9();
    agent.write_config(&links.config(&["eth0", "eth1"], ""));
    agent.start_again();
    links.wait_for_the_side(true);

    links.reload(&agent, &["eth0"]);
    assert!(!has_redirect(&agent));
    let link = links.topology.balancer.ns.ip("link show eth1");
    assert!(!link.contains("xdp"), "{link}");
    links.wait_for_the_side(false);

    let report = datagrams.stop();
    assert!(report.sent > 1_000, "{report:?}");
    assert_eq!((report.lost, report.repeated), (0, 0), "{report:?}");
}

#[test]
fn one_interface_takes_the_place_of_another() {
    let links = Links::new("instead");
    let agent = links.start(&["eth0", "eth1"]);
    links.wait_for_the_side(true);
    let datagrams = links.datagrams();
    let spare = links.topology.lab.namespace("spare");
    let balancer = &links.topology.balancer.ns;
    for round in 0..3 {
        let (there, then) = [("eth2", "eth1"), ("eth1", "eth2")][round % 2];
        if round == 0 {
            balancer.cable("eth2", &spare, "eth0", None);
        }
        links.reload(&agent, &["eth0", there]);
        let names: Vec<String> = attached(&agent).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["eth0", there]);
        let link = balancer.ip(&format!("link show {then}"));
        assert!(!link.contains("xdp"), "{link}");
        links.wait_for_the_side(there == "eth1");
    }
    let report = datagrams.stop();
    assert_eq!((report.lost, report.repeated), (0, 0), "{report:?}");
}

#[test]
fn a_new_interface_that_cannot_be_used_changes_nothing() {
    let links = Links::new("broken");
    let agent = links.start(&["eth0"]);
    let balancer = &links.topology.balancer.ns;
    balancer.ip("link add name upper type bridge");
    balancer.ip("link set upper up");
    let program = foreign_program(&links);
    balancer.ip(&format!("link set dev eth1 xdpdrv pinned {program}"));
    let before = agent.cli(&["status", "-o", "json"])["program"].clone();
    let datagrams = links.datagrams();
    for (interfaces, dataplane, words) in [
        (["eth0", "eth9"], "", "interface eth9 does not exist"),
        (
            ["eth0", "upper"],
            "mode = \"native\"",
            "attach xlb to upper (native mode)",
        ),
        (["eth0", "eth1"], "", "is attached to eth1"),
        // Nor does what would be taken away go.
        (
            ["upper", "eth1"],
            "mode = \"native\"",
            "is attached to eth1",
        ),
    ] {
        agent.write_config(&links.config(&interfaces, dataplane));
        let (code, said) = exit_of(&agent, &["reload"]);
        assert!(
            code == Some(1) && said.contains(words),
            "{interfaces:?} {code:?}: {said}"
        );
        assert_eq!(attached(&agent), [("eth0".to_owned(), "native".to_owned())]);
        let status = agent.cli(&["status", "-o", "json"]);
        assert_eq!(status["program"], before, "{interfaces:?}");
    }
    let report = datagrams.stop();
    assert_eq!((report.lost, report.repeated), (0, 0), "{report:?}");

    // And it takes the next that can be.
    balancer.ip("link set dev eth1 xdpdrv off");
    links.reload(&agent, &["eth0", "eth1"]);
    links.wait_for_the_side(true);
}

/// A program that passes all packets, and is not xlb's.
fn foreign_program(links: &Links) -> String {
    links
        .topology
        .lab
        .bpffs()
        .join("pass")
        .display()
        .to_string()
}
