//! Services of SCTP.

use super::files_are_refused;
use crate::config::{
    Protocol,
    tests::{HEAD, SOUND, accepted},
};

fn with(forward: &str, keys: &str) -> String {
    format!("{HEAD}{SOUND}protocol = \"sctp\"\n{keys}\n")
        .replace("\"dnat\"", &format!("\"{forward}\""))
}

#[test]
fn modes_that_leave_packets_as_they_are_carry_it() {
    for forward in ["l2-dsr", "ipip", "gue"] {
        let loaded = accepted(&with(forward, "policy = \"round-robin\""));
        assert_eq!(loaded.config.services["web"].protocol, Protocol::Sctp);
    }
    files_are_refused(&[
        (
            &with("dnat", ""),
            "service `web` is of SCTP, which `dnat` can't carry: another port needs a new checksum \
             over the whole packet",
            (13, 11),
            "use `l2-dsr`, `ipip`, `gue` or `local`",
        ),
        (
            &with("ipip", "second_chance = true"),
            "`second_chance` is for TCP: a backend can't tell whose a packet of SCTP is",
            (16, 17),
            "remove it",
        ),
        (
            &with("ipip", "udp = \"tracked\""),
            "`udp = \"tracked\"` stands in a service of SCTP",
            (16, 7),
            "remove it",
        ),
        (
            &with("ipip", "udp_idle_timeout = \"5s\""),
            "`udp_idle_timeout` is for tracked flows of UDP, and this service has none",
            (16, 20),
            "SCTP has the `idle_timeout` of the pool",
        ),
    ]);
}
