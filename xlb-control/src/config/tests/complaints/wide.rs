//! Services of several ports or addresses.

use super::files_are_refused;
use crate::config::tests::{HEAD, SOUND, accepted};

/// A sound file with another VIP, port and mode, and a backend that takes the packet's port.
fn with(vip: &str, port: &str, forward: &str, keys: &str) -> String {
    let sound = SOUND
        .replace("192.0.2.10", vip)
        .replace("port = 443", &format!("port = {port}"))
        .replace(", port = 8080", "")
        .replace("\"dnat\"", &format!("\"{forward}\""));
    format!("{HEAD}{sound}{keys}\n")
}

const OTHER: &str = "\
[[service]]
name = \"other\"
vip = \"192.0.2.0/28\"
port = PORT
forward = \"ipip\"
pool = \"web\"
";

#[test]
fn ports_and_prefixes_are_read() {
    for (vip, port, forward) in [
        ("192.0.2.10", "\"8000-8999\"", "dnat"),
        ("192.0.2.10", "\"all\"", "dnat"),
        ("192.0.2.0/28", "443", "l2-dsr"),
        ("192.0.2.0/28", "\"all\"", "ipip"),
        ("192.0.2.10", "\"1-65535\"", "gue"),
        ("192.0.2.10/32", "443", "dnat"),
    ] {
        let loaded = accepted(&with(vip, port, forward, ""));
        let service = &loaded.config.services["web"];
        assert_eq!(service.port.to_string(), port.replace('"', ""));
        let written = vip.strip_suffix("/32").unwrap_or(vip);
        assert_eq!(service.vip.to_string(), written);
        assert_eq!(loaded.config.pools["web"].backends[0].port, 0);
    }
    // What is more specific may lie within.
    let inner = OTHER.replace("PORT", "443");
    let all = with("192.0.2.0/28", "\"all\"", "ipip", &inner);
    let range = inner
        .replace("443", "\"400-500\"")
        .replace("other", "range");
    accepted(&format!("{all}{range}"));
    accepted(&with("192.0.2.5", "\"400-500\"", "ipip", &range));
}

