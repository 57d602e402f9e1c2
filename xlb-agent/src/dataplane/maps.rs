//! The maps, typed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use xlb_common::{
    endpoint::{Entry4, Entry6},
    maps::{AttachmentCounters, Backend, Pool, Service, name},
    nat::{NatPool, NatPort, NatSource},
};

use super::{
    counters::PerCpuCounters,
    egress::EgressTable,
    error::{DataplaneError, Doing},
    hash::{Flows, KernelMap, Routes},
    mapped::{Arena, MappedArray},
    sys,
    table::Table,
};

/// All maps but the ring buffer of events.
#[derive(Debug)]
pub struct Maps {
    /// VIPs with an IPv4 address.
    pub vips4: Table<Entry4>,
    /// VIPs with an IPv6 address.
    pub vips6: Table<Entry6>,
    /// Endpoints of backends under `dnat`, IPv4.
    pub replies4: Table<Entry4>,
    /// Endpoints of backends under `dnat`, IPv6.
    pub replies6: Table<Entry6>,
    /// Tables of ports by IPv4 address.
    pub wide4: Routes<8>,
    /// Tables of ports by IPv6 address.
    pub wide6: Routes<20>,
    /// What tables of ports lead to.
    pub ports: Routes<8>,
    /// Services by number.
    pub services: MappedArray<Service>,
    /// Backends by number.
    pub backends: MappedArray<Backend>,
    /// The agent's record of pools by number.
    pub pools: MappedArray<Pool>,
    /// `stable` of each slot.
    pub ring: Arena<u16>,
    /// The slot words.
    pub slots: Arena<u64>,
    /// Seconds of the last miss of each slot.
    pub last_miss: Arena<u32>,
    /// Pending handshakes of marked slots.
    pub pending: Flows,
    /// Flows of marked slots.
    pub flows: Flows,
    /// Whose turn it is under `round-robin`, in the places of the rings.
    pub sequences: Arena<u16>,
    /// Turns under `round-robin`, by service.
    pub cursors: MappedArray<u64>,
    /// Open connections under `least-connections`, by backend.
    pub connections: MappedArray<u64>,
    /// Interfaces that packets leave by.
    pub egress: EgressTable,
    /// Next hops of replies, IPv4.
    pub routes4: Routes<4>,
    /// Next hops of replies, IPv6.
    pub routes6: Routes<16>,
    /// Traffic by attachment.
    pub counters: PerCpuCounters<AttachmentCounters>,
    /// Packets by reason.
    pub reasons: PerCpuCounters<u64>,
    /// Ports of `full-nat`.
    pub nat_ports: MappedArray<NatPort>,
    /// Source addresses of `full-nat`.
    pub nat_sources: MappedArray<NatSource>,
    /// What new connections of `full-nat` get their ports from, by family.
    pub nat_pools: MappedArray<NatPool>,
}

impl Maps {
    /// Opens the maps, each by the pin that `pin_of` names. Graves in the endpoint tables are taken
    /// as older than a grace period.
    pub(super) fn open(
        pin_of: impl Fn(&str) -> std::path::PathBuf,
    ) -> Result<Self, DataplaneError> {
        let fd = |name: &str| -> Result<OwnedFd, DataplaneError> {
            let path = pin_of(name);
            sys::open_pin(&path).doing(|| format!("open the pinned map {}", path.display()))
        };
        let mapping = |name: &'static str| move || format!("map {name} into memory");
        Ok(Self {
            vips4: Table::new(fd(name::VIPS4)?).doing(mapping(name::VIPS4))?,
            vips6: Table::new(fd(name::VIPS6)?).doing(mapping(name::VIPS6))?,
            replies4: Table::new(fd(name::REPLIES4)?).doing(mapping(name::REPLIES4))?,
            replies6: Table::new(fd(name::REPLIES6)?).doing(mapping(name::REPLIES6))?,
            wide4: KernelMap::new(fd(name::WIDE4)?),
            wide6: KernelMap::new(fd(name::WIDE6)?),
            ports: KernelMap::new(fd(name::PORTS)?),
            services: MappedArray::new(fd(name::SERVICES)?).doing(mapping(name::SERVICES))?,
            backends: MappedArray::new(fd(name::BACKENDS)?).doing(mapping(name::BACKENDS))?,
            pools: MappedArray::new(fd(name::POOLS)?).doing(mapping(name::POOLS))?,
            ring: Arena::new(fd(name::RING)?).doing(mapping(name::RING))?,
            slots: Arena::new(fd(name::SLOTS)?).doing(mapping(name::SLOTS))?,
            last_miss: Arena::new(fd(name::LAST_MISS)?).doing(mapping(name::LAST_MISS))?,
            pending: KernelMap::new(fd(name::PENDING)?),
            flows: KernelMap::new(fd(name::FLOWS)?),
            sequences: Arena::new(fd(name::SEQUENCES)?).doing(mapping(name::SEQUENCES))?,
            cursors: MappedArray::new(fd(name::CURSORS)?).doing(mapping(name::CURSORS))?,
            connections: MappedArray::new(fd(name::CONNECTIONS)?)
                .doing(mapping(name::CONNECTIONS))?,
            egress: EgressTable::new(fd(name::EGRESS)?, fd(name::EGRESS_DEVICES)?)
                .doing(mapping(name::EGRESS))?,
            routes4: KernelMap::new(fd(name::ROUTES4)?),
            routes6: KernelMap::new(fd(name::ROUTES6)?),
            counters: PerCpuCounters::new(fd(name::COUNTERS)?).doing(mapping(name::COUNTERS))?,
            reasons: PerCpuCounters::new(fd(name::REASONS)?).doing(mapping(name::REASONS))?,
            nat_ports: MappedArray::new(fd(name::NAT_PORTS)?).doing(mapping(name::NAT_PORTS))?,
            nat_sources: MappedArray::new(fd(name::NAT_SOURCES)?)
                .doing(mapping(name::NAT_SOURCES))?,
            nat_pools: MappedArray::new(fd(name::NAT_POOLS)?).doing(mapping(name::NAT_POOLS))?,
        })
    }

