//! Full NAT whose source ports run out, and whose agent is killed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, KeepAlive, KeepAliveOptions, Lab, Topology, wait_until,
};

use crate::plain::{LIMIT, reason_of, target};

/// Source ports of a family.
const PORTS: usize = 8;
const BACKEND_PORT: u16 = 8080;

#[test]
fn ports_that_run_out_refuse_what_is_new_and_nothing_else() {
    let topology = Topology::one_link(&Lab::new("fnat-ports"), 2);
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let http = any.map(|any| SocketAddr::new(any, BACKEND_PORT)).to_vec();
    let servers: Vec<Backend> = topology
        .backends
        .iter()
        .map(|host| {
            let http = http.clone();
            Backend::start(&host.ns, host.name(), BackendKind::Nginx { http })
        })
        .collect();
    let mut agent = Agent::start(&topology.balancer.ns, &config(&topology));
    for v6 in [false, true] {
        let exhausted = || reason_of(&agent, "nat-exhausted");
        let before = exhausted();
        let options = |connections| KeepAliveOptions {
            pause: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            ..KeepAliveOptions::new(target(v6), connections)
        };
        let kept = KeepAlive::start(&topology.client.ns, options(PORTS));
        wait_until("every connection is answered", LIMIT, || {
            kept.snapshot().iter().all(|kept| kept.answers > 0)
        });
        assert_eq!(exhausted(), before, "there is a port for each");
        let refused = KeepAlive::start(&topology.client.ns, options(2));
        wait_until("new ones are refused and counted", LIMIT, || {
            exhausted() > before
        });
        // The next agent adopts the ports with their connections.
        agent.kill9();
        let answers = |kept: &KeepAlive| -> Vec<u64> {
            kept.snapshot().iter().map(|kept| kept.answers).collect()
        };
        let then = answers(&kept);
        agent.start_again();
        wait_until("every connection goes on", LIMIT, || {
            answers(&kept)
                .iter()
                .zip(&then)
                .all(|(now, then)| now > then)
        });
        assert!(refused.stop().iter().all(|refused| refused.answers == 0));
        let kept = kept.stop();
        assert!(kept.iter().all(|kept| kept.broken.is_none()), "{kept:?}");
    }
    drop(servers);
}

fn config(topology: &Topology) -> String {
    let interfaces = topology.interfaces();
    let sources = [false, true].map(|v6| topology.balancer.address(v6).to_string());
    let last = 2000 + PORTS - 1;
    let services = [false, true].map(|v6| {
        let backends: String = topology
            .backends
            .iter()
            .map(|host| {
                let address = host.address(v6);
                format!("  {{ address = \"{address}\", port = {BACKEND_PORT} }},\n")
            })
            .collect();
        let (name, vip) = (if v6 { "v6" } else { "v4" }, target(v6));
        format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{}\"\nport = {}\nforward = \"full-nat\"\n\
             backends = [\n{backends}]\n",
            vip.ip(),
            vip.port()
        )
    });
    format!(
        "[dataplane]\ninterfaces = {interfaces:?}\nnat_source = {sources:?}\n\
         nat_ports = \"2000-{last}\"\n{}",
        services.concat()
    )
}
