//! What each map must look like, and what becomes of one that is found.

use xlb_common::{
    endpoint::{Entry4, Entry6},
    fragment::FragmentRecord,
    limits::{
        BLOCK_ENTRIES, ENDPOINT_TABLE_MAX, ENDPOINT_TABLE_MIN, EVENTS_BYTES, MAX_EGRESS, MAX_PORTS,
        MAX_ROUTES, MAX_WIDE_ADDRESSES,
    },
    maps::{AttachmentCounters, Backend, Egress, FlowKey, Pool, Service, name, way},
    nat::{NatPool, NatPort, NatSource, SOURCES_MAX},
    reason::REASONS_MAX,
    record::FlowValue,
};

use super::{hash::RouteKey, sys};

/// Entries of the maps whose size the configuration decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of `VIPS4`, a power of two.
    pub vips4: u32,
    /// Entries of `VIPS6`, a power of two.
    pub vips6: u32,
    /// Entries of `REPLIES4`, a power of two.
    pub replies4: u32,
    /// Entries of `REPLIES6`, a power of two.
    pub replies6: u32,
    /// Entries of `SERVICES` and `CURSORS`; number 0 is not used.
    pub services: u32,
    /// Entries of `BACKENDS` and `CONNECTIONS`; number 0 is not used.
    pub backends: u32,
    /// Entries of `POOLS`; number 0 is not used.
    pub pools: u32,
    /// Blocks of 4096 entries in each of `RING`, `SLOTS`, `LAST_MISS` and `SEQUENCES`.
    pub arena_blocks: u32,
    /// Entries of `PENDING`.
    pub pending: u32,
    /// Entries of `FLOWS`.
    pub flows: u32,
    /// Entries of `FRAGMENTS`.
    pub fragmented: u32,
    /// Entries of `COUNTERS`.
    pub counters: u32,
    /// Entries of `NAT_PORTS`.
    pub nat_ports: u32,
    /// Entries of `NAT_FLOWS`.
    pub nat_flows: u32,
}

impl Default for Sizes {
    /// The smallest.
    fn default() -> Self {
        Self {
            vips4: ENDPOINT_TABLE_MIN,
            vips6: ENDPOINT_TABLE_MIN,
            replies4: ENDPOINT_TABLE_MIN,
            replies6: ENDPOINT_TABLE_MIN,
            services: 2,
            backends: 2,
            pools: 2,
            arena_blocks: 1,
            pending: 1,
            flows: 1,
            fragmented: 1,
            counters: 1,
            nat_ports: 1,
            nat_flows: 1,
        }
    }
}

impl Sizes {
    /// Says what is wrong with them.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, entries) in [
            (name::VIPS4, self.vips4),
            (name::VIPS6, self.vips6),
            (name::REPLIES4, self.replies4),
            (name::REPLIES6, self.replies6),
        ] {
            if !entries.is_power_of_two() || entries > ENDPOINT_TABLE_MAX {
                return Err(format!(
                    "{name} can't have {entries} entries: a power of two up to {ENDPOINT_TABLE_MAX} is needed"
                ));
            }
        }
        match layout(self).iter().find(|map| map.entries == 0) {
            Some(map) => Err(format!("{} can't have 0 entries", map.name)),
            None => Ok(()),
        }
    }

    /// The larger of both, each by itself.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            vips4: self.vips4.max(other.vips4),
            vips6: self.vips6.max(other.vips6),
            replies4: self.replies4.max(other.replies4),
            replies6: self.replies6.max(other.replies6),
            services: self.services.max(other.services),
            backends: self.backends.max(other.backends),
            pools: self.pools.max(other.pools),
            arena_blocks: self.arena_blocks.max(other.arena_blocks),
            pending: self.pending.max(other.pending),
            flows: self.flows.max(other.flows),
            fragmented: self.fragmented.max(other.fragmented),
            counters: self.counters.max(other.counters),
            nat_ports: self.nat_ports.max(other.nat_ports),
            nat_flows: self.nat_flows.max(other.nat_flows),
        }
    }

    /// Enlarges the size that `map` follows to `entries`.
    fn at_least(&mut self, map: &str, entries: u32) {
        let size = match map {
            name::VIPS4 => &mut self.vips4,
            name::VIPS6 => &mut self.vips6,
            name::REPLIES4 => &mut self.replies4,
            name::REPLIES6 => &mut self.replies6,
            name::SERVICES | name::CURSORS => &mut self.services,
            name::BACKENDS | name::CONNECTIONS => &mut self.backends,
            name::POOLS => &mut self.pools,
            name::RING | name::SLOTS | name::LAST_MISS | name::SEQUENCES => &mut self.arena_blocks,
            name::PENDING => &mut self.pending,
            name::FLOWS => &mut self.flows,
            name::FRAGMENTS => &mut self.fragmented,
            name::COUNTERS => &mut self.counters,
            name::NAT_PORTS => &mut self.nat_ports,
            name::NAT_FLOWS => &mut self.nat_flows,
            _ => return,
        };
        *size = entries.max(*size);
    }
}

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hash = 1,
    Array = 2,
    Programs = 3,
    PerCpuArray = 6,
    LruHash = 9,
    LpmTrie = 11,
    DevMap = 14,
    RingBuf = 27,
}

