//! VIPs that the agent puts on an interface and announces, for clients on the link.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use xlb_tests::lab::{
    Agent, Backend, Host, Lab, NetNs, Topology, agent_binary, subnet_v4, subnet_v6, wait_until,
};

use crate::stage::{LIMIT, Services, answers, exit_of, reason, refusal, serve, wait_until_well};

/// VIPs in the subnet of client and balancer.
const ON_LINK_V4: Ipv4Addr = subnet_v4(2, 100);
const ON_LINK_V6: Ipv6Addr = Ipv6Addr::new(0xfd80, 0, 0, 2, 0, 0, 0, 0x100);

const BOTH: [IpAddr; 2] = [IpAddr::V4(ON_LINK_V4), IpAddr::V6(ON_LINK_V6)];

/// After this, the last announcement of a start is over.
const AFTER_THE_LAST: Duration = Duration::from_millis(3_500);

/// A client that finds the VIPs by ARP and neighbour discovery or not at all.
struct Link {
    topology: Topology,
    services: Services,
    _servers: Vec<Backend>,
}

impl Link {
    fn new(label: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 1);
        let services = Services {
            vips: BOTH.into(),
            keys: "announce = \"arp\"",
            ..Services::plain()
        };
        let servers = serve(&topology);
        Self {
            topology,
            services,
            _servers: servers,
        }
    }

    fn config(&self) -> String {
        self.services.config(&self.topology.backends)
    }

    fn start(&self, balancer: &NetNs) -> Agent {
        let agent = Agent::start(balancer, &self.config());
        wait_until_well(&agent);
        agent
    }

    fn wait_for_answers(&self) {
        for vip in BOTH {
            wait_until(&format!("{vip} answers"), LIMIT, || {
                answers(&self.topology.client.ns, vip)
            });
        }
    }

    /// The hardware address that the client has for a VIP.
    fn clients_entry(&self, vip: IpAddr) -> Option<String> {
        let entry = self
            .topology
            .client
            .ns
            .ip(&format!("neighbour show to {vip}"));
        let mut words = entry.split(' ').skip_while(|word| *word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    fn wait_for_entries(&self, mac: [u8; 6]) {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        for vip in BOTH {
            wait_until(&format!("the client has {mac} for {vip}"), LIMIT, || {
                self.clients_entry(vip).as_ref() == Some(&mac)
            });
        }
    }
}

/// Whether an interface has an address, as the address of a single host.
fn has(ns: &NetNs, interface: &str, vip: IpAddr) -> bool {
    let bits = if vip.is_ipv6() { 128 } else { 32 };
    ns.ip(&format!("-oneline address show dev {interface}"))
        .contains(&format!(" {vip}/{bits} "))
}

fn wait_for_addresses(ns: &NetNs, interface: &str, there: [bool; 2]) {
    wait_until(&format!("{interface} has {there:?}"), LIMIT, || {
        BOTH.map(|vip| has(ns, interface, vip)) == there
    });
}

#[test]
fn clients_on_the_link_find_a_vip_and_it_lives_as_long_as_its_service() {
    let link = Link::new("on-link");
    let balancer = &link.topology.balancer;
    let mut agent = link.start(&balancer.ns);
    link.wait_for_answers();
    link.wait_for_entries(balancer.mac);
    assert_eq!(BOTH.map(|vip| has(&balancer.ns, "eth0", vip)), [true, true]);
    // The program answers for them, though they are the host's now.
    let echoes = reason(&agent, "echo-reply");
    for vip in BOTH {
        link.topology.client.ns.ping(vip);
    }
    assert_eq!(reason(&agent, "echo-reply"), echoes + 2);

    // The data path goes on without the agent, and so do its addresses.
    agent.stop();
    assert_eq!(
        BOTH.map(|vip| answers(&link.topology.client.ns, vip)),
        [true, true]
    );
    agent.start_again();
    // The agent that starts knows that they are its own.
    let mut fewer = link.services.clone();
    fewer.vips.pop();
    agent.write_config(&fewer.config(&link.topology.backends));
    agent.cli(&["reload", "-o", "json"]);
    wait_for_addresses(&balancer.ns, "eth0", [true, false]);
    assert!(answers(&link.topology.client.ns, BOTH[0]));

    agent.kill9();
    let said = agent.unload();
    assert!(
        said.contains(&format!("address {ON_LINK_V4} from eth0")),
        "{said}"
    );
    assert_eq!(
        BOTH.map(|vip| has(&balancer.ns, "eth0", vip)),
        [false, false]
    );
}

#[test]
fn an_address_that_was_there_before_stays() {
    let link = Link::new("before");
    let balancer = &link.topology.balancer.ns;
    balancer.ip(&format!("address add {ON_LINK_V4}/32 dev eth0"));
    balancer.ip(&format!("address add {ON_LINK_V6}/128 dev eth0 nodad"));
    let mut agent = link.start(balancer);
    link.wait_for_answers();
    // Neither the end of its service nor that of all takes it away.
    let mut fewer = link.services.clone();
    fewer.vips.pop();
    agent.write_config(&fewer.config(&link.topology.backends));
    agent.cli(&["reload", "-o", "json"]);
    agent.restart();
    agent.stop();
    let said = agent.unload();
    assert!(!said.contains("address"), "{said}");
    assert_eq!(BOTH.map(|vip| has(balancer, "eth0", vip)), [true, true]);
}

#[test]
fn a_vip_goes_to_the_interface_of_its_subnet() {
    let topology = Topology::two_interfaces(&Lab::new("subnet"), 1);
    let _servers = serve(&topology);
    let back = [IpAddr::V4(subnet_v4(1, 100)), IpAddr::V6(subnet_v6(1, 100))];
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    let services = Services {
        vips: [back.as_slice(), &[elsewhere]].concat(),
        keys: "announce = \"arp\"",
        forward: "l2-dsr",
        interfaces: vec!["eth0", "eth1"],
        ..Services::plain()
    };
    let balancer = &topology.balancer.ns;
    let _agent = Agent::start(balancer, &services.config(&topology.backends));
    wait_until("all are there", LIMIT, || {
        has(balancer, "eth1", back[0])
            && has(balancer, "eth1", back[1])
            && has(balancer, "eth0", elsewhere)
    });
    assert!(!has(balancer, "eth0", back[0]) && !has(balancer, "eth1", elsewhere));
}

/// Another balancer on the link of client and backends.
fn second_balancer(topology: &Topology) -> (NetNs, [u8; 6]) {
    let ns = topology.lab.namespace("balancer2");
    let mac = [2, 0, 10, 80, 1, 2];
    ns.sysctl("net/ipv4/ip_forward", "1");
    ns.cable("eth0", &topology.switch, "balancer2", Some(mac));
    topology.switch.bridge_port("back", "balancer2");
    for subnet in [1, 2] {
        ns.ip(&format!("address add {}/24 dev eth0", subnet_v4(subnet, 3)));
        ns.ip(&format!(
            "address add {}/64 dev eth0 nodad",
            subnet_v6(subnet, 3)
        ));
    }
    (ns, mac)
}

fn route_replies_by(backend: &Host, host: u8) {
    for gateway in [
        IpAddr::V4(subnet_v4(1, host)),
        IpAddr::V6(subnet_v6(1, host)),
    ] {
        backend
            .ns
            .ip(&format!("route replace default via {gateway}"));
    }
}

#[test]
fn a_balancer_that_takes_over_tells_the_clients() {
    let link = Link::new("takeover");
    let (second, second_mac) = second_balancer(&link.topology);
    let first = &link.topology.balancer;
    let first_agent = link.start(&first.ns);
    link.wait_for_answers();
    link.wait_for_entries(first.mac);

    // The first is cut off and does not know it. The client asks nobody meanwhile.
    link.topology.switch.ip("link set balancer nomaster");
    let second_agent = link.start(&second);
    link.wait_for_entries(second_mac);
    route_replies_by(&link.topology.backends[0], 3);
    link.wait_for_answers();
    assert!(reason(&second_agent, "transmitted") > 0);

    // The first is back, and takes the VIPs back when it is told to read its configuration, but not
    // by what it announced at its start.
    std::thread::sleep(AFTER_THE_LAST);
    link.topology.switch.ip("link set balancer master back");
    first_agent.cli(&["reload", "-o", "json"]);
    link.wait_for_entries(first.mac);
}

#[test]
fn a_link_that_comes_up_has_its_vips_announced_and_those_of_ipv6_put_back() {
    let link = Link::new("link-up");
    let balancer = &link.topology.balancer;
    let _agent = link.start(&balancer.ns);
    link.wait_for_answers();
    link.wait_for_entries(balancer.mac);

    // Nobody but an announcement tells the client of the new hardware address, and not one of those
    // after the start.
    std::thread::sleep(AFTER_THE_LAST);
    let other_mac = [2, 0, 10, 80, 1, 77];
    let text = other_mac.map(|byte| format!("{byte:02x}")).join(":");
    balancer.ns.ip("link set eth0 down");
    balancer.ns.ip(&format!("link set eth0 address {text}"));
    balancer.ns.ip("link set eth0 up");
    link.wait_for_entries(other_mac);
    wait_for_addresses(&balancer.ns, "eth0", [true, true]);
    // The kernel takes the host's own IPv6 addresses off a link that goes down.
    for subnet in [1, 2] {
        let own = subnet_v6(subnet, 1);
        balancer
            .ns
            .ip(&format!("address replace {own}/64 dev eth0 nodad"));
    }
    link.wait_for_answers();
}

#[test]
fn announcing_needs_a_capability_and_nothing_else_does() {
    let link = Link::new("raw");
    let balancer = &link.topology.balancer.ns;
    let launcher = ["setpriv", "--bounding-set=-all,+bpf,+perfmon,+net_admin"];
    let said = refusal(balancer, &link.config(), &launcher);
    assert!(
        said.contains("service web0: ") && said.contains("announce = \"arp\" needs CAP_NET_RAW"),
        "{said}"
    );
    assert_eq!(BOTH.map(|vip| has(balancer, "eth0", vip)), [false, false]);

    let silent = Services {
        keys: "",
        ..link.services.clone()
    };
    let backends = &link.topology.backends;
    let mut agent = Agent::prepare(&agent_binary(), balancer, &silent.config(backends));
    agent.start_through(&launcher);
    agent.start_again();
    wait_until_well(&agent);
    agent.write_config(&link.config());
    let (code, said) = exit_of(&agent, &["reload"]);
    assert!(
        code == Some(1) && said.contains("CAP_NET_RAW"),
        "{code:?} {said}"
    );
    // Nothing has changed.
    agent.write_config(&silent.config(backends));
    agent.cli(&["reload", "-o", "json"]);

    let announcing = "--bounding-set=-all,+bpf,+perfmon,+net_admin,+net_raw";
    agent.stop();
    agent.start_through(&["setpriv", announcing]);
    agent.write_config(&link.config());
    agent.start_again();
    wait_for_addresses(balancer, "eth0", [true, true]);
    link.wait_for_answers();
}
