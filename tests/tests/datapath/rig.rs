//! A small configuration in the maps, and runs of the program on it: what went in, what came out,
//! and every counter that moved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key, xdp::DevMap},
    programs::{TestRun, TestRunOptions, Xdp},
};
use nix::sched::{CloneFlags, unshare};
use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget, Entry, Entry4, Entry6},
    limits::{BLOCK_ENTRIES, ENDPOINT_TABLE_MIN},
    maps::{
        AttachmentCounters, Backend, Egress, Event, NextHop, PROGRAM, Service, backend_flag, event,
        feature, forward, name, outer_sum, protocol,
    },
    reason::Reason,
    slot::SlotWord,
};

use crate::{
    frame::{Carries, Frame, verify_checksums},
    program,
};

pub(crate) const PASS: u32 = 2;
pub(crate) const DROP: u32 = 1;
pub(crate) const TX: u32 = 3;
pub(crate) const REDIRECT: u32 = 4;

/// Every feature that a configuration can use.
pub(crate) const ALL_FEATURES: u32 = feature::IPV4
    | feature::IPV6
    | feature::DNAT
    | feature::L2_DSR
    | feature::IPIP
    | feature::REDIRECT;

/// The loopback interface of the namespace, which test runs seem to come in on.
pub(crate) const LOOPBACK: u32 = 1;
/// Index in `EGRESS` of the interface that packets come in on.
pub(crate) const SAME: u16 = 1;
/// Index in `EGRESS` of an interface that the program takes for another one.
pub(crate) const OTHER: u16 = 2;
pub(crate) const MTU: u16 = 1500;

pub(crate) const BACKEND_PORT: u16 = 8080;
pub(crate) const CLIENT_PORT: u16 = 40_000;
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];

/// A service, of which there is one for each combination, with one backend each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    pub(crate) forward: u8,
}

impl Kind {
    pub(crate) fn all() -> Vec<Self> {
        let mut kinds = Vec::new();
        for v6 in [false, true] {
            for protocol in [protocol::TCP, protocol::UDP] {
                for forward in [forward::DNAT, forward::L2_DSR, forward::IPIP] {
                    kinds.push(Self {
                        v6,
                        protocol,
                        forward,
                    });
                }
            }
        }
        kinds
    }

    pub(crate) const fn new(v6: bool, protocol: u8, forward: u8) -> Self {
        Self {
            v6,
            protocol,
            forward,
        }
    }

    /// Number of the service and of its backend.
    pub(crate) fn number(self) -> u16 {
        let at = Self::all().iter().position(|&kind| kind == self);
        1 + at.expect("one of them all") as u16
    }

    pub(crate) fn vip(self) -> SocketAddr {
        SocketAddr::new(vip(self.v6), 80 + u16::from(self.forward))
    }

    /// Index of the counters of its backend, which stands at position 1.
    pub(crate) fn counter(self) -> u32 {
        u32::from(self.number()) * 2 + 1
    }

    /// First slot of its ring.
    pub(crate) fn slot(self) -> u32 {
        u32::from(self.number()) * 16
    }

    /// A packet of a client that opens a connection, or a datagram.
    pub(crate) fn request(self) -> Frame {
        let carries = if self.protocol == protocol::TCP {
            Carries::Syn(1000)
        } else {
            Carries::Udp
        };
        to_vip(self.vip(), carries)
    }

    /// What the program should make of a request under `dnat`, or of the frame within `ipip`.
    pub(crate) fn forwarded(self, request: &Frame) -> Frame {
        request.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(self.number());
            frame.ttl -= 1;
            if self.forward == forward::DNAT {
                frame.destination = SocketAddr::new(self.backend(), BACKEND_PORT);
            }
        })
    }

    pub(crate) fn backend(self) -> IpAddr {
        backend_address(self.v6, self.number())
    }

    pub(crate) fn service(self) -> Service {
        Service {
            vip: bytes16(self.vip().ip()),
            port_be: self.vip().port().to_be(),
            protocol: self.protocol,
            family: if self.v6 { 6 } else { 4 },
            forward: self.forward,
            ring_offset: self.slot(),
            ring_slots: 1,
            counter_base: u32::from(self.number()) * 2,
            ..Service::default()
        }
    }
}

pub(crate) fn client(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))
    }
}

pub(crate) fn vip(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))
    }
}

pub(crate) fn backend_address(v6: bool, number: u16) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number))
    } else {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(number)))
    }
}

pub(crate) fn outer_source(v6: bool) -> IpAddr {
    backend_address(v6, 200)
}

pub(crate) fn backend_mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 1, high, low]
}

pub(crate) fn egress_mac(egress: u16) -> [u8; 6] {
    [2, 0, 0, 2, 0, egress as u8]
}

/// A client's packet to a VIP, from the router to this host.
pub(crate) fn to_vip(vip: SocketAddr, carries: Carries) -> Frame {
    Frame {
        source_mac: ROUTER_MAC,
        destination_mac: egress_mac(SAME),
        source: SocketAddr::new(client(vip.is_ipv6()), CLIENT_PORT),
        destination: vip,
        ttl: 61,
        carries,
        payload: b"what a client has to say".to_vec(),
    }
}

