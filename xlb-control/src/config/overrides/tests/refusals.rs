//! What is refused, and in which words.

use super::{
    add, add_service, disable, drain, enable, file, recorded, remove, remove_service, undrain,
    weigh,
};
use crate::{
    api::Change,
    config::overrides::{apply, record, record_on},
};

/// What is refused after which changes, and why.
#[test]
fn refusals() {
    let rows: Vec<(Vec<Change>, Change, &str)> = vec![
        (
            vec![],
            disable("wbe", "10.0.1.1:80"),
            "there is no pool or service `wbe`; did you mean `web`?",
        ),
        (
            vec![],
            disable("fornt", "10.0.1.1:80"),
            "there is no pool or service `fornt`; did you mean service `front`?",
        ),
        (
            vec![],
            disable("mail", "10.0.1.1:80"),
            "there is no pool or service `mail`; use one of `dns`, `spare`, `web`",
        ),
        (
            vec![],
            disable("web", "10.0.1.1:81"),
            "pool `web` has no backend 10.0.1.1:81; did you mean `10.0.1.1:80`?",
        ),
        (
            vec![],
            weigh("spare", "192.168.77.9:9000", 1),
            "pool `spare` has no backend 192.168.77.9:9000; use one of `10.0.3.1:80`",
        ),
        (
            vec![remove("spare", "10.0.3.1:80")],
            undrain("spare", "10.0.3.1:80"),
            "pool `spare` has no backend 10.0.3.1:80; it has none",
        ),
        (
            vec![],
            add("web", "10.0.1.1:80", 1),
            "backend 10.0.1.1:80 is in pool `web` already; `xlb-agent backend weight` changes its weight",
        ),
        (
            vec![],
            add("web", "127.0.0.1:80", 1),
            "127.0.0.1 can't be a backend's address: it is a loopback address; use the unicast address of a host",
        ),
        (
            vec![],
            add("web", "[2001:db8::1]:80", 1),
            "backend 2001:db8::1 is IPv6, and the VIP 192.0.2.10 of service `front` is IPv4: `dnat` needs both in one family; make a pool for each family, and a service for each",
        ),
        (
            vec![],
            add("web", "192.0.2.10:80", 1),
            "backend 192.0.2.10:80 has the VIP of service `front` as its address: packets would come back to the balancer; write the address that the backend has for itself",
        ),
        (
            vec![disable("web", "10.0.1.1:80")],
            drain("web", "10.0.1.1:80", None),
            "backend 10.0.1.1:80 of pool `web` is disabled, and has no connections to keep; enable it first with `xlb-agent backend enable`",
        ),
        (
            vec![disable("web", "10.0.1.1:80")],
            undrain("web", "10.0.1.1:80"),
            "backend 10.0.1.1:80 of pool `web` is disabled, not draining; use `xlb-agent backend enable`",
        ),
        (
            vec![drain("web", "10.0.1.1:80", None)],
            enable("web", "10.0.1.1:80"),
            "backend 10.0.1.1:80 of pool `web` is draining, not disabled; use `xlb-agent backend undrain`",
        ),
        (
            vec![],
            remove_service("frnt"),
            "there is no service `frnt`; did you mean `front`?",
        ),
        (
            vec![],
            add_service("front", "192.0.2.11", 80, "web"),
            "service `front` exists already; choose another name",
        ),
        (
            vec![],
            add_service("a b", "192.0.2.11", 80, "web"),
            "a name can't contain ` `; use 1 to 63 of A-Z, a-z, 0-9, `.`, `_` and `-`",
        ),
        (
            vec![],
            add_service("api", "224.0.0.1", 80, "web"),
            "224.0.0.1 can't be a VIP: it is a multicast address; use the unicast address of a host",
        ),
        (
            vec![],
            add_service("api", "192.0.2.11", 0, "web"),
            "the port is 0; it may be from 1 to 65,535",
        ),
        (
            vec![],
            add_service("api", "192.0.2.11", 80, "wbe"),
            "there is no pool or service `wbe`; did you mean `web`?",
        ),
        (
            vec![],
            add_service("api", "192.0.2.10", 443, "spare"),
            "services `api` and `front` both have the VIP 192.0.2.10:443/tcp; give one of them another VIP, port or protocol",
        ),
        (
            vec![],
            add_service("api", "192.0.2.11", 80, "web"),
            "services `api` and `front` both reach 10.0.1.1:80/tcp (and 1 more) by `dnat`: its replies would not tell which service they belong to; give each service backends, or ports of the backends, of its own; or use `full-nat`, which tells replies apart by port",
        ),
        // What makes the file's own backend come back is at odds with what was added meanwhile.
        (
            vec![
                remove("web", "10.0.1.1:80"),
                add_service("api", "192.0.2.11", 80, "spare"),
                add("spare", "10.0.1.1:80", 1),
            ],
            add("web", "10.0.1.1:80", 1),
            "services `api` and `front` both reach 10.0.1.1:80/tcp by `dnat`: its replies would not tell which service they belong to; give each service backends, or ports of the backends, of its own; or use `full-nat`, which tells replies apart by port",
        ),
    ];
    for (earlier, new, reason) in rows {
        let mut changes = recorded(earlier);
        let before = changes.clone();
        let error = record(&mut changes, new.clone(), &file()).unwrap_err();
        assert_eq!(error, reason, "{new:?}");
        assert_eq!(changes, before, "a change that is refused changes nothing");
        let mut merged = apply(&file(), &changes);
        let was = merged.clone();
        let error = record_on(&mut changes, new.clone(), &file(), &mut merged).unwrap_err();
        assert_eq!(error, reason, "{new:?}, on a merger that is known");
        assert_eq!((&changes, &merged), (&before, &was));
    }
}
