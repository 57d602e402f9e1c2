//! How a service picks backends: keys that say nothing beside others.

use super::{Row, expect};
use crate::config::{
    Policy, Severity, Udp,
    tests::{HEAD, SOUND, accepted, refused},
};

/// The sound file with these lines after the service's port, which is in line 12.
fn with(lines: &str) -> String {
    let sound = SOUND.replacen("port = 443\n", &format!("port = 443\n{lines}"), 1);
    format!("{HEAD}{sound}")
}

#[test]
fn policies() {
    let rows: &[Row<'_>] = &[
        (
            "policy = \"leastconn\"\n",
            "`policy` can't be `leastconn`",
            (13, 10),
            "use one of `maglev`, `round-robin`, `least-connections`",
        ),
        (
            "policy = \"round_robin\"\n",
            "`policy` can't be `round_robin`",
            (13, 10),
            "did you mean `round-robin`?",
        ),
        (
            "affinity = \"cookie\"\n",
            "`affinity` can't be `cookie`",
            (13, 12),
            "use one of `client-ip`",
        ),
        (
            "protocol = \"udp\"\nudp = \"sticky\"\n",
            "`udp` can't be `sticky`",
            (14, 7),
            "use one of `stateless`, `tracked`",
        ),
        (
            "udp = \"tracked\"\n",
            "`udp = \"tracked\"` stands in a service of TCP",
            (13, 7),
            "write `protocol = \"udp\"`",
        ),
        (
            "protocol = \"tcp\"\nudp = \"stateless\"\n",
            "`udp = \"stateless\"` stands in a service of TCP",
            (14, 7),
            "remove it",
        ),
        (
            "protocol = \"udp\"\npolicy = \"round-robin\"\n",
            "`policy = \"round-robin\"` needs tracked flows: without records, it would send each \
             datagram of a flow elsewhere",
            (14, 10),
            "add `udp = \"tracked\"`",
        ),
        (
            "protocol = \"udp\"\nudp = \"stateless\"\npolicy = \"least-connections\"\n",
            "`policy = \"least-connections\"` needs tracked flows: without records, it would send \
             each datagram of a flow elsewhere",
            (15, 10),
            "add `udp = \"tracked\"`",
        ),
        (
            "policy = \"least-connections\"\naffinity = \"client-ip\"\n",
            "`affinity = \"client-ip\"` is lost on `policy = \"least-connections\"`, which decides \
             by connection and not by the client",
            (14, 12),
            "use `policy = \"maglev\"`",
        ),
        (
            "udp_idle_timeout = \"1m\"\n",
            "`udp_idle_timeout` is for tracked flows of UDP, and this service has none",
            (13, 20),
            "TCP has the `idle_timeout` of the pool",
        ),
        (
            "protocol = \"udp\"\nudp_idle_timeout = \"1m\"\n",
            "`udp_idle_timeout` is for tracked flows of UDP, and this service has none",
            (14, 20),
            "add `udp = \"tracked\"`",
        ),
        (
            "protocol = \"udp\"\nudp = \"tracked\"\nudp_idle_timeout = \"8d\"\n",
            "`udp_idle_timeout` is 8d, out of range",
            (15, 20),
            "it may be from 1s to 7days",
        ),
    ];
    for &(lines, message, place, help) in rows {
        let text = with(lines);
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
}

#[test]
fn what_cannot_be_read_is_complained_about_once() {
    for lines in [
        "protocol = \"UDP\"\nudp = \"tracked\"\nudp_idle_timeout = \"1m\"\n",
        "protocol = \"udp\"\nudp = \"trakced\"\nudp_idle_timeout = \"1m\"\n",
        "protocol = \"udp\"\nudp = \"trakced\"\npolicy = \"round-robin\"\n",
        "policy = \"leastconn\"\naffinity = \"client-ip\"\n",
    ] {
        assert_eq!(refused(&with(lines)).errors(), 1, "{lines}");
    }
}

#[test]
fn a_policy_may_decide_by_flow_where_flows_are_tracked() {
    let text = with("protocol = \"udp\"\nudp = \"tracked\"\npolicy = \"least-connections\"\n");
    let service = &accepted(&text).config.services["web"];
    assert_eq!(service.policy, Policy::LeastConnections);
    assert_eq!(service.udp, Udp::Tracked);
}
