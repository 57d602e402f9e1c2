//! `service list` and `service show`.

use xlb_control::{
    api::ServiceStatus,
    config::{At, Udp},
};

use super::{Style, always, layout, wide};
use crate::cli::{
    units::{bytes, count},
    values::name,
};

/// A line for each service.
pub(in crate::cli) fn table(services: &[ServiceStatus], style: Style) -> String {
    let headers = [
        always("SERVICE"),
        always("VIP"),
        always("FORWARD"),
        always("POOL"),
        always("POLICY"),
        always("HEALTH"),
        always("BACKENDS"),
        wide("ALL-DOWN"),
        always("ORIGIN"),
        always("CONNS"),
        always("PACKETS"),
        always("BYTES"),
        wide("REPLIES"),
        wide("REPLY-BYTES"),
    ];
    layout(
        style,
        headers,
        services.iter().map(|service| {
            [
                service.name.clone(),
                vip(service),
                name(&service.forward),
                service.pool.clone(),
                policy(service),
                name(&service.health),
                format!("{}/{}", service.accepting, service.backends),
                name(&service.all_down),
                name(&service.origin),
                count(service.counters.connections),
                count(service.counters.packets),
                bytes(service.counters.bytes),
                count(service.counters.reply_packets),
                bytes(service.counters.reply_bytes),
            ]
        }),
    )
}

/// Everything about one service, a line for each fact.
pub(in crate::cli) fn show(service: &ServiceStatus, _: Style) -> String {
    let counters = &service.counters;
    let facts = [
        ("service", service.name.clone()),
        ("vip", vip(service)),
        ("forward", name(&service.forward)),
        ("pool", service.pool.clone()),
        ("policy", policy(service)),
        ("health", name(&service.health)),
        (
            "backends",
            format!(
                "{} of {} get new connections",
                service.accepting, service.backends
            ),
        ),
        ("all_down", name(&service.all_down)),
        ("origin", name(&service.origin)),
        ("connections", count(counters.connections)),
        ("requests", traffic(counters.packets, counters.bytes)),
        (
            "replies",
            traffic(counters.reply_packets, counters.reply_bytes),
        ),
    ];
    facts
        .map(|(fact, value)| format!("{fact:<13}{value}\n"))
        .concat()
}

fn vip(service: &ServiceStatus) -> String {
    let address = At {
        vip: service.vip,
        ports: service.port,
    };
    format!("{address}/{}", name(&service.protocol))
}

/// The policy, and what it looks at or remembers besides what all do.
fn policy(service: &ServiceStatus) -> String {
    let mut text = name(&service.policy);
    if let Some(affinity) = &service.affinity {
        text = format!("{text} by {}", name(affinity));
    }
    if service.udp != Udp::default() {
        text = format!("{text}, {}", name(&service.udp));
    }
    text
}

fn traffic(packets: u64, size_bytes: u64) -> String {
    format!("{} packets, {}", count(packets), bytes(size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn golden_list() {
        assert_eq!(
            table(&samples::services(), Style::PLAIN),
            "\
SERVICE     VIP                     FORWARD   POOL   POLICY                HEALTH     BACKENDS   ORIGIN   CONNS   PACKETS   BYTES
web         192.0.2.10:443/tcp      dnat      web    least-connections     up         3/3        file     871     12.3k     1.5 MiB
dns-front   [2001:db8::53]:53/udp   l2-dsr    dns    maglev by client-ip   degraded   2/3        file     871     12.3k     1.5 MiB
"
        );
    }

    #[test]
    fn golden_show() {
        assert_eq!(
            show(&samples::services()[0], Style::PLAIN),
            "\
service      web
vip          192.0.2.10:443/tcp
forward      dnat
pool         web
policy       least-connections
health       up
backends     3 of 3 get new connections
all_down     panic
origin       file
connections  871
requests     12.3k packets, 1.5 MiB
replies      12.0k packets, 94.4 MiB
"
        );
    }
}