pub(crate) fn bytes16(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn words(address: Ipv6Addr) -> [u64; 2] {
    let bytes = address.octets();
    [0, 8].map(|at| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes")))
}

pub(crate) fn backend(v6: bool, number: u16) -> Backend {
    let outer = match (outer_source(v6), backend_address(v6, number)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => outer_sum(from.octets(), to.octets()),
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => 0,
    };
    Backend {
        next_hop: NextHop::new(backend_mac(number), SAME).0,
        flags: backend_flag::USED,
        port_be: BACKEND_PORT.to_be(),
        position: 1,
        outer_sum: outer,
        address: bytes16(backend_address(v6, number)),
        outer_source: bytes16(outer_source(v6)),
        family: if v6 { 6 } else { 4 },
        reserved: [0; 15],
        pool: 0,
        weight: 1,
        cause: 0,
        down_since_s: 0,
        drain_deadline_s: 0,
        reserved_end: [0; 12],
    }
}

/// What a run should come to.
pub(crate) struct Expected {
    pub(crate) action: u32,
    /// The frame that comes out; of a dropped frame there is none.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Reasons that are counted, once each.
    pub(crate) reasons: Vec<Reason>,
    /// Counters of attachments that move, and by what.
    pub(crate) counters: Vec<(u32, AttachmentCounters)>,
}

impl Expected {
    /// Goes on untouched, for this reason.
    pub(crate) fn passed(reason: Reason, bytes: &[u8]) -> Self {
        Self {
            action: PASS,
            bytes: Some(bytes.to_vec()),
            reasons: vec![reason],
            counters: Vec::new(),
        }
    }

    /// Is dropped, for this reason.
    pub(crate) fn dropped(reason: Reason) -> Self {
        Self {
            action: DROP,
            bytes: None,
            reasons: vec![reason],
            counters: Vec::new(),
        }
    }

    /// Leaves for a backend, counted at `counter`.
    pub(crate) fn forwarded(input: &Frame, counter: u32, bytes: Vec<u8>) -> Self {
        let counters = AttachmentCounters {
            packets: 1,
            bytes: input.bytes().len() as u64,
            connections: u64::from(matches!(input.carries, Carries::Syn(_))),
            ..AttachmentCounters::default()
        };
        Self {
            action: TX,
            bytes: Some(bytes),
            reasons: Vec::new(),
            counters: vec![(counter, counters)],
        }
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) action: u32,
    pub(crate) bytes: Vec<u8>,
    reasons: Vec<(Reason, u64)>,
    counters: Vec<(u32, [u64; 8])>,
}

/// The program with its maps.
pub(crate) struct Rig {
    ebpf: Ebpf,
}

impl Rig {
    /// A service of each kind, and their backends, for a program with these features. The thread
    /// gets a network namespace of its own, so that the host's routes and forwarding play no part.
    pub(crate) fn new(features: u32) -> Self {
        let ebpf = program::load(features);
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for this thread");
        let mut rig = Self { ebpf };
        for egress in [SAME, OTHER] {
            let value = Egress {
                mac: egress_mac(egress),
                mtu: MTU,
                ifindex: if egress == SAME { LOOPBACK } else { 99 },
                reserved: 0,
            };
            rig.put::<_, 16>(name::EGRESS, egress.into(), &value);
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
        assert_eq!(size_of::<T>(), N);
        // SAFETY: the maps' values are plain integers without padding, N bytes as asserted.
        let bytes = unsafe { std::ptr::from_ref(value).cast::<[u8; N]>().read() };
        self.array::<N>(map).set(index, bytes, 0).expect("an entry");
    }

    fn array<const N: usize>(&mut self, map: &str) -> Array<&mut aya::maps::MapData, [u8; N]> {
        Array::try_from(self.ebpf.map_mut(map).expect("the map")).expect("an array of such values")
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

    fn put_entry<const N: usize>(&mut self, map: &str, index: u32, entry: &[u8]) {
        let mut array = self.array::<N>(map);
        let mut block = array.get(&0, 0).expect("the block");
        let at = index as usize * entry.len();
        block[at..at + entry.len()].copy_from_slice(entry);
        array.set(0, block, 0).expect("the block");
    }

    fn put_endpoint(&mut self, reply: bool, at: SocketAddr, protocol: u8, to: EndpointTarget) {
        let port_be = at.port().to_be();
        match at.ip() {
            IpAddr::V4(address) => {
                let key = Endpoint4::new(u32::from_ne_bytes(address.octets()), port_be, protocol);
                let map = if reply { name::REPLIES4 } else { name::VIPS4 };
                self.put_hashed::<_, 16>(map, &<Entry4 as Entry>::new(key, to), key.home());
            }
            IpAddr::V6(address) => {
                let key = Endpoint6::new(words(address), port_be, protocol);
                let map = if reply { name::REPLIES6 } else { name::VIPS6 };
                let mut entry = [0u8; 32];
                entry[..16].copy_from_slice(&address.octets());
                entry[16..20].copy_from_slice(&key.port_protocol.to_ne_bytes());
                entry[24..28].copy_from_slice(&to.service.to_ne_bytes());
                entry[28..30].copy_from_slice(&to.backend.to_ne_bytes());
                assert_eq!(size_of::<Entry6>(), entry.len());
                self.put_hashed::<_, 32>(map, &entry, key.home());
            }
        }
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

    fn put_hashed<T: Copy, const N: usize>(&mut self, map: &str, entry: &T, home: u32) {
        let array = self.array::<N>(map);
        let free = (0..ENDPOINT_TABLE_MIN)
            .map(|probe| home.wrapping_add(probe) & (ENDPOINT_TABLE_MIN - 1))
            .find(|index| array.get(index, 0).expect("an entry") == [0; N]);
        self.put::<T, N>(map, free.expect("a free entry"), entry);
    }

    /// Tells the program the next hop towards a prefix.
    pub(crate) fn put_route(&mut self, prefix: IpAddr, bits: u32, hop: NextHop) {
        match prefix {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(name::ROUTES4).expect("the map");
                let mut trie = LpmTrie::<_, [u8; 4], u64>::try_from(map).expect("a trie");
                trie.insert(&Key::new(bits, address.octets()), hop.0, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(name::ROUTES6).expect("the map");
                let mut trie = LpmTrie::<_, [u8; 16], u64>::try_from(map).expect("a trie");
                trie.insert(&Key::new(bits, address.octets()), hop.0, 0)
            }
        }
        .expect("a route");
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

    /// Writes a record of `PENDING` or `FLOWS`.
    pub(crate) fn put_record(&mut self, map: &str, key: [u8; 40], value: [u8; 16]) {
        let map = self.ebpf.map_mut(map).expect("the map");
        HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)
            .expect("a hash of such records")
            .insert(key, value, 0)
            .expect("room for a record");
    }

    fn reasons(&self) -> Vec<u64> {
        let map = self.ebpf.map(name::REASONS).expect("the map");
        let map = PerCpuArray::<_, u64>::try_from(map).expect("a per-CPU array");
        (0..Reason::COUNT as u32)
            .map(|index| map.get(&index, 0).expect("a counter").iter().sum())
            .collect()
    }

    fn counters(&self) -> Vec<[u64; 8]> {
        let map = self.ebpf.map(name::COUNTERS).expect("the map");
        let map = PerCpuArray::<_, [u64; 8]>::try_from(map).expect("a per-CPU array");
        (0..map.len())
            .map(|index| {
                let values = map.get(&index, 0).expect("counters");
                std::array::from_fn(|field| values.iter().map(|value| value[field]).sum())
            })
            .collect()
    }

    /// Runs the program once on these bytes.
    pub(crate) fn run(&self, input: &[u8]) -> Outcome {
        let (reasons, counters) = (self.reasons(), self.counters());
        let program = self.ebpf.program(PROGRAM).expect("the program");
        let program: &Xdp = program.try_into().expect("a program of type XDP");
        let mut bytes = vec![0; input.len() + 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(input),
                data_out: Some(&mut bytes),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        bytes.truncate(result.data_size_out as usize);
        let moved = self.reasons().into_iter().zip(reasons);
        let reasons = moved
            .zip(Reason::ALL)
            .filter(|((now, before), _)| now != before)
            .map(|((now, before), &reason)| (reason, now - before))
            .collect();
        let counters = (0..)
            .zip(self.counters().into_iter().zip(counters))
            .filter(|(_, (now, before))| now != before)
            .map(|(index, (now, before))| {
                (
                    index,
                    std::array::from_fn(|field| now[field] - before[field]),
                )
            })
            .collect();
        Outcome {
            action: result.return_value,
            bytes,
            reasons,
            counters,
        }
    }

    /// Runs the program and checks everything that comes of it.
    pub(crate) fn check(&self, name: &str, input: &[u8], expected: &Expected) {
        let outcome = self.run(input);
        let reasons: Vec<_> = expected.reasons.iter().map(|&reason| (reason, 1)).collect();
        assert_eq!(outcome.reasons, reasons, "{name}: reasons");
        assert_eq!(outcome.action, expected.action, "{name}: action");
        let counters: Vec<_> = expected
            .counters
            .iter()
            .map(|(index, counters)| (*index, fields(counters)))
            .collect();
        assert_eq!(outcome.counters, counters, "{name}: counters");
        if let Some(bytes) = &expected.bytes {
            assert_eq!(hex(&outcome.bytes), hex(bytes), "{name}: bytes");
        }
        if [TX, REDIRECT].contains(&outcome.action) {
            verify_checksums(name, &outcome.bytes);
        }
    }
}

fn fields(counters: &AttachmentCounters) -> [u64; 8] {
    let AttachmentCounters {
        packets,
        bytes,
        connections,
        reply_packets,
        reply_bytes,
        reserved: [a, b, c],
    } = *counters;
    [
        packets,
        bytes,
        connections,
        reply_packets,
        reply_bytes,
        a,
        b,
        c,
    ]
}

/// Sixteen bytes a line, so that a failure shows where two frames differ.
fn hex(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect())
        .collect()
}
