//! Next hops against a real kernel: veth pairs in network namespaces that belong to one thread
//! each, and go when it does. Needs root, and fails without.

#[path = "netlink/lab.rs"]
mod lab;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lab::{Lab, in_namespace, ip, peer_mac};
use xlb_agent::announce::{AnnounceError, Announcer};
use xlb_agent::netlink::task::PUBLISH_PAUSE;
use xlb_agent::netlink::{AddressOutcome, InterfaceTracker, Unresolved, resolve, spawn, wanted};

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

#[test]
fn a_neighbour_appears_changes_its_mac_fails_and_goes() {
    in_namespace(async |mut lab: Lab| {
        let destination = address("10.0.0.7");
        lab.until("not asked for", |lab| {
            matches!(
                lab.resolve("10.0.0.7"),
                Err(Unresolved::NeighbourUnknown { .. })
            )
        })
        .await;
        for mac in ["02:00:00:00:00:07", "02:00:00:00:00:08"] {
            ip(&format!(
                "neigh replace 10.0.0.7 lladdr {mac} dev xlb0 nud reachable"
            ));
            let last = mac.as_bytes()[16] - b'0';
            lab.until(mac, |lab| {
                lab.resolve("10.0.0.7")
                    .is_ok_and(|hop| hop.mac[5] == last && hop.via == destination)
            })
            .await;
        }
        ip("neigh replace 10.0.0.7 dev xlb0 nud failed");
        lab.until("failed", |lab| {
            matches!(
                lab.resolve("10.0.0.7"),
                Err(Unresolved::NeighbourFailed { .. })
            )
        })
        .await;
        ip("neigh del 10.0.0.7 dev xlb0");
        lab.until("gone", |lab| {
            matches!(
                lab.resolve("10.0.0.7"),
                Err(Unresolved::NeighbourUnknown { .. })
            )
        })
        .await;
    });
}

#[test]
fn a_link_goes_down_comes_up_is_renamed_and_is_made_anew() {
    in_namespace(async |mut lab: Lab| {
        let mut tracker = InterfaceTracker::new(&["xlb0".to_owned()]);
        ip("route add 198.51.100.0/24 via 10.0.0.1");
        ip("neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev xlb0 nud permanent");
        lab.until("resolved", |lab| lab.resolve("198.51.100.1").is_ok())
            .await;
        // The kernel takes the IPv4 routes away without a word.
        ip("link set xlb0 down");
        lab.until("down", |lab| lab.resolve("198.51.100.1").is_err())
            .await;
        lab.until("routes gone", |lab| {
            matches!(lab.resolve("198.51.100.1"), Err(Unresolved::NoRoute(_)))
        })
        .await;
        ip("link set xlb0 name lan0");
        ip("link set lan0 up");
        ip("route add 198.51.100.0/24 via 10.0.0.1");
        ip("neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev lan0 nud permanent");
        lab.until("up again", |lab| lab.resolve("198.51.100.1").is_ok())
            .await;
        let first = tracker.view(&lab.tables());
        assert_eq!(
            first.missing,
            ["xlb0"],
            "a name is looked for once at the start"
        );

        let mut tracker = InterfaceTracker::new(&["lan0".to_owned()]);
        let before = tracker.view(&lab.tables()).present[0].clone();
        assert!(before.up && before.mtu == 1500 && before.mac.is_some());
        ip("link set lan0 down");
        ip("link set lan0 name lan1");
        lab.until("renamed", |lab| lab.tables().link_named("lan1").is_some())
            .await;
        let renamed = tracker.view(&lab.tables()).present[0].clone();
        assert_eq!(
            (renamed.ifindex, renamed.name.as_str()),
            (before.ifindex, "lan1")
        );
        ip("link del lan1");
        lab.until("deleted", |lab| lab.tables().link_named("lan1").is_none())
            .await;
        assert_eq!(tracker.view(&lab.tables()).missing, ["lan0"]);
        ip("link add lan0 type veth peer name other0");
        lab.until("made anew", |lab| lab.tables().link_named("lan0").is_some())
            .await;
        assert_ne!(
            tracker.view(&lab.tables()).present[0].ifindex,
            before.ifindex
        );
    });
}

