//! The program with its maps, and what a test writes into them.

use std::net::{IpAddr, SocketAddr};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, ProgramArray, RingBuf, xdp::DevMap},
};
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};
use xlb_common::{
    endpoint::EndpointTarget,
    flow::FlowKey,
    limits::{BLOCK_ENTRIES, ENDPOINT_TABLE_MIN},
    maps::{Backend, Egress, Event, NextHop, Service, event, forward, name},
    nat::{self, NatPool, NatSource},
    slot::SlotWord,
};
use xlb_tests::programs::maps;

use crate::{
    kinds::{BACKEND_PORT, Kind, LOOPBACK, MTU, OTHER, SAME, backend, egress_mac, vip},
    program,
};

/// The program with its maps.
pub(crate) struct Rig {
    pub(crate) ebpf: Ebpf,
    /// Held, lest the kernel empty it.
    _ways: ProgramArray<MapData>,
}

impl Rig {
    /// A service of each kind, and their backends, for a program with these features. The thread
    /// gets a network namespace of its own, so that the host's routes and forwarding play no part.
    pub(crate) fn new(features: u32) -> Self {
        let (ebpf, ways) = program::load(features);
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for this thread");
        let mut rig = Self { ebpf, _ways: ways };
        for egress in [SAME, OTHER] {
            rig.put_egress(egress, |_| {});
        }
        let devices = rig.ebpf.map_mut(name::EGRESS_DEVICES).expect("the map");
        let mut devices = DevMap::try_from(devices).expect("a map of devices");
        // The kernel wants an interface that exists. Test runs send nothing.
        devices
            .set(OTHER.into(), LOOPBACK, None, 0)
            .expect("an entry");
        for v6 in [false, true] {
            rig.put_endpoint(
                false,
                SocketAddr::new(vip(v6), 0),
                0,
                EndpointTarget {
                    service: EndpointTarget::ADDRESS_ONLY,
                    ..EndpointTarget::default()
                },
            );
        }
        for kind in Kind::all() {
            rig.put_kind(kind);
        }
        rig
    }

    fn put_kind(&mut self, kind: Kind) {
        let target = EndpointTarget {
            service: kind.number().into(),
            ..EndpointTarget::default()
        };
        self.put_service(kind, &kind.service());
        self.put_backend(kind.number(), &backend(kind.v6, kind.number()));
        self.put_ring(kind.slot(), kind.number());
        self.put_endpoint(false, kind.vip(), kind.protocol, target);
        if kind.forward == forward::DNAT {
            let endpoint = SocketAddr::new(kind.backend(), BACKEND_PORT);
            let target = EndpointTarget {
                backend: kind.number(),
                ..target
            };
            self.put_endpoint(true, endpoint, kind.protocol, target);
        }
    }

    /// Puts the value, which has `N` bytes, into an array.
    fn put<T: Copy, const N: usize>(&mut self, map: &str, index: u32, value: &T) {
        maps::put::<N>(&mut self.ebpf, map, index, maps::bytes_of(value)).expect("an entry");
    }

    fn array<const N: usize>(&mut self, map: &str) -> Array<&mut MapData, [u8; N]> {
        maps::array(&mut self.ebpf, map).expect("an array of such values")
    }

    /// Makes an address a source of full NAT, the only one, whose number is 0.
    pub(crate) fn put_nat(&mut self, v6: bool, at: IpAddr, source: &NatSource, pool: &NatPool) {
        self.put::<_, 24>(name::NAT_SOURCES, 0, source);
        self.put::<_, 88>(name::NAT_POOLS, v6.into(), pool);
        let target = EndpointTarget {
            service: 1,
            ..EndpointTarget::default()
        };
        self.put_endpoint(false, SocketAddr::new(at, 0), nat::SOURCE, target);
    }

    /// Makes a port's last packet so much older.
    pub(crate) fn age_nat(&mut self, is_udp: bool, port: u16, by_s: u32) {
        let index = nat::index(0, is_udp, port);
        let mut entries = self.array::<64>(name::NAT_PORTS);
        let mut entry = entries.get(&index, 0).expect("an entry");
        let until_s = u32::from_ne_bytes(entry[..4].try_into().expect("four bytes"));
        entry[..4].copy_from_slice(&(until_s - by_s).to_ne_bytes());
        entries.set(index, entry, 0).expect("an entry");
    }

    /// For how many more seconds a port is taken.
    pub(crate) fn nat_left_s(&mut self, is_udp: bool, port: u16) -> u32 {
        let entries = self.array::<64>(name::NAT_PORTS);
        let entry = entries.get(&nat::index(0, is_udp, port), 0);
        let entry = entry.expect("an entry");
        let until_s = u32::from_ne_bytes(entry[..4].try_into().expect("four bytes"));
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the time");
        until_s.saturating_sub(now.tv_sec() as u32)
    }

    /// State of a port.
    pub(crate) fn nat_state(&mut self, is_udp: bool, port: u16) -> u8 {
        let entries = self.array::<64>(name::NAT_PORTS);
        let index = nat::index(0, is_udp, port);
        entries.get(&index, 0).expect("an entry")[4]
    }

    /// Changes an interface that packets leave by.
    pub(crate) fn put_egress(&mut self, egress: u16, change: impl FnOnce(&mut Egress)) {
        let mut value = Egress {
            mac: egress_mac(egress),
            mtu: MTU,
            ifindex: if egress == SAME { LOOPBACK } else { 99 },
            tag: 0,
        };
        change(&mut value);
        self.put::<_, 16>(name::EGRESS, egress.into(), &value);
    }

    pub(crate) fn put_service(&mut self, kind: Kind, service: &Service) {
        self.put::<_, 64>(name::SERVICES, kind.number().into(), service);
    }

