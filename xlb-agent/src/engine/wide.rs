//! The tables by which services of several ports or addresses are found: see [`xlb_common::wide`].
//!
//! What stands in the maps is read back each time, so that nothing has to be adopted after a crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, forward},
    wide::{self, BITS_BEFORE_ADDRESS, BITS_BEFORE_PORT, direction},
};
use xlb_control::config::{
    At, Ports, Vip,
    spread::{self, Span},
};

use super::{Engine, EngineError};
use crate::dataplane::{Maps, RouteKey, rcu_grace_period};

/// Replies of a backend that keep the port that they come from: its address, the ports, the protocol
/// number, where they lead, and whether the backend leaves its pool.
pub(super) type WideReply = (IpAddr, Ports, u8, EndpointTarget, bool);

/// What the ports of a table lead to, by the key in `PORTS` less the table's number.
type Content = BTreeMap<(u32, u64), u64>;

/// Tables that are wanted, by direction and prefix.
type Wanted = BTreeMap<(u32, Vip), Content>;

/// What is left to do when exact endpoints stand as well.
pub(super) struct Rest {
    wanted: BTreeSet<(u32, Vip)>,
    unused: Vec<RouteKey<8>>,
}

impl Engine {
    /// Whether anything is found by these tables, or was.
    pub(super) fn has_wide(&self) -> Result<bool, EngineError> {
        if self.services.values().any(|(_, entry)| is_wide(entry)) {
            return Ok(true);
        }
        let maps = self.dataplane.maps();
        let count = || Ok(maps.wide4.count()? + maps.wide6.count()? + maps.ports.count()?);
        Ok(count().map_err(EngineError::Wide)? > 0)
    }

    /// Has everything be found that is wanted; what is not wanted any more goes in [`Self::drop_wide`].
    pub(super) fn add_wide(&mut self) -> Result<Option<Rest>, EngineError> {
        if !self.has_wide()? {
            return Ok(None);
        }
        let wanted = self.wanted_tables();
        let rest = add(self.dataplane.maps_mut(), &wanted).map_err(EngineError::Wide)?;
        Ok(Some(rest))
    }

    /// Removes what nobody wants.
    pub(super) fn drop_wide(&mut self, rest: &Rest) -> Result<(), EngineError> {
        drop_unwanted(self.dataplane.maps_mut(), rest).map_err(EngineError::Wide)
    }

    /// Both in one, where exact endpoints have nothing to do with it.
    pub(super) fn sync_wide(&mut self) -> Result<(), EngineError> {
        match self.add_wide()? {
            Some(rest) => self.drop_wide(&rest),
            None => Ok(()),
        }
    }

    fn wanted_tables(&self) -> Wanted {
        let services = self
            .services
            .iter()
            .filter(|(_, (_, entry))| is_wide(entry));
        let vips: Vec<Span<EndpointTarget>> = services
            .map(|(key, &(number, _))| Span {
                at: key.at,
                protocol: key.protocol,
                what: EndpointTarget {
                    service: number,
                    ..EndpointTarget::default()
                },
            })
            .collect();
        // Of two backends of one endpoint, it is the one's that stays.
        let replies = || self.pools.values().flat_map(|pool| &pool.wide_replies);
        let leaving = replies().filter(|(.., leaves)| *leaves);
        let staying = replies().filter(|(.., leaves)| !*leaves);
        let replies: Vec<Span<EndpointTarget>> = leaving
            .chain(staying)
            .map(|&(address, ports, protocol, what, _)| Span {
                at: At {
                    vip: address.into(),
                    ports,
                },
                protocol,
                what,
            })
            .collect();
        let mut wanted = Wanted::new();
        for (direction, spans) in [(direction::VIP, vips), (direction::REPLY, replies)] {
            for table in spread::tables(&spans) {
                wanted.insert((direction, table.vip), content(&table.ports));
            }
        }
        wanted
    }
}

/// Whether a service is found by these tables.
pub(super) fn is_wide(service: &Service) -> bool {
    !super::key_of(service).at.is_one()
}

/// Whether a service with such backends needs the part of the program that looks at these tables, or
/// that leaves ports as they are.
pub(super) fn needs_feature(service: &Service, has_portless_backends: bool) -> bool {
    is_wide(service) || service.forward == forward::DNAT && has_portless_backends
}

fn content(ports: &BTreeMap<u8, Vec<(Ports, EndpointTarget)>>) -> Content {
    let mut content = Content::new();
    for (&protocol, pieces) in ports {
        for &(ports, target) in pieces {
            for (port, bits) in ports.prefixes() {
                let bits = BITS_BEFORE_PORT + u32::from(bits);
                let key = wide::port(0, protocol, port.to_be());
                content.insert((bits, key), wide::word(target));
            }
        }
    }
    content
}