#[test]
fn a_route_moves_from_one_gateway_to_another() {
    in_namespace(async |mut lab: Lab| {
        for last in 1..=3 {
            ip(&format!(
                "neigh replace 10.0.0.{last} lladdr 02:00:00:00:00:0{last} dev xlb0 nud permanent"
            ));
        }
        let through = |last: u8| {
            move |lab: &Lab| {
                lab.resolve("198.51.100.1")
                    .is_ok_and(|hop| hop.mac[5] == last)
            }
        };
        ip("route add 198.51.100.0/24 via 10.0.0.1");
        lab.until("first", through(1)).await;
        ip("route replace 198.51.100.0/24 via 10.0.0.2");
        lab.until("replaced", through(2)).await;
        ip("route add 198.51.100.0/25 via 10.0.0.3");
        lab.until("more specific", through(3)).await;
        ip("route del 198.51.100.0/25");
        lab.until("back", through(2)).await;
        ip("route replace 198.51.100.0/24 nexthop via 10.0.0.3 nexthop via 10.0.0.1");
        lab.until("multipath", through(3)).await;
        ip("route replace blackhole 198.51.100.0/24");
        lab.until("blackhole", |lab| {
            matches!(
                lab.resolve("198.51.100.1"),
                Err(Unresolved::Discarded { .. })
            )
        })
        .await;
        assert_eq!(lab.resolve("10.0.0.2").map(|hop| hop.mac[5]), Ok(2));
        assert_eq!(
            lab.resolve("10.0.0.254"),
            Err(Unresolved::Local(address("10.0.0.254")))
        );
    });
}

#[test]
fn ipv6_multipath_routes_gain_and_lose_ways() {
    in_namespace(async |mut lab: Lab| {
        for last in 1..=2 {
            ip(&format!(
                "neigh replace fe80::{last} lladdr 02:00:00:00:00:0{last} dev xlb0 nud permanent"
            ));
        }
        let wants =
            |lab: &Lab| wanted(&lab.tables(), address("2001:db8:9::1"), &lab.allowed()).len();
        ip("-6 route add 2001:db8:9::/64 via fe80::1 dev xlb0");
        lab.until("one", |lab| wants(lab) == 1).await;
        ip("-6 route append 2001:db8:9::/64 via fe80::2 dev xlb0");
        lab.until("two", |lab| wants(lab) == 2).await;
        ip("-6 route del 2001:db8:9::/64 via fe80::1 dev xlb0");
        lab.until("the other", |lab| {
            wants(lab) == 1
                && lab
                    .resolve("2001:db8:9::1")
                    .is_ok_and(|hop| hop.mac[5] == 2)
        })
        .await;
    });
}

#[test]
fn gateways_may_be_ipv6_link_local_for_both_families() {
    in_namespace(async |mut lab: Lab| {
        ip("neigh replace fe80::7 lladdr 02:00:00:00:00:07 dev xlb0 nud permanent");
        ip("-6 route add default via fe80::7 dev xlb0");
        ip("route add 198.51.100.0/24 via inet6 fe80::7 dev xlb0");
        for (destination, source) in [
            ("2001:db8:9::1", "2001:db8::254"),
            ("198.51.100.1", "10.0.0.254"),
        ] {
            lab.until(destination, |lab| {
                lab.resolve(destination).is_ok_and(|hop| {
                    hop.mac[5] == 7
                        && hop.via == address("fe80::7")
                        && hop.prefsrc == Some(address(source))
                })
            })
            .await;
        }
    });
}

#[test]
fn wanted_neighbours_are_resolved_and_kept_fresh_in_both_families() {
    in_namespace(async |mut lab: Lab| {
        let neighbours = ["10.0.0.1", "2001:db8::1"];
        let all: BTreeSet<_> = neighbours
            .iter()
            .flat_map(|to| wanted(&lab.tables(), address(to), &lab.allowed()))
            .collect();
        assert_eq!(all.len(), 2);
        for to in neighbours {
            assert!(
                lab.resolve(to).is_err(),
                "{to} is known before anybody asked"
            );
        }
        lab.handle.want(all);
        let mac = peer_mac("peer0");
        for to in neighbours {
            lab.until(to, |lab| lab.resolve(to).is_ok_and(|hop| hop.mac == mac))
                .await;
        }
        // The peer gets another hardware address, as a host that was replaced would, and says
        // nothing. The kernel is told nothing either: only its probing finds out.
        // Its patience before it probes what is in use is cut from five seconds to one.
        lab::set_sysctl("net/ipv4/neigh/xlb0/delay_first_probe_time", "1");
        lab::in_peer("link set peer0 address 02:00:00:00:00:99");
        ip("neigh change 10.0.0.1 dev xlb0 nud stale");
        lab.until("new MAC", |lab| {
            lab.resolve("10.0.0.1").is_ok_and(|hop| hop.mac[5] == 0x99)
        })
        .await;
        let dead = wanted(&lab.tables(), address("10.0.0.77"), &lab.allowed());
        lab.handle.want(dead);
        lab.until("nobody there", |lab| {
            matches!(
                lab.resolve("10.0.0.77"),
                Err(Unresolved::NeighbourFailed { .. })
            )
        })
        .await;
    });
}