#[test]
fn what_cannot_be_is_refused() {
    let host_bits = with("192.0.2.10/28", "443", "ipip", "");
    let range = |ports: &str| with("192.0.2.10", ports, "ipip", "");
    let prefix = |forward: &str, keys: &str| with("192.0.2.0/28", "443", forward, keys);
    let check = "check = { type = \"tcp\" }";
    let checked = with("192.0.2.10", "\"all\"", "ipip", "").replace(
        "name = \"web\"\nbackends",
        &format!("name = \"web\"\n{check}\nbackends"),
    );
    let overlap = with(
        "192.0.2.0/28",
        "\"8000-8999\"",
        "ipip",
        &OTHER.replace("PORT", "\"8500-9499\""),
    );
    let twice = with(
        "192.0.2.0/28",
        "\"8000-8999\"",
        "ipip",
        &OTHER.replace("PORT", "\"8000-8999\""),
    );
    let one_port = with("192.0.2.10", "\"all\"", "dnat", "").replace("7\" }", "7\", port = 80 }");
    let shared = with("192.0.2.10", "\"all\"", "dnat", "").replace(
        "pool = \"web\"\n",
        "pool = \"web\"\n[[service]]\nname = \"b\"\nvip = \"192.0.2.11\"\nport = 80\nforward = \
         \"dnat\"\nbackends = [{ address = \"10.0.1.7\", port = 81 }]\n",
    );
    let own = with("10.0.1.0/24", "443", "ipip", "");
    let local = "[dataplane]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \
                 \"192.0.2.10\"\nport = \"80-81\"\nforward = \"local\"\ncheck = { type = \"tcp\" }\n";
    let local_prefix = "[dataplane]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \
                        \"192.0.2.0/28\"\nport = 80\nforward = \"local\"\n";
    let source =
        |text: String| text.replace("[\"eth0\"]\n", "[\"eth0\"]\nnat_source = [\"10.0.1.2\"]\n");
    let by_address = OTHER
        .replace("PORT", "53\nprotocol = \"udp\"\nfragments = \"address\"")
        .replace("192.0.2.0/28", "192.0.2.5");
    let by_address = format!("protocol = \"udp\"\n{by_address}");
    let by_address = with("192.0.2.0/28", "\"all\"", "ipip", &by_address);
    let nat = source(with("192.0.2.10", "\"8000-8999\"", "full-nat", ""));
    let portless_nat = source(with("192.0.2.10", "443", "full-nat", ""));
    files_are_refused(&[
        (
            &host_bits,
            "192.0.2.10/28 has bits beyond its prefix length",
            (11, 7),
            "write `192.0.2.0/28`, or `192.0.2.10` for the one address",
        ),
        (
            &range("\"9-8\""),
            "`9-8` is neither a range of ports nor `all`",
            (12, 8),
            "`\"8000-8999\"`",
        ),
        (
            &range("\"0-8\""),
            "`0-8` is neither a range of ports nor `all`",
            (12, 8),
            "`\"all\"`",
        ),
        (
            &range("\"443\""),
            "`port` must be an integer, not a string",
            (12, 8),
            "without quotes: `443`",
        ),
        (
            &with("127.0.0.0/8", "443", "ipip", ""),
            "127.0.0.0 can't be a VIP: it is a loopback address",
            (11, 7),
            "unicast",
        ),
        (
            &with("0.0.0.0/0", "443", "ipip", ""),
            "0.0.0.0 can't be a VIP: it is the unspecified address",
            (11, 7),
            "unicast",
        ),
        (
            &prefix("dnat", ""),
            "service `web` has the prefix 192.0.2.0/28 as its VIP, which `dnat` can't carry: a reply \
             would not tell which of the addresses it belongs to",
            (11, 7),
            "use `l2-dsr`, `ipip` or `gue`",
        ),
        (
            &prefix("ipip", "announce = \"arp\""),
            "service `web` has the prefix 192.0.2.0/28 as its VIP, and `announce = \"arp\"` is for \
             single addresses",
            (11, 7),
            "have a router send the prefix here",
        ),
        (
            &nat,
            "service `web` takes in 192.0.2.10:8000-8999, and `full-nat` is for one address and one port",
            (12, 7),
            "a service for each",
        ),
        (
            &with(
                "192.0.2.0/28",
                "443",
                "ipip",
                "protocol = \"udp\"\nfragments = \"address\"",
            ),
            "service `web` takes in 192.0.2.0/28:443, and `fragments = \"address\"` is for one address and \
             one port",
            (11, 7),
            "leave `fragments` out",
        ),
        (
            &by_address,
            "service `other` has the VIP 192.0.2.5 with `fragments = \"address\"`, and service `web` has it \
             too: fragments have no port to tell which of the two they are for",
            (18, 7),
            "give one of them another VIP",
        ),
        (
            &portless_nat,
            "backend 10.0.1.7 of service `web` has no port, which `full-nat` needs",
            (8, 13),
            "`port = 8080`",
        ),
        (
            local_prefix,
            "service `a` has the prefix 192.0.2.0/28 as its VIP, and `local` puts single addresses on \
             this host",
            (5, 7),
            "a service for each address",
        ),
        (
            local,
            "service `a` has several ports, and its check does not know which to ask",
            (3, 1),
            "`listener = \"127.0.0.1:443\"`",
        ),
        (
            &checked,
            "backend 10.0.1.7 of pool `web` has no port, and the check does not say which to ask",
            (8, 13),
            "give the check a `port`",
        ),
        (
            &overlap,
            "services `web` (192.0.2.0/28:8000-8999/tcp) and `other` (192.0.2.0/28:8500-9499/tcp) \
             share ports, and neither range is more specific than the other",
            (17, 7),
            "let ranges of one VIP not overlap",
        ),
        (
            &twice,
            "services `other` and `web` both have the VIP 192.0.2.0/28:8000-8999/tcp",
            (17, 7),
            "another VIP, port or protocol",
        ),
        (
            &one_port,
            "backend 10.0.1.7:80 has one port for the ports of service `web` (all): its replies would not \
             tell which port a client used",
            (7, 13),
            "leave out the backend's `port`",
        ),
        (
            &shared,
            "services `b` and `web` both reach 10.0.1.7:81/tcp by `dnat`: its replies would not tell \
             which service they belong to",
            (20, 1),
            "of its own",
        ),
        (
            &own,
            "backend 10.0.1.7:0 has the VIP of service `web` as its address: packets would come back \
             to the balancer",
            (7, 13),
            "the address that the backend has for itself",
        ),
    ]);
}
