//! The file of a backend that decapsulates.

use std::net::IpAddr;

use super::{Row, expect};
use crate::config::{Decapsulation, Diagnostics, Loaded, Mode, Severity};

/// A file that is sound, in four lines.
const SOUND: &str = "\
[backend]
interfaces = [\"eth0\"]
balancers = [\"10.0.0.0/24\", \"fd00::/64\", \"10.0.9.7\"]
vips = [\"192.0.2.10\", \"2001:db8::10\"]
";

fn accepted(text: &str) -> Loaded<Decapsulation> {
    match Decapsulation::parse("xlb.toml", text) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("was refused:\n{diagnostics}"),
    }
}

fn refused(text: &str) -> Diagnostics {
    match Decapsulation::parse("xlb.toml", text) {
        Ok(loaded) => panic!("was accepted: {loaded:?}"),
        Err(diagnostics) => diagnostics,
    }
}

#[test]
fn a_sound_file_is_read_with_its_defaults() {
    let loaded = accepted(SOUND);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.interfaces, ["eth0"]);
    let prefixes: Vec<String> = config.balancers.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["10.0.0.0/24", "fd00::/64", "10.0.9.7/32"]);
    let vips = ["192.0.2.10", "2001:db8::10"].map(|vip| vip.parse::<IpAddr>().unwrap());
    assert_eq!(config.vips, vips);
    assert_eq!((config.mode, config.loopback), (Mode::Auto, true));
    assert!(config.peers.is_empty());
}

#[test]
fn what_is_not_the_default_is_kept() {
    let more = "mode = \"generic\"\nloopback = false\npeers = [\"10.0.1.0/24\", \"10.0.2.7\"]\n";
    let config = accepted(&format!("{SOUND}{more}")).config;
    let peers: Vec<String> = config.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["10.0.1.0/24", "10.0.2.7/32"]);
    assert_eq!((config.mode, config.loopback), (Mode::Generic, false));
}

#[test]
fn whole_files() {
    let rows: &[Row<'_>] = &[
        (
            "",
            "the file has no [backend]",
            (1, 1),
            "`interfaces`, `balancers` and `vips`",
        ),
        (
            "[backned]\n",
            "unknown key `backned` in the file",
            (1, 2),
            "did you mean `backend`?",
        ),
        (
            "[backend]\n",
            "[backend] has no `interfaces`",
            (1, 1),
            "interfaces = [\"eth0\"]",
        ),
        (
            "[backend]\n",
            "[backend] has no `balancers`",
            (1, 1),
            "balancers = [\"10.0.0.0/24\"]",
        ),
        (
            "[backend]\n",
            "[backend] has no `vips`",
            (1, 1),
            "vips = [\"192.0.2.10\"]",
        ),
        (
            "[[backend]]\n",
            "`backend` must be a table, not an array",
            (1, 1),
            "`[backend]`",
        ),
        (
            "a = \n",
            "a value is missing, or has no quotes",
            (1, 5),
            "double quotes",
        ),
    ];
    for &row in rows {
        expect(&refused(row.0), Severity::Error, row);
    }
}

#[test]
fn keys() {
    let rows: &[Row<'_>] = &[
        (
            "balancer = []",
            "unknown key `balancer` in [backend]",
            (5, 1),
            "did you mean `balancers`?",
        ),
        (
            "hash_key = \"\"",
            "unknown key `hash_key` in [backend]",
            (5, 1),
            "belongs in [dataplane]",
        ),
        (
            "loopback = \"yes\"",
            "`loopback` must be true or false, not a string",
            (5, 12),
            "without quotes",
        ),
        (
            "peers = [\"10.0.1.7/24\"]",
            "10.0.1.7/24 has bits beyond its prefix length",
            (5, 10),
            "write `10.0.1.0/24`",
        ),
        (
            "peers = [\"224.0.0.1\"]",
            "224.0.0.1 can't be a backend's address: it is a multicast address",
            (5, 10),
            "unicast",
        ),
        (
            "mode = \"nativ\"",
            "`mode` can't be `nativ`",
            (5, 8),
            "did you mean `native`?",
        ),
    ];
    for &(line, message, place, help) in rows {
        let text = format!("{SOUND}{line}\n");
        let row = (text.as_str(), message, place, help);
        expect(&refused(&text), Severity::Error, row);
    }
}

