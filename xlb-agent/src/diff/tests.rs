mod host;

use std::net::IpAddr;

use xlb_common::maps::protocol;

use self::host::{DNS, HEAD, Host, KEY, WEB, config, pool, service};
use super::*;
use crate::ring;

/// Targets that differ between two rings that are built from nothing.
fn rings_differ(before: &[(u8, u16)], after: &[(u8, u16)]) -> u32 {
    let ring = |backends: &[(u8, u16)]| {
        let members: Vec<ring::Member> = backends
            .iter()
            .map(|&(last, weight)| ring::Member {
                identity: SocketAddr::from(([10, 0, 1, last], 8080)),
                weight: weight.into(),
                number: last.into(),
            })
            .collect();
        let mut out = vec![0; 1021];
        ring::build(KEY, &members, &mut out);
        out
    };
    let (before, after) = (ring(before), ring(after));
    let differs = before.iter().zip(&after).filter(|(a, b)| a != b);
    differs.count() as u32
}

const THREE: [(u8, u16); 3] = [(1, 1), (2, 1), (3, 1)];
const FOUR: [(u8, u16); 4] = [(1, 1), (2, 1), (3, 1), (4, 1)];

fn web(backends: &[(u8, u16)], more: &str) -> Vec<String> {
    vec![pool("web", more, backends), service("web", WEB)]
}

#[test]
fn the_same_again_changes_nothing() {
    let host = Host::new(&web(&THREE, ""));
    let diff = host.only(&web(&THREE, ""));
    assert_eq!(diff.change, DiffKind::Unchanged);
    assert_eq!(diff.changes, Vec::<String>::new());
    assert_eq!((diff.slots.ring, diff.slots.moving), (1021, 0));
    assert!(diff.flows_cut.is_none());
    // The order in the file says nothing.
    let reversed = [(3, 1), (1, 1), (2, 1)];
    assert_eq!(host.only(&web(&reversed, "")), diff);
}

#[test]
fn a_backend_that_is_added_moves_its_share_and_cuts_nothing() {
    let diff = Host::new(&web(&THREE, "")).only(&web(&FOUR, ""));
    assert_eq!(diff.change, DiffKind::Changed);
    assert_eq!(diff.changes, ["backend 10.0.1.4:8080 is added, weight 1"]);
    assert_eq!(diff.slots.moving, rings_differ(&THREE, &FOUR));
    assert!((255..=256).contains(&diff.slots.ideal), "{diff:?}");
    assert!(diff.slots.moving >= diff.slots.ideal);
    assert!(diff.flows_cut.is_none());
}

#[test]
fn a_weight_that_changes_moves_what_it_must() {
    let heavier = [(1, 2), (2, 1), (3, 1)];
    let diff = Host::new(&web(&THREE, "")).only(&web(&heavier, ""));
    assert_eq!(diff.changes, ["backend 10.0.1.1:8080: weight 1 -> 2"]);
    assert_eq!(diff.slots.moving, rings_differ(&THREE, &heavier));
    // From a third to a half.
    assert!((170..=171).contains(&diff.slots.ideal), "{diff:?}");
}

#[test]
fn a_backend_that_is_removed_is_drained_and_cuts_nothing() {
    let diff = Host::new(&web(&FOUR, "")).only(&web(&THREE, ""));
    assert_eq!(
        diff.changes,
        [
            "backend 10.0.1.4:8080 is removed: keeps its connections until they end, and gets no \
             new ones"
        ]
    );
    assert_eq!(diff.slots.moving, rings_differ(&FOUR, &THREE));
    assert!(diff.flows_cut.is_none());
}

#[test]
fn a_backend_that_is_dropped_cuts_its_flows_and_only_its() {
    let drop = "on_remove = \"drop\"";
    let both = |backends: &[(u8, u16)]| {
        let mut parts = web(backends, drop);
        parts.push(service("dns", DNS));
        parts
    };
    let mut host = Host::new(&both(&FOUR));
    let live = &host.pools["web"];
    let (gone, stays) = (live.number(4), live.number(1));
    let own = live.words.iter().filter(|word| word.stable() == gone);
    let own = own.count() as u32;
    let vip = IpAddr::from([192, 0, 2, 10]);
    let key = |port: u16, protocol| ServiceKey {
        at: xlb_control::config::At {
            vip: vip.into(),
            ports: port.into(),
        },
        protocol,
    };
    let (web, dns) = (key(80, protocol::TCP), key(53, protocol::UDP));
    host.recorded = BTreeMap::from([((web, gone), 12), ((web, stays), 5), ((dns, gone), 3)]);
    let (services, _) = host.diff(&both(&THREE));
    // Of the service of datagrams nothing is recorded, and all slots that move are cut.
    let moved = rings_differ(&FOUR, &THREE);
    for (diff, (datagrams, own, recorded)) in
        services.iter().zip([(true, moved, 0), (false, own, 12)])
    {
        assert_eq!(
            diff.flows_cut,
            FlowsCut {
                datagrams,
                all: None,
                backends: vec![SocketAddr::from(([10, 0, 1, 4], 8080))],
                slots: own,
                recorded,
            },
            "{}",
            diff.service
        );
        assert!(diff.changes[0].ends_with("which cuts them"), "{diff:?}");
    }
    let then = config(&both(&THREE));
    let outlooks = host.outlooks(&then);
    assert!(
        Facts {
            now: &host.merged,
            then: &then,
            outlooks: &outlooks
        }
        .cuts()
    );
}

