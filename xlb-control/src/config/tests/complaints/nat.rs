//! Source addresses and ports of full NAT.

use std::time::Duration;

use super::files_are_refused;
use crate::config::{
    Forward, PortRange, Udp,
    tests::{HEAD, accepted},
};

/// A service under full NAT; the keys of `[dataplane]` stand in line 3.
fn with(keys: &str) -> String {
    format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\n{keys}\n[[service]]\nname = \"old\"\n\
         vip = \"192.0.2.10\"\nport = 443\nforward = \"full-nat\"\n\
         backends = [{{ address = \"10.0.1.7\", port = 80 }}]\n"
    )
}

#[test]
fn sources_and_ports_are_read() {
    assert!(HEAD.starts_with("[dataplane]"));
    let config = accepted(&with(
        "nat_source = [\"10.0.0.9\", \"2001:db8::9\"]\nnat_ports = \"5000-5000\"",
    ))
    .config;
    assert_eq!(config.services["old"].forward, Forward::FullNat);
    assert_eq!(config.dataplane.nat_source.len(), 2);
    let (first, last) = (5000, 5000);
    assert_eq!(config.dataplane.nat_ports, PortRange { first, last });
    let config = accepted(&with("nat_source = [\"10.0.0.9\"]")).config;
    assert_eq!(config.dataplane.nat_ports.to_string(), "1024-65535");
}

#[test]
fn timeouts_are_read() {
    let config = accepted(&with(
        "nat_source = [\"10.0.0.9\"]\nnat_timeouts = { tcp_time_wait = \"4m\", udp = \"5s\" }",
    ))
    .config;
    let timeouts = config.dataplane.nat_timeouts;
    assert_eq!(timeouts.tcp_time_wait, Duration::from_secs(240));
    assert_eq!(timeouts.udp, Duration::from_secs(5));
    assert_eq!(timeouts.tcp_syn, Duration::from_secs(60), "the default");
}

#[test]
fn datagrams_of_full_nat_are_tracked() {
    let text = with("nat_source = [\"10.0.0.9\"]").replace(
        "port = 443",
        "port = 443\nprotocol = \"udp\"\nudp_idle_timeout = \"7s\"",
    );
    let config = accepted(&text).config;
    assert_eq!(config.services["old"].udp, Udp::Tracked);
    assert_eq!(
        config.services["old"].udp_idle_timeout,
        Duration::from_secs(7)
    );
    let stateless = text.replace("udp_idle_timeout = \"7s\"", "udp = \"stateless\"");
    files_are_refused(&[(
        &stateless,
        "`udp = \"stateless\"` can't be with `forward = \"full-nat\"`, which knows each flow by its \
         source port",
        (9, 7),
        "remove it",
    )]);
}

#[test]
fn what_can_t_be_is_refused() {
    for (keys, message, at, help) in [
        (
            "",
            "service `old` is `full-nat`, and there is no source address of IPv4",
            (6, 7),
            "`nat_source`",
        ),
        (
            "nat_source = [\"2001:db8::9\"]",
            "service `old` is `full-nat`, and there is no source address of IPv4",
            (6, 7),
            "`nat_source`",
        ),
        (
            "nat_source = [\"192.0.2.10\"]",
            "the VIP of service `old` is in `nat_source`: packets to it could be replies too",
            (6, 7),
            "for this alone",
        ),
        (
            "nat_source = [\"10.0.0.9\", \"10.0.0.9\"]",
            "10.0.0.9 is named twice",
            (3, 27),
            "remove one",
        ),
        (
            "nat_source = [\"10.0.0.9\"]\nnat_ports = \"9-1\"",
            "`9-1` is not a range of ports",
            (4, 13),
            "\"1024-65535\"",
        ),
        (
            "nat_source = [\"10.0.0.9\"]\nnat_timeouts = { udp = \"1500ms\" }",
            "`udp` is not a number of whole seconds",
            (4, 24),
            "\"1s\"",
        ),
        (
            "nat_source = [\"10.0.0.9\"]\nnat_timeouts = { tcp_timewait = \"1s\" }",
            "unknown key `tcp_timewait` in `nat_timeouts`",
            (4, 18),
            "did you mean `tcp_time_wait`?",
        ),
        (
            "nat_source = [\"10.0.1.7\"]",
            "backend 10.0.1.7:80 of service `old` has an address that is in `nat_source`: packets would \
             come from where they go to",
            (9, 13),
            "that leads to this host",
        ),
    ] {
        files_are_refused(&[(&with(keys), message, at, help)]);
    }
}
