//! The real program with a configuration in its maps.

use std::{
    env, fs,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, LpmTrie, Map, MapData, ProgramArray, lpm_trie::Key, xdp::DevMap},
    programs::Xdp,
};
use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget},
    flow::FlowKey,
    limits::{BLOCK_ENTRIES, ENDPOINT_PROBES, ENDPOINT_TABLE_MIN},
    maps::{
        self, AttachmentCounters, Egress, NextHop, PROGRAM, global, name, outer_sum, outer_sum6,
        service_option, way,
    },
    reason::{Action, Reason},
    record::FlowValue,
};

use super::{
    bpf,
    worlds::{COUNTERS_EACH, SERVICES_MAX},
};
use crate::model::{Backend, Service, Way, World};

/// Counters that are looked at.
const COUNTERS: u32 = COUNTERS_EACH * SERVICES_MAX as u32;
const COUNTER_WORDS: usize = size_of::<AttachmentCounters>() / 8;

/// Room for the largest frame that a test run takes, and what a program puts around it.
pub(super) const FRAME_BYTES_MAX: usize = 4096;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actual {
    /// What the program answered.
    pub(super) action: u32,
    /// The frame that came out.
    pub(super) output: Vec<u8>,
    /// Reasons that were counted, and how often.
    pub(super) reasons: Vec<(Reason, u64)>,
    /// Counters of attachments that moved, and by what.
    pub(super) counters: Vec<(u32, [u64; COUNTER_WORDS])>,
}

/// The loaded program.
pub(super) struct Balancer {
    ebpf: Ebpf,
    /// Held, lest the kernel empty it.
    _ways: ProgramArray<MapData>,
    program: i32,
    reasons: PerCpu,
    counters: PerCpu,
}

/// An array with values for each CPU, and what it was.
pub(super) struct PerCpu {
    map: i32,
    words: usize,
    cpus: usize,
    keys: Vec<u32>,
    raw: Vec<u64>,
    before: Vec<u64>,
}

impl PerCpu {
    pub(super) fn new(map: i32, entries: u32, words: usize) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| {
            anyhow::anyhow!("read the number of CPUs from {what}: {error}")
        })?;
        let entries = entries as usize;
        let mut array = Self {
            map,
            words,
            cpus,
            keys: vec![0; entries],
            raw: vec![0; entries * words * cpus],
            before: vec![0; entries * words],
        };
        array.moved()?;
        Ok(array)
    }

    /// What has moved since the last time: entry, and by what.
    pub(super) fn moved(&mut self) -> Result<Vec<(u32, Vec<u64>)>> {
        bpf::lookup_array(self.map, &mut self.keys, &mut self.raw).context("read counters")?;
        let mut moved = Vec::new();
        let each = self.words * self.cpus;
        for (entry, raw) in self.raw.chunks(each).enumerate() {
            let before = &mut self.before[entry * self.words..][..self.words];
            let mut changed = Vec::new();
            for (word, before) in before.iter_mut().enumerate() {
                let now: u64 = raw.iter().skip(word).step_by(self.words).sum();
                if now != *before && changed.is_empty() {
                    changed = vec![0; self.words];
                }
                if now != *before {
                    changed[word] = now.wrapping_sub(*before);
                    *before = now;
                }
            }
            if !changed.is_empty() {
                moved.push((entry as u32, changed));
            }
        }
        Ok(moved)
    }
}

/// The eBPF object of this name, beside the one that `cargo xtask` names.
pub(super) fn object(name: &str) -> Result<Vec<u8>> {
    let path = env::var_os("XLB_EBPF_OBJECT")
        .map_or_else(
            || {
                PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                    .join("../target/ebpf/bpfel-unknown-none/release/xlb-ebpf")
            },
            PathBuf::from,
        )
        .with_file_name(name);
    fs::read(&path).with_context(|| {
        format!(
            "read the eBPF object {}, which `cargo xtask build` makes",
            path.display()
        )
    })
}

/// The descriptor of a map.
pub(super) fn descriptor(map: &Map) -> Result<i32> {
    if let Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LpmTrie(data)
    | Map::RingBuf(data)
    | Map::DevMap(data) = map
    {
        return Ok(data.fd().as_fd().as_raw_fd());
    }
    bail!("a map of an unexpected kind: {map:?}")
}

