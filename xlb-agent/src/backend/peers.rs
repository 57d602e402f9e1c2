//! The ways to other backends. A peer that is named by its whole address is known from the start;
//! one of a wider prefix when a packet was to be passed on to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use xlb_common::{decap::Hop, limits::MAX_ALTERNATIVES};

use crate::netlink::{self, InterfaceView, NeighbourKey, Tables};

/// Peers that packets are passed on to, or will be.
#[derive(Debug, Default)]
pub(super) struct Peers {
    prefixes: Vec<IpNet>,
    known: BTreeSet<IpAddr>,
}

impl Peers {
    /// Takes the prefixes of a configuration, and forgets who is in none of them.
    pub(super) fn set_prefixes(&mut self, prefixes: &[IpNet]) {
        prefixes.clone_into(&mut self.prefixes);
        self.known
            .retain(|address| prefixes.iter().any(|prefix| prefix.contains(address)));
        let whole = prefixes
            .iter()
            .filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len())
            .map(IpNet::addr);
        self.miss(whole);
    }

    /// Takes in whom the way was not known to.
    pub(super) fn miss(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            if !self.prefixes.iter().any(|prefix| prefix.contains(&address)) {
                continue;
            }
            let of_family = self.known.iter();
            let many = of_family.filter(|it| it.is_ipv4() == address.is_ipv4());
            if many.count() < MAX_ALTERNATIVES as usize {
                self.known.insert(address);
            }
        }
    }

    /// The neighbours that are to be kept resolved.
    pub(super) fn wanted(&self, tables: &Tables, view: &InterfaceView) -> BTreeSet<NeighbourKey> {
        let allowed = view.indexes();
        self.known
            .iter()
            .flat_map(|&address| netlink::wanted(tables, address, &allowed))
            .collect()
    }

    /// The ways as they are now.
    pub(super) fn hops(&self, tables: &Tables, view: &InterfaceView) -> BTreeMap<IpAddr, Hop> {
        let allowed = view.indexes();
        let hop = |address: IpAddr| {
            let next = netlink::resolve(tables, address, &allowed).ok()?;
            let source = view
                .present
                .iter()
                .find(|interface| interface.ifindex == next.ifindex)?
                .mac?;
            Some((address, Hop::new(next.mac, source, next.ifindex)))
        };
        self.known.iter().filter_map(|&it| hop(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|it| it.parse().expect(it)).collect()
    }

    fn peers(prefixes: &[&str]) -> Peers {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|it| it.parse().expect(it)).collect();
        let mut peers = Peers::default();
        peers.set_prefixes(&prefixes);
        peers
    }

    #[test]
    fn whole_addresses_are_known_at_once_and_others_when_they_are_missed() {
        let mut peers = peers(&["10.0.1.7/32", "10.0.2.0/24", "fd00::7/128"]);
        assert_eq!(peers.known, addresses(&["10.0.1.7", "fd00::7"]));
        peers.miss(addresses(&["10.0.2.9", "10.0.3.9"]));
        assert_eq!(peers.known, addresses(&["10.0.1.7", "10.0.2.9", "fd00::7"]));
        peers.set_prefixes(&["10.0.2.0/24".parse().expect("a prefix")]);
        assert_eq!(peers.known, addresses(&["10.0.2.9"]));
    }

    #[test]
    fn no_more_are_known_than_the_program_has_room_for() {
        let mut peers = peers(&["10.0.0.0/8", "fd00::7/128"]);
        let many =
            (0..=MAX_ALTERNATIVES).map(|i| std::net::Ipv4Addr::from_bits(0x0a00_0001 + i).into());
        peers.miss(many);
        assert_eq!(peers.known.len(), MAX_ALTERNATIVES as usize + 1);
    }
}
