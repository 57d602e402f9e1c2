//! Backends that no link of the balancer has, behind a router.

use std::net::{IpAddr, SocketAddr};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Lab, Replies, Topology, VIP_V4, VIP_V6, wait_until,
};

use crate::{
    flows,
    plain::{LIMIT, far},
};

const PORT: u16 = 80;
const REQUESTS: usize = 8;

#[test]
fn ipip_reaches_a_backend_behind_a_router_in_both_families() {
    let topology = Topology::one_link(&Lab::new("tunnel"), 2);
    topology.route_replies(Replies::Direct);
    let [host, router] = [&topology.backends[0], &topology.backends[1]];
    router.ns.sysctl("net/ipv4/ip_forward", "1");
    router.ns.sysctl("net/ipv6/conf/all/forwarding", "1");
    for v6 in [false, true] {
        let to = far(v6);
        host.ns.ip(&format!("addr add {to} dev lo nodad"));
        let via = host.address(v6);
        router.ns.ip(&format!("route add {to} via {via}"));
        let via = router.address(v6);
        topology
            .balancer
            .ns
            .ip(&format!("route add {to} via {via}"));
    }
    let unpacker = Decapsulator::start(&host.ns);
    let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)].map(|vip| SocketAddr::new(vip, PORT));
    let http = vips.to_vec();
    let _server = Backend::start(&host.ns, host.name(), BackendKind::Nginx { http });
    let _agent = Agent::start(&topology.balancer.ns, &config());
    for vip in vips {
        let before = (unpacker.packets("delivered"), flows::forwarded(router));
        let answers = flows::curl(&topology.client.ns, vip, REQUESTS);
        let client = topology.client.address(vip.is_ipv6());
        assert!(answers.iter().all(|answer| answer.client == client));
        // SYN, ACK, request and FIN of each, by the router and out of the outer header.
        let least = 4 * REQUESTS as u64;
        wait_until("the last packets have come", LIMIT, || {
            unpacker.packets("delivered") - before.0 >= least
        });
        assert!(flows::forwarded(router) - before.1 >= least, "{vip}");
    }
}

fn config() -> String {
    let service = |vip: IpAddr| {
        let (name, address) = (if vip.is_ipv6() { "v6" } else { "v4" }, far(vip.is_ipv6()));
        format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\n\
             forward = \"ipip\"\nbackends = [{{ address = \"{address}\", port = {PORT} }}]\n"
        )
    };
    format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\n{}{}",
        service(VIP_V4.into()),
        service(VIP_V6.into())
    )
}