/// Loads a program of an object, and gives its descriptor.
pub(super) fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<i32> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?;
    program.load().with_context(|| format!("load {name}"))?;
    Ok(program.fd()?.as_fd().as_raw_fd())
}

impl Balancer {
    /// Loads the program, and writes a configuration into its maps. The thread has a network namespace
    /// of its own.
    pub(super) fn load(object: &[u8], world: &World) -> Result<Self> {
        let mask = ENDPOINT_TABLE_MIN - 1;
        let mut loader = EbpfLoader::new();
        loader
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .override_global(global::HASH_KEY, &world.hash_key, true)
            .override_global(global::FEATURES, &world.features, true)
            .map_max_entries(name::PENDING, world.pending.1 as u32)
            .map_max_entries(name::FLOWS, world.flows.1 as u32)
            .map_max_entries(name::REASONS, Reason::COUNT as u32)
            .map_max_entries(name::COUNTERS, COUNTERS);
        for name in [
            global::VIPS4_MASK,
            global::VIPS6_MASK,
            global::REPLIES4_MASK,
            global::REPLIES6_MASK,
        ] {
            loader.override_global(name, &mask, true);
        }
        let mut ebpf = loader.load(object).context("load the eBPF object")?;
        let program = load_program(&mut ebpf, PROGRAM)?;
        let ways = ebpf.take_map(name::WAYS).context("a map of programs")?;
        let mut ways = ProgramArray::try_from(ways)?;
        for (index, name) in (0..).zip(way::PROGRAMS) {
            load_program(&mut ebpf, name)?;
            let program: &Xdp = ebpf.program(name).context("a program")?.try_into()?;
            ways.set(index, program.fd()?, 0)?;
        }
        let map = |name: &str| descriptor(ebpf.map(name).context("a map")?);
        let mut target = Self {
            reasons: PerCpu::new(map(name::REASONS)?, Reason::COUNT as u32, 1)?,
            counters: PerCpu::new(map(name::COUNTERS)?, COUNTERS, COUNTER_WORDS)?,
            program,
            ebpf,
            _ways: ways,
        };
        target.write(world)?;
        Ok(target)
    }

    fn map(&self, name: &str) -> Result<i32> {
        let map = self.ebpf.map(name);
        descriptor(map.with_context(|| format!("the object has no map {name}"))?)
    }

    fn put(&self, map: &str, index: u32, value: &[u8]) -> Result<()> {
        bpf::update(self.map(map)?, &index.to_ne_bytes(), value)
            .with_context(|| format!("write entry {index} of {map}"))
    }

    fn write(&mut self, world: &World) -> Result<()> {
        for (index, interface) in (1..).zip(&world.interfaces) {
            let egress = Egress {
                mac: interface.mac,
                mtu: interface.mtu,
                ifindex: interface.ifindex,
                reserved: 0,
            };
            self.put(name::EGRESS, index, bytes_of(&egress))?;
            let map = self.ebpf.map_mut(name::EGRESS_DEVICES).context("a map")?;
            // The kernel wants an interface that exists. Test runs send nothing.
            DevMap::try_from(map)?.set(index, 1, None, 0)?;
        }
        for (number, service) in (1..).zip(&world.services) {
            self.put(
                name::SERVICES,
                number,
                bytes_of(&of_service(world, number, service)),
            )?;
            let target = EndpointTarget {
                service: number,
                ..EndpointTarget::default()
            };
            self.put_endpoint(
                [name::VIPS4, name::VIPS6],
                service.vip,
                service.protocol,
                target,
            )?;
            let address = EndpointTarget {
                service: EndpointTarget::ADDRESS_ONLY,
                ..EndpointTarget::default()
            };
            let alone = std::net::SocketAddr::new(service.vip.ip(), 0);
            self.put_endpoint([name::VIPS4, name::VIPS6], alone, 0, address)?;
        }
        for (number, backend) in (1..).zip(&world.backends) {
            self.put(name::BACKENDS, number, bytes_of(&of_backend(backend)))?;
        }
        for (endpoint, protocol, service, backend) in world.repliers() {
            let target = EndpointTarget {
                service: service as u32 + 1,
                backend,
                ..EndpointTarget::default()
            };
            self.put_endpoint([name::REPLIES4, name::REPLIES6], endpoint, protocol, target)?;
        }
        self.write_rings(world)?;
        self.write_routes(world)?;
        self.reset(world)
    }