#[test]
fn balancers() {
    let rows: &[Row<'_>] = &[
        (
            "[]",
            "`balancers` is empty: every encapsulated packet would be dropped",
            (3, 13),
            "that balancers send from",
        ),
        (
            "\"10.0.0.0/24\"",
            "`balancers` must be an array of prefixes, not a string",
            (3, 13),
            "balancers = [\"10.0.0.0/24\"]",
        ),
        (
            "[\"10.0.0.5/24\"]",
            "10.0.0.5/24 has bits beyond its prefix length",
            (3, 14),
            "write `10.0.0.0/24`, or `10.0.0.5`",
        ),
        (
            "[\"10.0.0.0/33\"]",
            "`10.0.0.0/33` is not a prefix of IP addresses",
            (3, 14),
            "fd00::/64",
        ),
        (
            "[\"lb1\"]",
            "`lb1` is not an IP address",
            (3, 14),
            "host names are not looked up",
        ),
        (
            "[\"127.0.0.1\"]",
            "127.0.0.1 can't be a balancer's address: it is a loopback address",
            (3, 14),
            "unicast",
        ),
        (
            "[\"::ffff:10.0.0.1/128\"]",
            "::ffff:10.0.0.1 is an IPv4 address in IPv6 notation",
            (3, 14),
            "write it as `10.0.0.1`",
        ),
        (
            "[\"10.0.0.1\", \"10.0.0.1/32\"]",
            "prefix 10.0.0.1/32 stands here twice",
            (3, 26),
            "the first is at xlb.toml:3:14",
        ),
    ];
    for &(value, message, place, help) in rows {
        let text = format!("[backend]\ninterfaces = [\"eth0\"]\nbalancers = {value}\n");
        let row = (text.as_str(), message, place, help);
        expect(&refused(&text), Severity::Error, row);
    }
    let loaded = accepted(&SOUND.replace("10.0.0.0/24", "0.0.0.0/0"));
    let message = "0.0.0.0/0: any host may send packets to the VIPs through this one";
    let row = (SOUND, message, (3, 14), "the balancers alone");
    expect(&loaded.warnings, Severity::Warning, row);
    let many: Vec<String> = (0..1025)
        .map(|i| format!("\"10.0.{}.{}\"", i / 250, i % 250))
        .collect();
    let text = SOUND.replace("\"10.0.0.0/24\"", &many.join(","));
    let message = "`balancers` has 1026 prefixes of one family";
    let row = (text.as_str(), message, (3, 13), "at most 1024");
    expect(&refused(&text), Severity::Error, row);
}

#[test]
fn a_prefix_stands_for_its_addresses() {
    let text = "[backend]\ninterfaces = [\"eth0\"]\nbalancers = [\"10.0.0.0/24\"]\nvips = \
                [\"192.0.2.8\", \"192.0.2.8/31\", \"2001:db8::/127\"]\n";
    let loaded = Decapsulation::parse("xlb.toml", text).expect("is sound");
    let vips = ["192.0.2.8", "192.0.2.9", "2001:db8::", "2001:db8::1"];
    let vips = vips.map(|vip| vip.parse::<IpAddr>().unwrap());
    assert_eq!(loaded.config.vips, vips);
}

#[test]
fn vips() {
    let rows: &[Row<'_>] = &[
        (
            "[]",
            "`vips` is empty: every encapsulated packet would be dropped",
            (3, 8),
            "that this host is a backend of",
        ),
        (
            "[\"192.0.0.0/22\"]",
            "192.0.0.0/22 has more than 256 addresses, each of which would be a VIP of this host",
            (3, 9),
            "longer prefixes",
        ),
        (
            "[\"224.0.0.1\"]",
            "224.0.0.1 can't be a VIP: it is a multicast address",
            (3, 9),
            "unicast",
        ),
        (
            "[\"192.0.2.10\", \"192.0.2.10\"]",
            "VIP 192.0.2.10 stands here twice",
            (3, 23),
            "the first is at xlb.toml:3:9",
        ),
    ];
    for &(value, message, place, help) in rows {
        let text = format!("[backend]\ninterfaces = [\"eth0\"]\nvips = {value}\n");
        let row = (text.as_str(), message, place, help);
        expect(&refused(&text), Severity::Error, row);
    }
}
