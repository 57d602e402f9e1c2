//! Tables for the unit tests, written as the kernel would print them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::model::{
    Address, Change, Hop, Link, Neighbour, NeighbourState, Route, RouteKind, Table, Vlan,
};
use super::tables::Tables;

/// A MAC address that ends in `last`.
pub(super) fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub(super) fn prefix(text: &str) -> (IpAddr, u8) {
    let (address, len) = text.split_once('/').expect("prefix");
    (ip(address), len.parse().expect("length"))
}

pub(crate) fn link(ifindex: u32, name: &str, up: bool) -> Change {
    let last = u8::try_from(ifindex).expect("small");
    Change::Link(Link {
        ifindex,
        name: name.to_owned(),
        mac: Some(mac(last)),
        up,
        mtu: 1500,
        vlan: None,
    })
}

/// A VLAN device, up.
pub(crate) fn vlan(ifindex: u32, name: &str, parent: u32, id: u16) -> Change {
    let Change::Link(mut device) = link(ifindex, name, true) else {
        unreachable!("it is a link");
    };
    device.vlan = Some(Vlan {
        parent,
        ether_type: 0x8100,
        id,
    });
    Change::Link(device)
}

pub(crate) fn address(ifindex: u32, text: &str) -> Change {
    let (address, prefix_len) = prefix(text);
    Change::Address(Address {
        ifindex,
        address,
        prefix_len,
        preferred: true,
    })
}

pub(super) fn neighbour(ifindex: u32, address: &str, last: u8, state: NeighbourState) -> Change {
    Change::Neighbour(
        (ifindex, ip(address)),
        Neighbour {
            mac: Some(mac(last)),
            state,
        },
    )
}

pub(super) fn hop(ifindex: u32, gateway: Option<&str>) -> Hop {
    Hop {
        ifindex,
        gateway: gateway.map(ip),
        dead: false,
        encapsulates: false,
    }
}

/// A unicast route of the main table.
pub(super) fn unicast(to: &str, metric: u32, hops: Vec<Hop>) -> Route {
    let (prefix, prefix_len) = prefix(to);
    let (table, kind) = (Table::Main, RouteKind::Unicast);
    Route {
        table,
        prefix,
        prefix_len,
        metric,
        kind,
        prefsrc: None,
        hops,
    }
}

pub(super) fn add(route: Route) -> Change {
    Change::Route {
        route,
        replaces: false,
        appends: true,
    }
}

/// A route of the main table that does something else than sending on.
pub(super) fn special(to: &str, kind: RouteKind) -> Change {
    add(Route {
        kind,
        ..unicast(to, 0, vec![])
    })
}

pub(crate) fn tables(changes: impl IntoIterator<Item = Change>) -> Tables {
    let mut tables = Tables::default();
    tables.complete = true;
    for change in changes {
        tables.apply(change);
    }
    tables
}

/// eth0 (2) and eth1 (3) are xlb's; mgmt (4) is not.
pub(super) fn allowed() -> BTreeSet<u32> {
    BTreeSet::from([2, 3])
}

/// A host with an on-link network on eth0, a default gateway there, another network behind mgmt,
/// and one neighbour, 10.0.0.7.
pub(super) fn host() -> Tables {
    let local = Route {
        table: Table::Local,
        kind: RouteKind::Local,
        ..unicast("10.0.0.2/32", 0, vec![hop(2, None)])
    };
    tables([
        link(2, "eth0", true),
        link(3, "eth1", true),
        link(4, "mgmt", true),
        address(2, "10.0.0.2/24"),
        add(local),
        add(unicast("10.0.0.0/24", 0, vec![hop(2, None)])),
        add(unicast("0.0.0.0/0", 100, vec![hop(2, Some("10.0.0.1"))])),
        add(unicast("10.9.0.0/16", 0, vec![hop(4, Some("172.16.0.1"))])),
        neighbour(2, "10.0.0.1", 1, NeighbourState::Stale),
        neighbour(2, "10.0.0.7", 7, NeighbourState::Reachable),
    ])
}