#[test]
fn slots_that_move_already_count_once_more_only_if_they_move_on() {
    let mut host = Host::new(&web(&THREE, ""));
    host.apply(config(&web(&FOUR, "")));
    assert_eq!(host.only(&web(&FOUR, "")).change, DiffKind::Unchanged);
    let back = host.only(&web(&THREE, ""));
    assert_eq!(back.slots.moving, rings_differ(&FOUR, &THREE));
    assert!(back.flows_cut.is_none());
}

#[test]
fn what_is_not_covered_moves_every_connection() {
    let parts = |pools: &str, service_more: &str| {
        vec![
            pools.to_owned(),
            pool("other", "", &[(1, 1)]),
            service("web", service_more),
        ]
    };
    let plain = pool("web", "", &THREE);
    let host = Host::new(&parts(&plain, WEB));
    let cases = [
        (
            parts(&plain.replace("1021", "2039"), WEB),
            "another size of the ring",
            2039,
        ),
        (
            parts(&plain, &WEB.replace("\"web\"", "\"other\"")),
            "another pool, other instead of web",
            1021,
        ),
        (
            parts(&plain, &format!("{WEB}\naffinity = \"client-ip\"")),
            "another affinity",
            1021,
        ),
        (
            parts(&plain, &WEB.replace("ipip", "dnat")),
            "dnat instead of ipip",
            1021,
        ),
    ];
    for (then, why, ring) in cases {
        let (services, _) = host.diff(&then);
        let diff = &services[0];
        let all = diff.flows_cut.all.as_deref().unwrap_or_default();
        assert!(all.contains(why), "{why}: {diff:?}");
        assert_eq!(diff.change, DiffKind::Changed);
        assert_eq!((diff.slots.ring, diff.slots.moving), (ring, ring), "{why}");
        assert_eq!(diff.changes.len(), 1, "{diff:?}");
    }
    let (services, _) = host.diff(&parts(&plain, &WEB.replace("ipip", "l2-dsr")));
    assert_eq!(services[0].changes, ["forward: ipip -> l2-dsr"]);
    assert!(services[0].flows_cut.is_none());
}

#[test]
fn a_service_is_known_to_its_flows_by_its_address() {
    let parts = |name: &str, more: &str| vec![pool("web", "", &THREE), service(name, more)];
    let host = Host::new(&parts("web", WEB));
    let (services, pools) = host.diff(&parts("www", WEB));
    let names: Vec<(&str, DiffKind)> = services
        .iter()
        .map(|diff| (diff.service.as_str(), diff.change))
        .collect();
    assert_eq!(
        names,
        [("web", DiffKind::Removed), ("www", DiffKind::Added)]
    );
    assert!(services.iter().all(|diff| diff.flows_cut.is_none()));
    assert_eq!(pools, []);

    let moved = host.only(&parts("web", &WEB.replace("80", "81")));
    assert_eq!(
        moved.changes,
        ["address: 192.0.2.10:80/tcp -> 192.0.2.10:81/tcp"]
    );
    let all = moved.flows_cut.all.unwrap();
    assert_eq!(all, "no service answers at 192.0.2.10:80/tcp any more");

    let (services, pools) = host.diff(&[pool("web", "", &THREE)]);
    assert_eq!(services[0].change, DiffKind::Removed);
    assert!(services[0].flows_cut.all.is_some());
    assert_eq!(pools, [], "its pool stays as it is");
}

#[test]
fn pools_without_a_service_are_shown_when_they_change() {
    let spare = |weight| {
        vec![pool("web", "", &THREE), service("web", WEB), {
            pool("spare", "", &[(9, weight)])
        }]
    };
    let host = Host::new(&spare(1));
    let (services, pools) = host.diff(&spare(2));
    assert_eq!(services[0].change, DiffKind::Unchanged);
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].changes, ["backend 10.0.1.9:8080: weight 1 -> 2"]);
    assert_eq!(pools[0].slots.moving, 0);
    let (_, gone) = host.diff(&web(&THREE, ""));
    assert_eq!(gone[0].change, DiffKind::Removed);
    let (_, same) = host.diff(&spare(1));
    assert_eq!(same, []);
}

#[test]
fn the_hash_key_is_not_shown() {
    let with = |line: &str| {
        let text = format!("{HEAD}{line}");
        Config::parse("test.toml", &text).unwrap().config.dataplane
    };
    let lines = host_lines(
        &with(""),
        &with("hash_key = \"00112233445566778899aabbccddeeff\"\nmax_flows = 2048"),
    );
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("all connections move") && !lines[0].contains("0011"));
    assert_eq!(lines[1], "max_flows: 131072 -> 2048");
    assert_eq!(host_lines(&with(""), &with("")), Vec::<String>::new());
}

#[test]
fn datagrams_move_with_their_slots_unless_they_are_tracked() {
    let parts = |more: &str, backends: &[(u8, u16)]| {
        vec![
            pool("web", "", backends),
            service("dns", &format!("{DNS}\n{more}")),
        ]
    };
    let stateless = Host::new(&parts("", &THREE));
    let cut = stateless.only(&parts("", &FOUR)).flows_cut;
    assert!(cut.datagrams && cut.all.is_none());
    assert_eq!(cut.slots, rings_differ(&THREE, &FOUR));
    assert!(stateless.only(&parts("", &THREE)).flows_cut.is_none());
    let tracked = "udp = \"tracked\"";
    let host = Host::new(&parts(tracked, &THREE));
    assert!(host.only(&parts(tracked, &FOUR)).flows_cut.is_none());
}

#[test]
fn a_slow_start_is_told_of() {
    let slow = "slow_start = \"30s\"";
    let diff = Host::new(&web(&THREE, slow)).only(&web(&FOUR, slow));
    assert_eq!(
        diff.changes,
        ["backend 10.0.1.4:8080 is added, weight 1, and comes to its share within 30s"]
    );
}
