//! A configuration that several tests have.

use super::{Topology, VIP_V4};

/// The service `web` at port 80, whose connections may be forgotten after two seconds, in front of the
/// first backends: as many as there are weights. `service`: further lines of the service.
#[must_use]
pub fn forgetful_config(topology: &Topology, weights: &[u16], port: u16, service: &str) -> String {
    let backends: String = topology
        .backends
        .iter()
        .zip(weights)
        .map(|(host, weight)| {
            let address = host.v4;
            format!("{{ address = \"{address}\", port = {port}, weight = {weight} }}, ")
        })
        .collect();
    format!(
        r#"
        [dataplane]
        interfaces = ["eth0"]
        [[pool]]
        name = "web"
        ring_slots = 4001
        idle_timeout = "2s"
        backends = [{backends}]
        [[service]]
        name = "web"
        vip = "{VIP_V4}"
        port = 80
        forward = "dnat"
        pool = "web"
        {service}
        "#
    )
}