    /// Tells the endpoint tables that a grace period has passed.
    pub fn after_grace(&mut self) {
        self.vips4.after_grace();
        self.vips6.after_grace();
        self.replies4.after_grace();
        self.replies6.after_grace();
    }

    /// Whether endpoints were removed since the last grace period.
    #[must_use]
    pub fn wants_grace(&self) -> bool {
        self.vips4.wants_grace()
            || self.vips6.wants_grace()
            || self.replies4.wants_grace()
            || self.replies6.wants_grace()
    }

    /// The maps with their names, and how many entries are in use where that is cheap to tell. Of an
    /// arena the entries are those within its blocks.
    pub(super) fn used(&self) -> Vec<(&'static str, BorrowedFd<'_>, Option<u64>)> {
        let count = |used: usize| Some(used as u64);
        let named = || self.pools.iter().filter(|p| p.name.first() != Some(&0));
        let slots = Some(named().map(|pool| u64::from(pool.ring_slots)).sum());
        vec![
            (
                name::VIPS4,
                self.vips4.as_fd(),
                Some(self.vips4.used().into()),
            ),
            (
                name::VIPS6,
                self.vips6.as_fd(),
                Some(self.vips6.used().into()),
            ),
            (
                name::REPLIES4,
                self.replies4.as_fd(),
                Some(self.replies4.used().into()),
            ),
            (
                name::REPLIES6,
                self.replies6.as_fd(),
                Some(self.replies6.used().into()),
            ),
            (name::WIDE4, self.wide4.as_fd(), self.wide4.count().ok()),
            (name::WIDE6, self.wide6.as_fd(), self.wide6.count().ok()),
            (name::PORTS, self.ports.as_fd(), self.ports.count().ok()),
            (
                name::SERVICES,
                self.services.as_fd(),
                count(self.services.iter().filter(|s| s.family != 0).count()),
            ),
            (
                name::BACKENDS,
                self.backends.as_fd(),
                count(
                    self.backends
                        .iter()
                        .filter(|b| b.flags & xlb_common::maps::backend_flag::USED != 0)
                        .count(),
                ),
            ),
            (name::POOLS, self.pools.as_fd(), count(named().count())),
            (name::RING, self.ring.as_fd(), slots),
            (name::SLOTS, self.slots.as_fd(), slots),
            (name::LAST_MISS, self.last_miss.as_fd(), slots),
            (name::PENDING, self.pending.as_fd(), None),
            (name::FLOWS, self.flows.as_fd(), None),
            (name::SEQUENCES, self.sequences.as_fd(), None),
            (name::CURSORS, self.cursors.as_fd(), None),
            (name::CONNECTIONS, self.connections.as_fd(), None),
            (
                name::ROUTES4,
                self.routes4.as_fd(),
                self.routes4.count().ok(),
            ),
            (
                name::ROUTES6,
                self.routes6.as_fd(),
                self.routes6.count().ok(),
            ),
            (name::EGRESS, self.egress.as_fd(), count(self.egress.used())),
            (name::COUNTERS, self.counters.as_fd(), None),
            (name::REASONS, self.reasons.as_fd(), None),
            (name::NAT_PORTS, self.nat_ports.as_fd(), None),
        ]
    }
}
