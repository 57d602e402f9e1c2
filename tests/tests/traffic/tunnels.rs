//! Backends that no link of the balancer has, behind a router.

use std::net::{IpAddr, SocketAddr};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Replies, VIP_V4, VIP_V6, wait_until,
};

use crate::{
    behind::{behind_a_router, config},
    flows,
    plain::LIMIT,
};

const PORT: u16 = 80;
const REQUESTS: usize = 8;

#[test]
fn ipip_reaches_a_backend_behind_a_router_in_both_families() {
    let topology = behind_a_router("tunnel", Replies::Direct, None);
    let [host, router] = [&topology.backends[0], &topology.backends[1]];
    let unpacker = Decapsulator::start(&host.ns);
    let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)].map(|vip| SocketAddr::new(vip, PORT));
    let http = vips.to_vec();
    let _server = Backend::start(&host.ns, host.name(), BackendKind::Nginx { http });
    let _agent = Agent::start(&topology.balancer.ns, &config("ipip", PORT));
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