/// `BPF_F_NO_PREALLOC`, which tries want.
pub(super) const NO_PREALLOC: u32 = 1 << 0;
/// `BPF_F_RDONLY_PROG`, which the kernel adds to a devmap.
const READ_ONLY_FOR_PROGRAM: u32 = 1 << 7;
/// `BPF_F_MMAPABLE`.
const MAPPED: u32 = 1 << 10;

/// What a map must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapLayout {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) entries: u32,
    pub(super) flags: u32,
}

impl MapLayout {
    pub(super) const fn mapped<T>(name: &'static str, entries: u32) -> Self {
        Self {
            name,
            kind: Kind::Array,
            key_bytes: 4,
            value_bytes: size_of::<T>() as u32,
            entries,
            flags: MAPPED,
        }
    }

    pub(super) const fn keyed<K, V>(
        name: &'static str,
        kind: Kind,
        entries: u32,
        flags: u32,
    ) -> Self {
        Self {
            name,
            kind,
            key_bytes: size_of::<K>() as u32,
            value_bytes: size_of::<V>() as u32,
            entries,
            flags,
        }
    }

    /// Whether it is one of the tables that are found by hashing an endpoint.
    pub(super) fn is_endpoint_table(&self) -> bool {
        matches!(
            self.name,
            name::VIPS4 | name::VIPS6 | name::REPLIES4 | name::REPLIES6
        )
    }

    /// Whether each load of the programs has its own. The kernel empties a map of programs when
    /// nothing of user space holds it any more, so that of the programs in force is pinned.
    pub(super) fn is_of_load(&self) -> bool {
        self.kind == Kind::Programs
    }

    /// Whether it is copied before the program that uses it is loaded.
    pub(super) fn is_copied_early(&self) -> bool {
        !self.is_copied_late() && !self.is_of_load()
    }

    /// Whether the program adds to it all the time, so that it is copied at the last moment.
    pub(super) fn is_copied_late(&self) -> bool {
        matches!(self.kind, Kind::Hash | Kind::PerCpuArray)
            || matches!(self.name, name::CONNECTIONS | name::NAT_PORTS)
    }
}

/// The layout of all maps.
pub(super) fn layout(sizes: &Sizes) -> Vec<MapLayout> {
    vec![
        MapLayout::mapped::<Entry4>(name::VIPS4, sizes.vips4),
        MapLayout::mapped::<Entry6>(name::VIPS6, sizes.vips6),
        MapLayout::mapped::<Entry4>(name::REPLIES4, sizes.replies4),
        MapLayout::mapped::<Entry6>(name::REPLIES6, sizes.replies6),
        MapLayout::keyed::<RouteKey<8>, u64>(
            name::WIDE4,
            Kind::LpmTrie,
            MAX_WIDE_ADDRESSES,
            NO_PREALLOC,
        ),
        MapLayout::keyed::<RouteKey<20>, u64>(
            name::WIDE6,
            Kind::LpmTrie,
            MAX_WIDE_ADDRESSES,
            NO_PREALLOC,
        ),
        MapLayout::keyed::<RouteKey<8>, u64>(name::PORTS, Kind::LpmTrie, MAX_PORTS, NO_PREALLOC),
        MapLayout::mapped::<Service>(name::SERVICES, sizes.services),
        MapLayout::mapped::<Backend>(name::BACKENDS, sizes.backends),
        MapLayout::mapped::<Pool>(name::POOLS, sizes.pools),
        MapLayout::mapped::<[u16; BLOCK_ENTRIES]>(name::RING, sizes.arena_blocks),
        MapLayout::mapped::<[u64; BLOCK_ENTRIES]>(name::SLOTS, sizes.arena_blocks),
        MapLayout::mapped::<[u32; BLOCK_ENTRIES]>(name::LAST_MISS, sizes.arena_blocks),
        MapLayout::keyed::<FlowKey, FlowValue>(name::PENDING, Kind::Hash, sizes.pending, 0),
        MapLayout::keyed::<FlowKey, FlowValue>(name::FLOWS, Kind::Hash, sizes.flows, 0),
        MapLayout::mapped::<[u16; BLOCK_ENTRIES]>(name::SEQUENCES, sizes.arena_blocks),
        MapLayout::mapped::<u64>(name::CURSORS, sizes.services),
        MapLayout::mapped::<u64>(name::CONNECTIONS, sizes.backends),
        MapLayout::mapped::<Egress>(name::EGRESS, MAX_EGRESS),
        MapLayout::keyed::<u32, u64>(name::EGRESS_DEVICES, Kind::DevMap, MAX_EGRESS, 0),
        MapLayout::keyed::<RouteKey<4>, u64>(name::ROUTES4, Kind::LpmTrie, MAX_ROUTES, NO_PREALLOC),
        MapLayout::keyed::<RouteKey<16>, u64>(
            name::ROUTES6,
            Kind::LpmTrie,
            MAX_ROUTES,
            NO_PREALLOC,
        ),
        MapLayout::keyed::<u32, AttachmentCounters>(
            name::COUNTERS,
            Kind::PerCpuArray,
            sizes.counters,
            0,
        ),
        MapLayout::keyed::<u32, u64>(name::REASONS, Kind::PerCpuArray, REASONS_MAX, 0),
        MapLayout::mapped::<NatPort>(name::NAT_PORTS, sizes.nat_ports),
        MapLayout::mapped::<NatSource>(name::NAT_SOURCES, SOURCES_MAX),
        MapLayout::mapped::<NatPool>(name::NAT_POOLS, 2),
        MapLayout::keyed::<FlowKey, FlowValue>(name::NAT_FLOWS, Kind::Hash, sizes.nat_flows, 0),
        MapLayout::keyed::<(), ()>(name::EVENTS, Kind::RingBuf, EVENTS_BYTES, 0),
        MapLayout::keyed::<FlowKey, FragmentRecord>(
            name::FRAGMENTS,
            Kind::LruHash,
            sizes.fragmented,
            0,
        ),
        MapLayout::keyed::<u32, u32>(name::WAYS, Kind::Programs, way::PROGRAMS.len() as u32, 0),
    ]
}