    fn write_rings(&self, world: &World) -> Result<()> {
        let mut ring = vec![0_u8; 2 * BLOCK_ENTRIES];
        let mut slots = vec![0_u8; 8 * BLOCK_ENTRIES];
        let mut turns = vec![0_u8; 2 * BLOCK_ENTRIES];
        for pool in &world.pools {
            for (slot, word) in (pool.offset as usize..).zip(&pool.slots) {
                ring[slot * 2..][..2].copy_from_slice(&word.stable().to_ne_bytes());
                slots[slot * 8..][..8].copy_from_slice(&word.0.to_ne_bytes());
            }
            for (turn, number) in (pool.offset as usize..).zip(&pool.sequence) {
                turns[turn * 2..][..2].copy_from_slice(&number.to_ne_bytes());
            }
        }
        self.put(name::RING, 0, &ring)?;
        self.put(name::SLOTS, 0, &slots)?;
        self.put(name::SEQUENCES, 0, &turns)
    }

    fn write_routes(&mut self, world: &World) -> Result<()> {
        for route in &world.routes {
            let hop = route.way.map_or(NextHop::LOCAL, next_hop).0;
            let bits = route.bits.into();
            match route.prefix {
                IpAddr::V4(address) => {
                    let map = self.ebpf.map_mut(name::ROUTES4).context("a map")?;
                    let mut trie = LpmTrie::<_, [u8; 4], u64>::try_from(map)?;
                    trie.insert(&Key::new(bits, address.octets()), hop, 0)?;
                }
                IpAddr::V6(address) => {
                    let map = self.ebpf.map_mut(name::ROUTES6).context("a map")?;
                    let mut trie = LpmTrie::<_, [u8; 16], u64>::try_from(map)?;
                    trie.insert(&Key::new(bits, address.octets()), hop, 0)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets what runs have left in the maps.
    pub(super) fn reset(&mut self, world: &World) -> Result<()> {
        for (map, records) in [
            (name::PENDING, &world.pending.0),
            (name::FLOWS, &world.flows.0),
        ] {
            let mut table = HashMap::<_, [u8; 40], [u8; 16]>::try_from(
                self.ebpf.map_mut(map).context("a map")?,
            )?;
            let keys: Vec<[u8; 40]> = table.keys().collect::<Result<_, _>>()?;
            for key in keys {
                table.remove(&key)?;
            }
            for (key, value) in records {
                bpf::update(self.map(map)?, bytes_of(key), bytes_of(value))?;
            }
        }
        self.put(name::LAST_MISS, 0, &vec![0; 4 * BLOCK_ENTRIES])?;
        for (number, service) in (1..).zip(&world.services) {
            self.put(
                name::CURSORS,
                number,
                &u64::from(service.turns).to_ne_bytes(),
            )?;
        }
        for (number, backend) in (1..).zip(&world.backends) {
            self.put(
                name::CONNECTIONS,
                number,
                &backend.connections.to_ne_bytes(),
            )?;
        }
        Ok(())
    }

    fn put_endpoint(
        &self,
        maps: [&str; 2],
        at: std::net::SocketAddr,
        protocol: u8,
        to: EndpointTarget,
    ) -> Result<()> {
        let port_be = at.port().to_be();
        let mut entry;
        let (map, home) = match at.ip() {
            IpAddr::V4(address) => {
                let key = Endpoint4::new(u32::from_ne_bytes(address.octets()), port_be, protocol);
                entry = key.0.to_ne_bytes().to_vec();
                (maps[0], key.home())
            }
            IpAddr::V6(address) => {
                let octets = address.octets();
                let words = [0, 8].map(|at| {
                    let mut word = [0; 8];
                    word.copy_from_slice(&octets[at..at + 8]);
                    u64::from_ne_bytes(word)
                });
                let key = Endpoint6::new(words, port_be, protocol);
                entry = octets.to_vec();
                entry.extend(key.port_protocol.to_ne_bytes());
                entry.extend([0; 4]);
                (maps[1], key.home())
            }
        };
        let key_bytes = entry.len();
        entry.extend(bytes_of(&to));
        let map_fd = self.map(map)?;
        for probe in 0..ENDPOINT_PROBES {
            let index = home.wrapping_add(probe) & (ENDPOINT_TABLE_MIN - 1);
            let mut there = vec![0; entry.len()];
            bpf::lookup(map_fd, &index.to_ne_bytes(), &mut there)?;
            if there[..key_bytes] == entry[..key_bytes] {
                return Ok(());
            }
            if there.iter().all(|byte| *byte == 0) {
                return self.put(map, index, &entry);
            }
        }
        bail!("{map} has no place for {at}")
    }

    /// Runs the program once.
    pub(super) fn run(&mut self, input: &[u8]) -> Result<Actual> {
        let mut output = [0; FRAME_BYTES_MAX];
        let (action, length) = bpf::test_run(self.program, input, &mut output)
            .with_context(|| format!("a test run of {} bytes", input.len()))?;
        let reasons = self.reasons.moved()?;
        let counters = self.counters.moved()?;
        Ok(Actual {
            action,
            output: output[..length.min(FRAME_BYTES_MAX)].to_vec(),
            reasons: reasons
                .into_iter()
                .map(|(index, by)| (Reason::ALL[index as usize], by[0]))
                .collect(),
            counters: counters
                .into_iter()
                .map(|(index, by)| {
                    let mut words = [0; COUNTER_WORDS];
                    words.copy_from_slice(&by);
                    (index, words)
                })
                .collect(),
        })
    }

    /// The records of a table.
    pub(super) fn records(&self, map: &str) -> Result<Vec<(FlowKey, FlowValue)>> {
        let map = self.ebpf.map(map).context("a map")?;
        HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)?
            .iter()
            .map(|record| {
                let (key, value) = record?;
                // SAFETY: both are integers without padding, as many bytes as stand here.
                Ok(unsafe {
                    (
                        key.as_ptr().cast::<FlowKey>().read_unaligned(),
                        value.as_ptr().cast::<FlowValue>().read_unaligned(),
                    )
                })
            })
            .collect()
    }

    /// When flows without a record last used the `stable` of slots, by their place in the arena.
    pub(super) fn last_miss_s(&self) -> Result<Vec<u32>> {
        let mut block = vec![0; 4 * BLOCK_ENTRIES];
        bpf::lookup(self.map(name::LAST_MISS)?, &0_u32.to_ne_bytes(), &mut block)?;
        Ok(block
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect())
    }

    /// How many connections of a backend are open.
    pub(super) fn connections(&self, number: u32) -> Result<i64> {
        let mut value = [0; 8];
        bpf::lookup(
            self.map(name::CONNECTIONS)?,
            &number.to_ne_bytes(),
            &mut value,
        )?;
        Ok(i64::from_ne_bytes(value))
    }
}

/// What an action is to the kernel (`enum xdp_action`).
pub(super) const fn number(action: Action) -> u32 {
    match action {
        Action::Drop => 1,
        Action::Pass => 2,
        Action::Tx => 3,
        Action::Redirect => 4,
    }
}

fn next_hop(way: Way) -> NextHop {
    NextHop::new(way.mac, way.egress)
}

fn bytes16(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn of_service(world: &World, number: u32, service: &Service) -> maps::Service {
    let pool = &world.pools[service.pool];
    maps::Service {
        vip: bytes16(service.vip.ip()),
        port_be: service.vip.port().to_be(),
        protocol: service.protocol,
        family: if service.vip.is_ipv6() { 6 } else { 4 },
        forward: service.forward,
        options: if service.second_chance {
            service_option::SECOND_CHANCE
        } else {
            0
        },
        ring_offset: pool.offset,
        ring_slots: pool.slots.len() as u32,
        state: world.state(service),
        counter_base: service.counter_base,
        number,
        sequence_length: pool.sequence.len() as u32,
        ..maps::Service::default()
    }
}

fn of_backend(backend: &Backend) -> maps::Backend {
    let outer = match (backend.outer_source, backend.address.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => outer_sum(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => outer_sum6(from.octets(), to.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    maps::Backend {
        next_hop: backend.next_hop.map_or(NextHop::NONE, next_hop).0,
        flags: backend.flags,
        port_be: backend.address.port().to_be(),
        position: backend.position,
        outer_sum: outer,
        address: bytes16(backend.address.ip()),
        outer_source: bytes16(backend.outer_source),
        family: if backend.address.is_ipv6() { 6 } else { 4 },
        weight: backend.weight,
        ..maps::Backend::default()
    }
}

/// The bytes of a value of a map.
pub(super) fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: the maps' values are plain integers without padding, and live as long as the borrow.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
