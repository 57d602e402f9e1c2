//! Clients on the balancer's link, whose hardware addresses the agent has to find out.

use std::net::IpAddr;

use xlb_tests::lab::{Agent, Lab, Topology, VIP_V4, VIP_V6, subnet_v4, subnet_v6, wait_until};

use crate::stage::{LIMIT, Services, answers_to, reason, serve, wait_until_well};

/// A client that never asks for the balancer's address, so that the balancer's kernel does not learn
/// its address from being asked.
struct Silent {
    topology: Topology,
    services: Services,
}

impl Silent {
    fn new() -> Self {
        let topology = Topology::one_link(&Lab::new("silent"), 2);
        let mac = topology.balancer.mac.map(|byte| format!("{byte:02x}"));
        for address in ["10.80.2.1", "fd80:0:0:2::1"] {
            topology.client.ns.ip(&format!(
                "neighbour replace {address} lladdr {} dev eth0 nud permanent",
                mac.join(":")
            ));
        }
        for address in [IpAddr::from(subnet_v4(2, 3)), subnet_v6(2, 3).into()] {
            let bits = if address.is_ipv6() { 64 } else { 24 };
            topology
                .client
                .ns
                .ip(&format!("address add {address}/{bits} dev eth0"));
        }
        let services = Services {
            vips: vec![VIP_V4.into(), VIP_V6.into()],
            ..Services::plain()
        };
        Self { topology, services }
    }

    /// What the balancer's kernel knows of the client at its addresses with this end.
    fn neighbours(&self, host: u8) -> String {
        let ip = |address: IpAddr| {
            let balancer = &self.topology.balancer.ns;
            balancer.ip(&format!("neighbour show to {address}"))
        };
        ip(subnet_v4(2, host).into()) + &ip(subnet_v6(2, host).into())
    }

    fn answered(&self, host: u8) -> [bool; 2] {
        let client = &self.topology.client.ns;
        [
            answers_to(client, VIP_V4.into(), &subnet_v4(2, host).to_string()),
            answers_to(client, VIP_V6.into(), &subnet_v6(2, host).to_string()),
        ]
    }

    fn wait_for_answers(&self, host: u8) {
        wait_until("both VIPs answer", LIMIT, || {
            self.answered(host) == [true, true]
        });
    }
}

#[test]
fn a_client_whose_address_nobody_knows_is_found_by_the_replies_to_it() {
    let silent = Silent::new();
    let _servers = serve(&silent.topology);
    let config = silent.services.config(&silent.topology.backends);
    let mut agent = Agent::start(&silent.topology.balancer.ns, &config);
    wait_until_well(&agent);

    // The data path alone does not find it, nor does the kernel.
    agent.kill9();
    assert_eq!(silent.answered(2), [false, false]);
    assert_eq!(silent.neighbours(2), "");
    agent.start_again();
    silent.wait_for_answers(2);

    // From then on the agent's table leads to it, also when the kernel has forgotten it.
    let lookups = reason(&agent, "fib-lookup");
    assert!(lookups > 0);
    assert_eq!(silent.answered(2), [true, true]);
    assert_eq!(reason(&agent, "fib-lookup"), lookups);
    for address in ["10.80.2.2", "fd80:0:0:2::2"] {
        let balancer = &silent.topology.balancer.ns;
        balancer.ip(&format!("neighbour flush to {address}"));
    }
    silent.wait_for_answers(2);

    // Other maps and another program tell of other clients all the same.
    agent.write_config(&grown(&silent));
    agent.cli(&["reload", "-o", "json"]);
    assert_eq!(silent.neighbours(3), "");
    silent.wait_for_answers(3);
}

/// The configuration with so many services more that maps have to grow, and with other features.
fn grown(silent: &Silent) -> String {
    let own = silent.services.config(&silent.topology.backends);
    let more: String = (0..60)
        .map(|index| {
            format!(
                "[[service]]\nname = \"more{index}\"\nvip = \"198.51.100.1\"\nport = {port}\n\
                 forward = \"l2-dsr\"\nbackends = [{{ address = \"10.80.1.11\", port = 8080 }}]\n",
                port = 1_000 + index
            )
        })
        .collect();
    own + &more
}