    pub(crate) fn put_backend(&mut self, number: u16, backend: &Backend) {
        self.put::<_, 128>(name::BACKENDS, number.into(), backend);
    }

    /// Sets a slot of the ring.
    pub(crate) fn put_ring(&mut self, slot: u32, backend: u16) {
        self.put_entry::<{ 2 * BLOCK_ENTRIES }>(name::RING, slot, &backend.to_ne_bytes());
    }

    /// Sets a slot's word.
    pub(crate) fn put_slot(&mut self, slot: u32, word: SlotWord) {
        self.put_entry::<{ 8 * BLOCK_ENTRIES }>(name::SLOTS, slot, &word.0.to_ne_bytes());
    }

    /// When a flow without a record last used the slot's `stable`.
    pub(crate) fn last_miss_s(&mut self, slot: u32) -> u32 {
        let block: [u8; 4 * BLOCK_ENTRIES] =
            self.array(name::LAST_MISS).get(&0, 0).expect("the block");
        let at = slot as usize * 4;
        u32::from_ne_bytes(block[at..at + 4].try_into().expect("four bytes"))
    }

    /// Sets an entry of the arena of sequences.
    pub(crate) fn put_turn(&mut self, index: u32, backend: u16) {
        self.put_entry::<{ 2 * BLOCK_ENTRIES }>(name::SEQUENCES, index, &backend.to_ne_bytes());
    }

    /// Sets how many connections of a backend are open.
    pub(crate) fn put_connections(&mut self, backend: u16, connections: u64) {
        self.put::<_, 8>(name::CONNECTIONS, backend.into(), &connections);
    }

    /// How many connections of a backend are open.
    pub(crate) fn connections(&mut self, backend: u16) -> i64 {
        let bytes = self.array::<8>(name::CONNECTIONS);
        i64::from_ne_bytes(bytes.get(&backend.into(), 0).expect("an entry"))
    }

    fn put_entry<const N: usize>(&mut self, map: &str, index: u32, entry: &[u8]) {
        let mut array = self.array::<N>(map);
        let mut block = array.get(&0, 0).expect("the block");
        let at = index as usize * entry.len();
        block[at..at + entry.len()].copy_from_slice(entry);
        array.set(0, block, 0).expect("the block");
    }

    pub(crate) fn put_endpoint(
        &mut self,
        reply: bool,
        at: SocketAddr,
        protocol: u8,
        to: EndpointTarget,
    ) {
        maps::put_endpoint(&mut self.ebpf, reply, at, protocol, to).expect("a free entry");
    }

    /// Takes a service's VIP and port out of the table, as the agent does.
    pub(crate) fn remove_vip(&mut self, kind: Kind) {
        let number = u32::from(kind.number());
        if kind.v6 {
            self.bury::<32>(name::VIPS6, 24, number);
        } else {
            self.bury::<16>(name::VIPS4, 8, number);
        }
    }

    fn bury<const N: usize>(&mut self, map: &str, target: usize, number: u32) {
        let mut array = self.array::<N>(map);
        for index in 0..ENDPOINT_TABLE_MIN {
            let mut entry = array.get(&index, 0).expect("an entry");
            if entry[target..target + 4] == number.to_ne_bytes() {
                entry[target..target + 4].fill(0);
                array.set(index, entry, 0).expect("an entry");
            }
        }
    }

    /// Addresses of which the program told the agent that it misses their next hop.
    pub(crate) fn missing_neighbours(&mut self) -> Vec<[u8; 16]> {
        let map = self.ebpf.map_mut(name::EVENTS).expect("the map");
        let mut events = RingBuf::try_from(map).expect("a ring buffer");
        let mut addresses = Vec::new();
        while let Some(entry) = events.next() {
            assert_eq!(entry.len(), size_of::<Event>());
            assert_eq!(entry[..4], event::NEIGHBOUR_MISSING.to_ne_bytes());
            addresses.push(entry[8..24].try_into().expect("sixteen bytes"));
        }
        addresses
    }

    /// Tells the program the next hop towards a prefix.
    pub(crate) fn put_route(&mut self, prefix: IpAddr, bits: u32, hop: NextHop) {
        maps::put_route(&mut self.ebpf, prefix, bits, hop).expect("a route");
    }

    /// The records of `PENDING` or `FLOWS`: key and value.
    pub(crate) fn records(&self, map: &str) -> Vec<([u8; 40], [u8; 16])> {
        let map = self.ebpf.map(map).expect("the map");
        HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)
            .expect("a hash of such records")
            .iter()
            .map(|record| record.expect("a record"))
            .collect()
    }

    /// Whether `PENDING` or `FLOWS` has a record of this flow, with the tag of its key.
    pub(crate) fn has_record(&self, map: &str, key: &FlowKey) -> bool {
        let bytes = maps::bytes_of::<_, 40>(key);
        self.records(map)
            .iter()
            .any(|(of, value)| *of == bytes && value[4..8] == key.tag().to_ne_bytes())
    }

    /// Removes a record of `PENDING` or `FLOWS`.
    pub(crate) fn remove_record(&mut self, map: &str, key: [u8; 40]) {
        let map = self.ebpf.map_mut(map).expect("the map");
        HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)
            .expect("a hash of such records")
            .remove(&key)
            .expect("the record");
    }

    /// Writes a record of `PENDING` or `FLOWS`.
    pub(crate) fn put_record(&mut self, map: &str, key: [u8; 40], value: [u8; 16]) {
        let map = self.ebpf.map_mut(map).expect("the map");
        HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)
            .expect("a hash of such records")
            .insert(key, value, 0)
            .expect("room for a record");
    }
}