fn add(maps: &mut Maps, wanted: &Wanted) -> io::Result<Rest> {
    let mut tables: BTreeMap<u32, Content> = BTreeMap::new();
    for (key, word) in maps.ports.entries()? {
        let (table, within) = split(u64::from_ne_bytes(key.address));
        let content = tables.entry(table).or_default();
        content.insert((key.prefix_bits, within), word);
    }
    let places = places(maps)?;
    let mut used = BTreeSet::new();
    let mut next = 1;
    for (&(direction, vip), content) in wanted {
        let place = places.get(&(direction, vip));
        if let Some(&number) = place.filter(|&number| tables.get(number) == Some(content)) {
            used.insert(number);
            continue;
        }
        while tables.contains_key(&next) {
            next += 1;
        }
        for (&(prefix_bits, within), &word) in content {
            let address = (within | u64::from(next)).to_ne_bytes();
            let key = RouteKey {
                prefix_bits,
                address,
            };
            maps.ports.insert(&key, word)?;
        }
        lead(maps, direction, vip, next)?;
        used.insert(next);
        next += 1;
    }
    let entries = maps.ports.entries()?.into_iter();
    let unused =
        entries.filter(|(key, _)| !used.contains(&split(u64::from_ne_bytes(key.address)).0));
    Ok(Rest {
        wanted: wanted.keys().copied().collect(),
        unused: unused.map(|(key, _)| key).collect(),
    })
}

fn drop_unwanted(maps: &mut Maps, rest: &Rest) -> io::Result<()> {
    for (direction, vip) in places(maps)?.into_keys() {
        if rest.wanted.contains(&(direction, vip)) {
            continue;
        }
        match vip.address() {
            IpAddr::V4(it) => maps.wide4.remove(&key(direction, &it.octets(), vip))?,
            IpAddr::V6(it) => maps.wide6.remove(&key(direction, &it.octets(), vip))?,
        };
    }
    if rest.unused.is_empty() {
        return Ok(());
    }
    // A packet may have been led to them a moment ago.
    rcu_grace_period();
    for key in &rest.unused {
        maps.ports.remove(key)?;
    }
    Ok(())
}

/// Number of a table, and the rest of the key.
const fn split(key: u64) -> (u32, u64) {
    (key as u32, key & !(u32::MAX as u64))
}

/// Prefixes that lead to tables, by direction, and the tables' numbers.
fn places(maps: &Maps) -> io::Result<BTreeMap<(u32, Vip), u32>> {
    let v4 = maps.wide4.entries()?.into_iter().map(|(key, table)| {
        let [a, b, c, d, address @ ..] = key.address;
        (key.prefix_bits, [a, b, c, d], IpAddr::from(address), table)
    });
    let v6 = maps.wide6.entries()?.into_iter().map(|(key, table)| {
        let [a, b, c, d, address @ ..] = key.address;
        (key.prefix_bits, [a, b, c, d], IpAddr::from(address), table)
    });
    let places = v4
        .chain(v6)
        .filter_map(|(bits, direction, address, table)| {
            let bits = u8::try_from(bits.checked_sub(BITS_BEFORE_ADDRESS)?).ok()?;
            let vip = Vip::from(address).within(bits)?;
            let table = u32::try_from(table).ok()?;
            Some(((u32::from_ne_bytes(direction), vip), table))
        });
    Ok(places.collect())
}

fn lead(maps: &mut Maps, direction: u32, vip: Vip, table: u32) -> io::Result<()> {
    let value = u64::from(table);
    match vip.address() {
        IpAddr::V4(it) => maps.wide4.insert(&key(direction, &it.octets(), vip), value),
        IpAddr::V6(it) => maps.wide6.insert(&key(direction, &it.octets(), vip), value),
    }
}

fn key<const N: usize>(direction: u32, address: &[u8], vip: Vip) -> RouteKey<N> {
    let mut bytes = [0; N];
    let parts = direction
        .to_ne_bytes()
        .into_iter()
        .chain(address.iter().copied());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    RouteKey {
        prefix_bits: BITS_BEFORE_ADDRESS + u32::from(vip.bits()),
        address: bytes,
    }
}

/// What an address and a port lead to, as a packet would find it.
#[must_use]
pub fn find(
    maps: &Maps,
    direction: u32,
    address: IpAddr,
    port_be: u16,
    protocol: u8,
) -> Option<EndpointTarget> {
    let vip = Vip::from(address);
    let table = match address {
        IpAddr::V4(it) => maps.wide4.get(&key(direction, &it.octets(), vip)),
        IpAddr::V6(it) => maps.wide6.get(&key(direction, &it.octets(), vip)),
    };
    let table = u32::try_from(table.ok()??).ok()?;
    if protocol == 0 {
        return Some(EndpointTarget {
            service: EndpointTarget::ADDRESS_ONLY,
            ..EndpointTarget::default()
        });
    }
    let key = RouteKey {
        prefix_bits: 64,
        address: wide::port(table, protocol, port_be).to_ne_bytes(),
    };
    maps.ports.get(&key).ok()?.map(wide::target)
}
