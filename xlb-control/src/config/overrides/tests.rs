//! Changes on top of a file: what they make of it, and how they fold into each other.

mod properties;
mod refusals;

use std::{net::SocketAddr, time::Duration};

use super::{Admin, Merged, apply, record};
use crate::{
    api::Change,
    config::{Config, Forward, OnRemove, Protocol, check_invariants},
};

/// Two pools of two backends with a service each, and a pool that no service uses.
fn file() -> Config {
    let text = r#"
        [dataplane]
        interfaces = ["eth0"]
        [[pool]]
        name = "web"
        backends = [{ address = "10.0.1.1", port = 80 }, { address = "10.0.1.2", port = 80, weight = 5 }]
        [[pool]]
        name = "spare"
        backends = [{ address = "10.0.3.1", port = 80 }]
        [[service]]
        name = "front"
        vip = "192.0.2.10"
        port = 443
        forward = "dnat"
        pool = "web"
        [[service]]
        name = "dns"
        vip = "192.0.2.10"
        port = 53
        protocol = "udp"
        forward = "dnat"
        backends = [{ address = "10.0.2.1", port = 53 }, { address = "10.0.2.2", port = 53 }]
    "#;
    Config::parse("xlb.toml", text).unwrap().config
}

fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}

fn add(pool: &str, endpoint: &str, weight: u16) -> Change {
    Change::BackendAdd {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
        weight,
    }
}

fn remove(pool: &str, endpoint: &str) -> Change {
    Change::BackendRemove {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
        connections: None,
    }
}

fn enable(pool: &str, endpoint: &str) -> Change {
    Change::BackendEnable {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
    }
}

fn disable(pool: &str, endpoint: &str) -> Change {
    Change::BackendDisable {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
    }
}

fn drain(pool: &str, endpoint: &str, timeout_s: Option<u64>) -> Change {
    Change::BackendDrain {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
        timeout_s,
    }
}

fn undrain(pool: &str, endpoint: &str) -> Change {
    Change::BackendUndrain {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
    }
}

fn weigh(pool: &str, endpoint: &str, weight: u16) -> Change {
    Change::BackendWeight {
        pool: pool.to_owned(),
        endpoint: at(endpoint),
        weight,
    }
}

fn add_service(name: &str, vip: &str, port: u16, pool: &str) -> Change {
    Change::ServiceAdd {
        name: name.to_owned(),
        vip: vip.parse().unwrap(),
        port: port.into(),
        protocol: Protocol::Tcp,
        forward: Forward::Dnat,
        pool: pool.to_owned(),
    }
}

fn remove_service(name: &str) -> Change {
    Change::ServiceRemove {
        name: name.to_owned(),
    }
}

/// Records changes one after the other, all of which must be taken.
fn recorded(new: impl IntoIterator<Item = Change>) -> Vec<Change> {
    let mut changes = Vec::new();
    for change in new {
        record(&mut changes, change, &file()).unwrap();
    }
    changes
}

fn merged(changes: &[Change]) -> Merged {
    let merged = apply(&file(), changes);
    assert_eq!(merged.stale, []);
    merged
}

fn weights(merged: &Merged, pool: &str) -> Vec<(String, u16)> {
    let backends = &merged.config.pools[pool].backends;
    backends
        .iter()
        .map(|backend| (backend.endpoint().to_string(), backend.weight))
        .collect()
}

#[test]
fn no_change_leaves_the_file() {
    let merged = merged(&[]);
    assert_eq!(merged.config, file());
    assert!(merged.admin.is_empty() && merged.removed.is_empty());
}

#[test]
fn backends_come_and_go() {
    let changes = recorded([add("web", "10.0.1.3:80", 2), remove("web", "10.0.1.1:80")]);
    let merged = merged(&changes);
    let expected = [("10.0.1.2:80".to_owned(), 5), ("10.0.1.3:80".to_owned(), 2)];
    assert_eq!(weights(&merged, "web"), expected);
    let key = ("web".to_owned(), at("10.0.1.1:80"));
    assert_eq!(merged.removed.get(&key), Some(&None));
}

#[test]
fn a_backend_that_is_back_is_not_removed() {
    // Not what `record` would keep, but what a list may hold.
    let changes = [remove("web", "10.0.1.1:80"), add("web", "10.0.1.1:80", 1)];
    let merged = merged(&changes);
    assert!(merged.removed.is_empty(), "{:?}", merged.removed);
    assert_eq!(weights(&merged, "web").len(), 2);
}

#[test]
fn what_is_said_about_connections_is_kept() {
    let change = Change::BackendRemove {
        pool: "web".to_owned(),
        endpoint: at("10.0.1.1:80"),
        connections: Some(OnRemove::Drop),
    };
    let merged = merged(&recorded([change]));
    let key = ("web".to_owned(), at("10.0.1.1:80"));
    assert_eq!(merged.removed.get(&key), Some(&Some(OnRemove::Drop)));
}

#[test]
fn a_pool_may_be_named_by_its_service() {
    let changes = recorded([weigh("front", "10.0.1.1:80", 9)]);
    assert_eq!(changes, [weigh("web", "10.0.1.1:80", 9)]);
}