#[test]
fn a_flood_of_events_is_few_publications_and_none_is_lost() {
    in_namespace(async |mut lab: Lab| {
        let mut publications = lab.receiver.clone();
        publications.mark_unchanged();
        let flood = tokio::task::spawn_blocking(lab::in_this_namespace(|| {
            lab::add_neighbours(3_000);
        }));
        let started = Instant::now();
        let mut count = 0;
        while !flood.is_finished() {
            let next = tokio::time::timeout(Duration::from_millis(20), publications.changed());
            if next.await.is_ok_and(|changed| changed.is_ok()) {
                publications.mark_unchanged();
                count += 1;
            }
        }
        flood.await.expect("flood");
        let flood_time = started.elapsed();
        lab.until("all of them", |lab| lab.count_added() == 3_000)
            .await;
        let pauses = flood_time.as_nanos() / PUBLISH_PAUSE.as_nanos();
        assert!(
            count <= pauses + 2,
            "{count} publications in {flood_time:?}"
        );
    });
}

#[test]
fn a_vip_is_added_announced_and_removed() {
    in_namespace(async |mut lab: Lab| {
        let ifindex = lab.ifindex();
        let mac = lab
            .tables()
            .link(ifindex)
            .and_then(|link| link.mac)
            .expect("mac");
        lab::in_peer("neigh replace 10.0.0.50 lladdr 02:00:00:00:00:66 dev peer0 nud stale");
        let announcer = Announcer::open().expect("packet socket");
        for vip in ["10.0.0.50", "2001:db8::50"].map(address) {
            let added = lab.handle.add_address(ifindex, vip).await.expect("add");
            assert_eq!(added, AddressOutcome::Done);
            let again = lab
                .handle
                .add_address(ifindex, vip)
                .await
                .expect("add again");
            assert_eq!(again, AddressOutcome::AlreadySo);
            lab.until("local", |lab| {
                resolve(&lab.tables(), vip, &lab.allowed()) == Err(Unresolved::Local(vip))
            })
            .await;
            announcer.announce(ifindex, mac, vip).expect("announce");
        }
        // The IPv6 VIP is the source of no connection, so it stays out of the choice here, too.
        let vip6 = address("2001:db8::50");
        let known = lab
            .tables()
            .addresses()
            .iter()
            .find(|a| a.address == vip6)
            .cloned();
        assert!(known.is_some_and(|a| a.prefix_len == 128 && !a.preferred));
        lab.until("the peer has learned it", |_| {
            lab::in_peer("neigh show 10.0.0.50").contains(&lab::mac_text(mac))
        })
        .await;
        for vip in ["10.0.0.50", "2001:db8::50"].map(address) {
            let removed = lab.handle.del_address(ifindex, vip).await.expect("remove");
            assert_eq!(removed, AddressOutcome::Done);
            let again = lab
                .handle
                .del_address(ifindex, vip)
                .await
                .expect("remove again");
            assert_eq!(again, AddressOutcome::AlreadySo);
        }
    });
}

#[test]
fn lost_notifications_are_made_good_by_reading_again() {
    in_namespace(async |mut lab: Lab| {
        let count = 60_000;
        // Runs in the thread of the netlink task, which so reads nothing until its socket's
        // buffer has long been full.
        lab::add_neighbours(count);
        lab.until("all of them", |lab| lab.count_added() == count)
            .await;
    });
}

#[test]
fn cap_net_admin_suffices_and_announcing_says_what_it_needs() {
    in_namespace(async |mut lab: Lab| {
        let only = caps::CapsHashSet::from([caps::Capability::CAP_NET_ADMIN]);
        caps::set(None, caps::CapSet::Effective, &only).expect("drop capabilities");
        let (handle, receiver) = spawn().expect("netlink");
        lab.handle = handle;
        lab.receiver = receiver;
        let neighbour = (lab.ifindex(), address("10.0.0.1"));
        lab.handle.want(BTreeSet::from([neighbour]));
        lab.until("resolved", |lab| lab.resolve("10.0.0.1").is_ok())
            .await;
        let vip = address("10.0.0.50");
        let added = lab
            .handle
            .add_address(lab.ifindex(), vip)
            .await
            .expect("add");
        assert_eq!(added, AddressOutcome::Done);
        let error = Announcer::open().expect_err("a packet socket without CAP_NET_RAW");
        assert!(matches!(error, AnnounceError::NotPermitted));
    });
}