/// The sizes in force: what is asked, or what is found where that is larger.
pub(super) fn effective_sizes(asked: &Sizes, found: &[(&str, sys::MapInfo)]) -> Sizes {
    let mut sizes = *asked;
    for (name, info) in found {
        sizes.at_least(name, info.entries);
    }
    sizes
}

/// Says how a map that was found differs from what is expected, other than by its size.
pub(super) fn difference(expected: &MapLayout, found: &sys::MapInfo) -> Option<String> {
    let parts = [
        ("type", expected.kind as u32, found.kind),
        ("key bytes", expected.key_bytes, found.key_bytes),
        ("value bytes", expected.value_bytes, found.value_bytes),
        (
            "flags",
            expected.flags,
            found.flags & !READ_ONLY_FOR_PROGRAM,
        ),
    ];
    let mut differences: Vec<String> = parts
        .iter()
        .filter(|(_, expected, found)| expected != found)
        .map(|(what, expected, found)| format!("{what} {found}, expected {expected}"))
        .collect();
    if expected.is_endpoint_table() && !found.entries.is_power_of_two() {
        differences.push(format!(
            "{} entries, expected a power of two",
            found.entries
        ));
    }
    (!differences.is_empty()).then(|| format!("{}: {}", expected.name, differences.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_found(expected: &MapLayout) -> sys::MapInfo {
        sys::MapInfo {
            kind: expected.kind as u32,
            id: 7,
            key_bytes: expected.key_bytes,
            value_bytes: expected.value_bytes,
            entries: expected.entries,
            flags: expected.flags,
        }
    }

    #[test]
    fn each_part_of_the_layout_counts() {
        for expected in layout(&Sizes::default()) {
            assert_eq!(difference(&expected, &as_found(&expected)), None);
            let mutations: [fn(&mut sys::MapInfo); 4] = [
                |info| info.kind += 100,
                |info| info.key_bytes += 4,
                |info| info.value_bytes += 8,
                |info| info.flags ^= 1 << 20,
            ];
            for mutate in mutations {
                let mut found = as_found(&expected);
                mutate(&mut found);
                let said = difference(&expected, &found).expect("a difference");
                assert!(said.starts_with(expected.name), "{said}");
            }
        }
    }

    #[test]
    fn a_larger_map_is_as_good_and_a_crooked_table_is_not() {
        let [vips, ..] = layout(&Sizes::default())[..] else {
            unreachable!("the layout has maps")
        };
        let mut found = as_found(&vips);
        found.entries = 128;
        assert_eq!(difference(&vips, &found), None);
        found.entries = 100;
        assert_eq!(
            difference(&vips, &found).as_deref(),
            Some("VIPS4: 100 entries, expected a power of two")
        );
    }

    #[test]
    fn sizes_never_shrink_and_arenas_stay_alike() {
        let asked = Sizes {
            services: 10,
            flows: 100,
            ..Sizes::default()
        };
        let info = |entries| sys::MapInfo {
            entries,
            ..sys::MapInfo::default()
        };
        let found = [
            (name::SERVICES, info(5)),
            (name::FLOWS, info(200)),
            (name::RING, info(3)),
            (name::SLOTS, info(1)),
        ];
        let sizes = effective_sizes(&asked, &found);
        assert_eq!(
            sizes,
            Sizes {
                services: 10,
                flows: 200,
                arena_blocks: 3,
                ..Sizes::default()
            }
        );
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let crooked = Sizes {
            vips6: 100,
            ..Sizes::default()
        };
        assert!(crooked.check().is_err_and(|said| said.contains("VIPS6")));
        let empty = Sizes {
            flows: 0,
            ..Sizes::default()
        };
        assert!(empty.check().is_err_and(|said| said.contains("FLOWS")));
        assert_eq!(Sizes::default().check(), Ok(()));
    }
}
