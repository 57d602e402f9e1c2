//! Which interface a VIP is put on, and what has to be done to have it there.

use std::{collections::BTreeSet, net::IpAddr};

use crate::netlink::{Interface, Tables, model::Address, tables::mask};

/// An address on an interface, by the kernel's number of that.
pub(super) type Place = (u32, IpAddr);

/// The places of VIPs, those whose interface is missing left out: the interface whose subnet holds
/// the VIP; else the one that it was put on before, since a subnet may be gone for as long as its
/// link is down; else the first.
pub(super) fn places(
    vips: &BTreeSet<IpAddr>,
    interfaces: &[Interface],
    tables: &Tables,
    own: &BTreeSet<Place>,
) -> BTreeSet<Place> {
    let indexes: Vec<u32> = interfaces
        .iter()
        .map(|interface| interface.ifindex)
        .collect();
    let subnets: Vec<&Address> = tables
        .addresses()
        .iter()
        .filter(|own| own.prefix_len < host_bits(own.address) && indexes.contains(&own.ifindex))
        .collect();
    let place = |vip: &IpAddr| {
        let on_link = subnets
            .iter()
            .filter(|own| holds(own, *vip))
            .max_by_key(|own| own.prefix_len)
            .map(|own| own.ifindex);
        let before = || {
            let mut indexes = indexes.iter().copied();
            indexes.find(|index| own.contains(&(*index, *vip)))
        };
        let index = on_link.or_else(before).or_else(|| indexes.first().copied());
        index.map(|index| (index, *vip))
    };
    vips.iter().filter_map(place).collect()
}

const fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn holds(own: &Address, vip: IpAddr) -> bool {
    own.address.is_ipv6() == vip.is_ipv6()
        && mask(own.address, own.prefix_len) == mask(vip, own.prefix_len)
}

/// The kernel's number of the loopback interface (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// The places of VIPs that nobody on a link is told of.
pub(super) fn quiet_places(vips: &BTreeSet<IpAddr>) -> impl Iterator<Item = Place> {
    vips.iter().map(|&vip| (LOOPBACK, vip))
}

/// What has to be done to have VIPs where they should be. What goes is done first, so that a VIP that
/// moves is never on two interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Addresses that the agent added and that are not wanted any more.
    pub(super) remove: Vec<Place>,
    /// The same, whose interface is gone, and they with it.
    pub(super) forget: Vec<Place>,
    /// Addresses that are not there.
    pub(super) add: Vec<Place>,
}

/// The way from the addresses that there are to `desired`; `own` are those that the agent added.
pub(super) fn plan(desired: &BTreeSet<Place>, own: &BTreeSet<Place>, tables: &Tables) -> Plan {
    let there: BTreeSet<Place> = tables
        .addresses()
        .iter()
        .map(|address| (address.ifindex, address.address))
        .collect();
    let (remove, forget) = own
        .difference(desired)
        .partition(|(ifindex, _)| tables.link(*ifindex).is_some());
    Plan {
        remove,
        forget,
        add: desired.difference(&there).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::fixtures::{address, ip, link, tables};

    /// Two interfaces, 2 and 3, with a subnet of each family each; another, 4, that is not xlb's.
    fn host() -> Tables {
        let mut changes: Vec<_> = [2, 3, 4].map(|index| link(index, "eth", true)).into();
        for (ifindex, text) in [
            (2, "10.0.0.1/24"),
            (2, "2001:db8:2::1/64"),
            (3, "10.0.0.1/8"),
            (3, "10.3.0.1/24"),
            (3, "192.0.2.7/32"),
            (3, "2001:db8:3::1/64"),
            (4, "198.51.100.1/24"),
        ] {
            changes.push(address(ifindex, text));
        }
        tables(changes)
    }

    fn interfaces() -> Vec<Interface> {
        [2, 3]
            .map(|ifindex| Interface {
                configured: format!("eth{ifindex}"),
                name: format!("eth{ifindex}"),
                ifindex,
                mac: Some([2; 6]),
                up: true,
                mtu: 1500,
                vlan: None,
            })
            .into()
    }

    fn place_of(vip: &str, own: &[Place]) -> Option<u32> {
        let own = own.iter().copied().collect();
        let places = places(&BTreeSet::from([ip(vip)]), &interfaces(), &host(), &own);
        places.first().map(|(ifindex, _)| *ifindex)
    }

    #[test]
    fn a_vip_goes_to_the_interface_whose_subnet_holds_it() {
        for (vip, ifindex) in [
            ("10.0.0.100", 2),
            ("10.3.0.100", 3),
            ("10.9.0.100", 3),
            ("2001:db8:2::100", 2),
            ("2001:db8:3::100", 3),
        ] {
            assert_eq!(place_of(vip, &[]), Some(ifindex), "{vip}");
            // Where it was before does not count then.
            assert_eq!(place_of(vip, &[(5 - ifindex, ip(vip))]), Some(ifindex));
        }
    }

    #[test]
    fn a_vip_of_no_subnet_stays_where_it_is_or_goes_to_the_first_interface() {
        for vip in ["192.0.2.7", "198.51.100.7", "2001:db8:4::100"] {
            assert_eq!(place_of(vip, &[]), Some(2), "{vip}");
            assert_eq!(place_of(vip, &[(3, ip(vip))]), Some(3), "{vip}");
            assert_eq!(place_of(vip, &[(4, ip(vip))]), Some(2), "{vip}");
        }
        let vips = BTreeSet::from([ip("192.0.2.7")]);
        let none = places(&vips, &[], &host(), &BTreeSet::new());
        assert_eq!(none, BTreeSet::new());
    }

    #[test]
    fn addresses_are_added_where_missing_and_only_own_ones_removed() {
        let place = |ifindex, text| (ifindex, ip(text));
        let desired = BTreeSet::from([
            place(2, "10.0.0.100"),
            // There already, whoever added it and with whatever prefix.
            place(3, "192.0.2.7"),
            place(2, "10.0.0.1"),
        ]);
        let own = BTreeSet::from([
            place(3, "192.0.2.7"),
            place(3, "10.3.0.1"),
            place(9, "10.3.0.2"),
        ]);
        let expected = Plan {
            remove: vec![place(3, "10.3.0.1")],
            forget: vec![place(9, "10.3.0.2")],
            add: vec![place(2, "10.0.0.100")],
        };
        assert_eq!(plan(&desired, &own, &host()), expected);
        let nothing = plan(&BTreeSet::new(), &BTreeSet::new(), &host());
        assert_eq!(nothing, Plan::default());
    }
}
