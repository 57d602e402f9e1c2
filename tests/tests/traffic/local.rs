//! Services of the balancer's own stack: a server on the balancer, whose VIPs come and go with it.

use std::net::{IpAddr, SocketAddr};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Lab, NetNs, Topology, VIP_V4, VIP_V6, subnet_v4, subnet_v6,
    wait_until,
};

use crate::{
    flows,
    plain::{LIMIT, reason_of},
};

const PORT: u16 = 80;
const REQUESTS: usize = 4;

/// A client that routes the VIPs to the balancer, and a server there.
struct Gateway {
    agent: Agent,
    server: Backend,
    topology: Topology,
    vips: [IpAddr; 2],
}

impl Gateway {
    fn start(label: &str, vips: [IpAddr; 2], keys: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 0);
        let balancer = &topology.balancer.ns;
        let any = ["0.0.0.0:80", "[::]:80"].map(|at| at.parse().expect("an endpoint"));
        let http = any.to_vec();
        let server = Backend::start(balancer, "balancer", BackendKind::Nginx { http });
        let services: String = vips
            .iter()
            .map(|vip| {
                let name = if vip.is_ipv6() { "v6" } else { "v4" };
                format!(
                    "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\n\
                     forward = \"local\"\n{keys}\n\
                     check = {{ type = \"tcp\", interval = \"200ms\", timeout = \"200ms\" }}\n"
                )
            })
            .collect();
        let config = format!("[dataplane]\ninterfaces = [\"eth0\"]\n{services}");
        let agent = Agent::start(balancer, &config);
        Self {
            agent,
            server,
            topology,
            vips,
        }
    }

    fn balancer(&self) -> &NetNs {
        &self.topology.balancer.ns
    }

    /// Waits until the VIPs are on an interface of the balancer, or not.
    fn wait_for_vips(&self, interface: &str, there: bool) {
        wait_until(&format!("VIPs on {interface}: {there}"), LIMIT, || {
            self.vips
                .iter()
                .all(|vip| has(self.balancer(), interface, *vip) == there)
        });
    }

    /// Requests to both VIPs, and what the agent counts of them.
    fn requests(&self) {
        for vip in self.vips {
            let name = if vip.is_ipv6() { "v6" } else { "v4" };
            let before = self.packets(name);
            let at = SocketAddr::new(vip, PORT);
            let answers = flows::curl(&self.topology.client.ns, at, REQUESTS);
            assert!(answers.iter().all(|answer| answer.backend == "balancer"));
            let client = self.topology.client.address(vip.is_ipv6());
            assert!(answers.iter().all(|answer| answer.client == client));
            // SYN, ACK, request and FIN of each.
            let counted = self.packets(name) - before;
            assert!(counted >= 4 * REQUESTS as u64, "{name}: {counted}");
        }
    }

    fn packets(&self, name: &str) -> u64 {
        let list = self.agent.cli(&["service", "list", "-o", "json"]);
        let services = list.as_array().expect("services are a list");
        let found = services.iter().find(|service| service["name"] == name);
        let counters = &found.expect("the service is there")["counters"];
        counters["packets"].as_u64().expect("a number")
    }

    /// Whether a client gets an answer within a second.
    fn answers(&self, vip: IpAddr) -> bool {
        let url = match vip {
            IpAddr::V4(vip) => format!("http://{vip}/"),
            IpAddr::V6(vip) => format!("http://[{vip}]/"),
        };
        let mut curl = self.topology.client.ns.command("curl");
        curl.args(["-sS", "--max-time", "1", &url]);
        curl.output().expect("run curl").status.success()
    }
}

/// Whether an interface has an address, as the address of a single host.
fn has(ns: &NetNs, interface: &str, vip: IpAddr) -> bool {
    let bits = if vip.is_ipv6() { 128 } else { 32 };
    ns.ip(&format!("-oneline address show dev {interface}"))
        .contains(&format!(" {vip}/{bits} "))
}

#[test]
fn a_vip_is_on_the_host_while_its_listener_answers() {
    let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)];
    let mut gateway = Gateway::start("local", vips, "");
    gateway.wait_for_vips("lo", true);
    gateway.requests();
    assert!(reason_of(&gateway.agent, "local") >= 8 * REQUESTS as u64);
    assert_eq!(reason_of(&gateway.agent, "transmitted"), 0);

    gateway.server.kill9();
    gateway.wait_for_vips("lo", false);
    let (dropped, forwarded) = (
        reason_of(&gateway.agent, "all-down"),
        flows::forwarded(&gateway.topology.balancer),
    );
    assert_eq!(vips.map(|vip| gateway.answers(vip)), [false, false]);
    assert!(reason_of(&gateway.agent, "all-down") > dropped);
    assert_eq!(
        flows::forwarded(&gateway.topology.balancer),
        forwarded,
        "nothing is routed back"
    );
    let list = gateway.agent.cli(&["service", "list", "-o", "json"]);
    assert_eq!(list[0]["health"], "down");

    gateway.server.start_again();
    gateway.wait_for_vips("lo", true);
    gateway.requests();

    // An operator can have it withdrawn, and the next agent knows whose it is.
    for (vip, listener) in [("v4", "127.0.0.1:80"), ("v6", "[::1]:80")] {
        gateway
            .agent
            .cli(&["backend", "disable", vip, listener, "-o", "json"]);
    }
    gateway.wait_for_vips("lo", false);
    for (vip, listener) in [("v4", "127.0.0.1:80"), ("v6", "[::1]:80")] {
        gateway
            .agent
            .cli(&["backend", "enable", vip, listener, "-o", "json"]);
    }
    gateway.wait_for_vips("lo", true);
    gateway.agent.restart();
    gateway.wait_for_vips("lo", true);
    gateway.requests();
    gateway.agent.stop();
    let said = gateway.agent.unload();
    assert!(
        said.contains(&format!("address {VIP_V4} from lo")),
        "{said}"
    );
    gateway.wait_for_vips("lo", false);
}

#[test]
fn an_announced_vip_is_on_the_link_while_its_listener_answers() {
    let vips = [IpAddr::V4(subnet_v4(2, 100)), IpAddr::V6(subnet_v6(2, 100))];
    let mut gateway = Gateway::start("local-arp", vips, "announce = \"arp\"");
    gateway.wait_for_vips("eth0", true);
    gateway.requests();
    gateway.server.kill9();
    gateway.wait_for_vips("eth0", false);
    gateway.wait_for_vips("lo", false);
    gateway.server.start_again();
    gateway.wait_for_vips("eth0", true);
    gateway.requests();
}