#[test]
fn admin_states() {
    let changes = recorded([
        drain("web", "10.0.1.1:80", Some(30)),
        drain("dns", "10.0.2.1:53", None),
        disable("web", "10.0.1.2:80"),
    ]);
    let admin = merged(&changes).admin;
    let of = |pool: &str, endpoint| admin.get(&(pool.to_owned(), at(endpoint))).copied();
    let timeout = Some(Duration::from_secs(30));
    assert_eq!(of("web", "10.0.1.1:80"), Some(Admin::Draining { timeout }));
    let timeout = None;
    assert_eq!(of("dns", "10.0.2.1:53"), Some(Admin::Draining { timeout }));
    assert_eq!(of("web", "10.0.1.2:80"), Some(Admin::Disabled));
    assert_eq!(admin.len(), 3);
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let (a, new) = ("10.0.1.1:80", "10.0.1.9:80");
    let nothing: [Vec<Change>; 8] = [
        vec![drain("web", a, None), undrain("web", a)],
        vec![disable("web", a), enable("web", a)],
        vec![weigh("web", a, 7), weigh("web", a, 1)],
        vec![remove("web", a), add("web", a, 1)],
        vec![
            add("web", new, 1),
            weigh("web", new, 3),
            drain("web", new, None),
            remove("web", new),
        ],
        vec![enable("web", a), undrain("web", a)],
        vec![
            add_service("api", "192.0.2.11", 80, "spare"),
            remove_service("api"),
        ],
        vec![
            remove_service("front"),
            add_service("front", "192.0.2.10", 443, "web"),
        ],
    ];
    for changes in nothing {
        assert_eq!(recorded(changes.clone()), [], "{changes:?}");
    }
}

#[test]
fn the_last_word_stands_alone() {
    let a = "10.0.1.1:80";
    let folds = [
        (
            vec![weigh("web", a, 7), weigh("web", a, 8)],
            vec![weigh("web", a, 8)],
        ),
        (
            vec![drain("web", a, None), disable("web", a)],
            vec![disable("web", a)],
        ),
        (
            vec![drain("web", a, None), drain("web", a, Some(5))],
            vec![drain("web", a, Some(5))],
        ),
        (
            vec![weigh("web", a, 7), drain("web", a, None), remove("web", a)],
            vec![remove("web", a)],
        ),
        (
            vec![remove("web", a), add("web", a, 4)],
            vec![weigh("web", a, 4)],
        ),
        (
            vec![add("web", "10.0.1.9:80", 1), weigh("web", "10.0.1.9:80", 6)],
            vec![add("web", "10.0.1.9:80", 6)],
        ),
        (
            vec![
                remove_service("front"),
                add_service("front", "192.0.2.12", 443, "web"),
                remove_service("front"),
            ],
            vec![remove_service("front")],
        ),
    ];
    for (changes, expected) in folds {
        assert_eq!(recorded(changes.clone()), expected, "{changes:?}");
    }
}

#[test]
fn answers_say_what_was_done() {
    let mut changes = Vec::new();
    let mut done = |change| record(&mut changes, change, &file()).unwrap().done;
    assert_eq!(
        done(add("web", "10.0.1.3:80", 2)),
        ["added 10.0.1.3:80 to pool `web` with weight 2"]
    );
    assert_eq!(
        done(weigh("web", "10.0.1.3:80", 4)),
        ["weight of 10.0.1.3:80 in pool `web` is 4"]
    );
    assert_eq!(
        done(drain("front", "10.0.1.3:80", Some(9))),
        ["draining 10.0.1.3:80 in pool `web` for at most 9 s"]
    );
    assert_eq!(
        done(undrain("web", "10.0.1.3:80")),
        ["ended the drain of 10.0.1.3:80 in pool `web`"]
    );
    assert_eq!(
        done(undrain("web", "10.0.1.3:80")),
        ["backend 10.0.1.3:80 of pool `web` was not draining"]
    );
    assert_eq!(
        done(disable("web", "10.0.1.3:80")),
        ["disabled 10.0.1.3:80 in pool `web`"]
    );
    assert_eq!(
        done(enable("web", "10.0.1.3:80")),
        ["enabled 10.0.1.3:80 in pool `web`"]
    );
    assert_eq!(
        done(enable("web", "10.0.1.3:80")),
        ["backend 10.0.1.3:80 of pool `web` was enabled already"]
    );
    assert_eq!(
        done(remove("web", "10.0.1.3:80")),
        ["removed 10.0.1.3:80 from pool `web`"]
    );
    assert_eq!(
        done(add_service("api", "192.0.2.11", 80, "spare")),
        ["added service `api` in front of pool `spare`"]
    );
    assert_eq!(done(remove_service("api")), ["removed service `api`"]);
}

#[test]
fn a_pool_that_is_left_empty_warns() {
    let mut changes = Vec::new();
    let answer = record(&mut changes, weigh("spare", "10.0.3.1:80", 0), &file()).unwrap();
    let warning = "pool `spare` has no backend with a weight left: it gets no new connections";
    assert_eq!(answer.warnings, [warning]);
    let answer = record(&mut changes, weigh("web", "10.0.1.1:80", 0), &file()).unwrap();
    assert_eq!(answer.warnings, [""; 0]);
}

#[test]
fn changes_that_the_file_has_overtaken_are_stale() {
    let changes = [
        weigh("web", "10.0.9.9:80", 1),
        drain("gone", "10.0.1.1:80", None),
        add("web", "10.0.1.1:80", 3),
        remove_service("gone"),
        add_service("front", "192.0.2.77", 80, "web"),
        // At odds with `front`; what comes behind it still holds.
        add_service("api", "192.0.2.10", 443, "spare"),
        weigh("web", "10.0.1.1:80", 3),
    ];
    let merged = apply(&file(), &changes);
    let stale: Vec<usize> = merged.stale.iter().map(|(index, _)| *index).collect();
    assert_eq!(stale, [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        merged.stale[2].1,
        "backend 10.0.1.1:80 is in pool `web` already"
    );
    assert_eq!(
        merged.stale[5].1,
        "services `api` and `front` both have the VIP 192.0.2.10:443/tcp; give one of them another \
         VIP, port or protocol"
    );
    assert_eq!(weights(&merged, "web")[0].1, 3);
    assert_eq!(check_invariants(&merged.config), [""; 0]);
}
