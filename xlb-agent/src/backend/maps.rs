//! What the program's maps hold: desired minus actual is added, then actual minus desired removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use ipnet::IpNet;
use xlb_common::{
    decap::{Hop, vip_flag},
    limits::{MAX_BACKEND_VIPS, MAX_BALANCER_PREFIXES},
};
use xlb_control::config::{Decapsulation, limits};

use crate::dataplane::{DataplaneError, DecapMaps, KernelMap, Plain, RouteKey};

const _: () = assert!(
    limits::MAX_BACKEND_VIPS == MAX_BACKEND_VIPS as usize
        && limits::MAX_BALANCER_PREFIXES == MAX_BALANCER_PREFIXES as usize,
    "a configuration that is accepted fits the maps"
);

/// Value of every prefix.
const ALLOWED: u32 = 1;

/// Makes the maps say what the configuration does. A VIP that is gone and stands on the loopback
/// interface stays in the map, without [`vip_flag::USED`], until it is taken off there.
pub(super) fn apply(maps: &mut DecapMaps, config: &Decapsulation) -> Result<(), DataplaneError> {
    let (balancers4, balancers6) = by_family(&config.balancers);
    let (peers4, peers6) = by_family(&config.peers);
    let (mut vips4, mut vips6) = (BTreeSet::new(), BTreeSet::new());
    for vip in &config.vips {
        match vip {
            IpAddr::V4(vip) => vips4.insert(vip.octets()),
            IpAddr::V6(vip) => vips6.insert(vip.octets()),
        };
    }
    (|| {
        exactly(&mut maps.balancers4, &balancers4)?;
        exactly(&mut maps.balancers6, &balancers6)?;
        exactly(&mut maps.peers4, &peers4)?;
        exactly(&mut maps.peers6, &peers6)?;
        use_vips(&mut maps.vips4, &vips4)?;
        use_vips(&mut maps.vips6, &vips6)
    })()
    .map_err(|source| DataplaneError::System {
        doing: "tell the program its balancers, peers and VIPs".to_owned(),
        source,
    })
}

type Prefixes<const N: usize> = BTreeSet<RouteKey<N>>;

fn by_family(prefixes: &[IpNet]) -> (Prefixes<4>, Prefixes<16>) {
    let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
    for prefix in prefixes {
        match prefix {
            IpNet::V4(prefix) => v4.insert(RouteKey {
                prefix_bits: prefix.prefix_len().into(),
                address: prefix.addr().octets(),
            }),
            IpNet::V6(prefix) => v6.insert(RouteKey {
                prefix_bits: prefix.prefix_len().into(),
                address: prefix.addr().octets(),
            }),
        };
    }
    (v4, v6)
}

/// Makes the maps hold exactly these ways to other backends.
pub(super) fn set_alternatives(
    maps: &mut DecapMaps,
    desired: &BTreeMap<IpAddr, Hop>,
) -> io::Result<()> {
    let actual = alternatives(maps)?;
    for (&address, &hop) in desired {
        if actual.get(&address) == Some(&hop) {
            continue;
        }
        match address {
            IpAddr::V4(address) => maps.alternatives4.insert(&address.octets(), hop)?,
            IpAddr::V6(address) => maps.alternatives6.insert(&address.octets(), hop)?,
        }
    }
    for address in actual.keys().filter(|it| !desired.contains_key(it)) {
        match address {
            IpAddr::V4(address) => maps.alternatives4.remove(&address.octets())?,
            IpAddr::V6(address) => maps.alternatives6.remove(&address.octets())?,
        };
    }
    Ok(())
}

/// The ways to other backends that the maps hold.
pub(super) fn alternatives(maps: &DecapMaps) -> io::Result<BTreeMap<IpAddr, Hop>> {
    let v4 = maps.alternatives4.entries()?.into_iter();
    let v6 = maps.alternatives6.entries()?.into_iter();
    Ok(v4
        .map(|(octets, hop)| (IpAddr::from(octets), hop))
        .chain(v6.map(|(octets, hop)| (IpAddr::from(octets), hop)))
        .collect())
}

fn exactly<K: Plain + Ord>(map: &mut KernelMap<K, u32>, desired: &BTreeSet<K>) -> io::Result<()> {
    let actual: BTreeSet<K> = map.entries()?.into_iter().map(|(key, _)| key).collect();
    for key in desired.difference(&actual) {
        map.insert(key, ALLOWED)?;
    }
    for key in actual.difference(desired) {
        map.remove(key)?;
    }
    Ok(())
}

fn use_vips<K: Plain + Ord>(map: &mut KernelMap<K, u32>, desired: &BTreeSet<K>) -> io::Result<()> {
    for key in desired {
        let flags = map.get(key)?.unwrap_or(0);
        if flags & vip_flag::USED == 0 {
            map.insert(key, flags | vip_flag::USED)?;
        }
    }
    for (key, flags) in map.entries()? {
        if desired.contains(&key) {
            continue;
        }
        if flags & vip_flag::ADDED == 0 {
            map.remove(&key)?;
        } else {
            map.insert(&key, flags & !vip_flag::USED)?;
        }
    }
    Ok(())
}

/// The VIPs that the maps hold, with their flags.
pub(super) fn vips(maps: &DecapMaps) -> io::Result<Vec<(IpAddr, u32)>> {
    let v4 = maps.vips4.entries()?.into_iter();
    let v6 = maps.vips6.entries()?.into_iter();
    let mut vips: Vec<(IpAddr, u32)> = v4
        .map(|(octets, flags)| (octets.into(), flags))
        .chain(v6.map(|(octets, flags)| (octets.into(), flags)))
        .collect();
    vips.sort_unstable();
    Ok(vips)
}

/// Sets the flags of a VIP; without any it is removed.
pub(super) fn set_vip(maps: &mut DecapMaps, vip: IpAddr, flags: u32) -> io::Result<()> {
    match (vip, flags) {
        (IpAddr::V4(vip), 0) => maps.vips4.remove(&vip.octets()).map(drop),
        (IpAddr::V6(vip), 0) => maps.vips6.remove(&vip.octets()).map(drop),
        (IpAddr::V4(vip), flags) => maps.vips4.insert(&vip.octets(), flags),
        (IpAddr::V6(vip), flags) => maps.vips6.insert(&vip.octets(), flags),
    }
}

/// The prefixes that two maps hold.
pub(super) fn prefixes(
    v4: &KernelMap<RouteKey<4>, u32>,
    v6: &KernelMap<RouteKey<16>, u32>,
) -> io::Result<Vec<String>> {
    let mut prefixes = Vec::new();
    for (key, _) in v4.entries()? {
        prefixes.push(format!("{}/{}", IpAddr::from(key.address), key.prefix_bits));
    }
    for (key, _) in v6.entries()? {
        prefixes.push(format!("{}/{}", IpAddr::from(key.address), key.prefix_bits));
    }
    Ok(prefixes)
}
