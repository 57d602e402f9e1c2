//! The real program with a configuration in its maps.

mod per_cpu;
mod values;
mod wide;

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, ProgramArray, xdp::DevMap},
    programs::{TestRun, TestRunOptions, Xdp},
};
use xlb_common::{
    endpoint::EndpointTarget,
    flow::FlowKey,
    fragment::{self, FragmentRecord},
    limits::BLOCK_ENTRIES,
    maps::{AttachmentCounters, NextHop, PROGRAM, name},
    reason::{Action, Reason},
    record::FlowValue,
};

use self::per_cpu::PerCpu;
use super::worlds::{COUNTERS_EACH, SERVICES_MAX};
use crate::{
    model::World,
    programs::{
        load,
        maps::{array, bytes_of, put, put_endpoint, put_route},
    },
};

/// Counters that are looked at.
const COUNTERS: u32 = COUNTERS_EACH * SERVICES_MAX as u32;
const COUNTER_WORDS: usize = size_of::<AttachmentCounters>() / 8;

/// Datagrams that are remembered: more than there are, for what the kernel forgets is its choice.
const FRAGMENTED: u32 = 65_536;

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
    reasons: PerCpu,
    counters: PerCpu,
}

impl Balancer {
    /// Loads the program, and writes a configuration into its maps. The thread has a network namespace
    /// of its own.
    pub(super) fn load(object: &[u8], world: &World) -> Result<Self> {
        let (pending, flows) = (world.pending.1 as u32, world.flows.1 as u32);
        let mut ebpf = load::balancer(&world.features, &world.hash_key, pending, flows)
            .map_max_entries(name::REASONS, Reason::COUNT as u32)
            .map_max_entries(name::COUNTERS, COUNTERS)
            .map_max_entries(name::FRAGMENTS, FRAGMENTED)
            .load(object)
            .context("load the eBPF object")?;
        let ways = load::programs(&mut ebpf)?;
        let mut target = Self {
            reasons: PerCpu::new(per_cpu(&ebpf, name::REASONS)?, Reason::COUNT as u32, 1)?,
            counters: PerCpu::new(per_cpu(&ebpf, name::COUNTERS)?, COUNTERS, COUNTER_WORDS)?,
            ebpf,
            _ways: ways,
        };
        target.write(world)?;
        Ok(target)
    }

    fn write(&mut self, world: &World) -> Result<()> {
        let ebpf = &mut self.ebpf;
        for (index, interface) in (1..).zip(&world.interfaces) {
            let egress = bytes_of::<_, 16>(&values::egress(interface));
            put(ebpf, name::EGRESS, index, egress)?;
            let map = ebpf.map_mut(name::EGRESS_DEVICES).context("a map")?;
            // The kernel wants an interface that exists. Test runs send nothing.
            DevMap::try_from(map)?.set(index, 1, None, 0)?;
        }
        for (number, service) in (1..).zip(&world.services) {
            let value = bytes_of::<_, 64>(&values::service(world, number, service));
            put(ebpf, name::SERVICES, number, value)?;
            let target = EndpointTarget {
                service: number,
                ..EndpointTarget::default()
            };
            if !service.is_exact() {
                continue;
            }
            put_endpoint(ebpf, false, service.vip, service.protocol, target)?;
            if service.fragments_by_address {
                let at = SocketAddr::new(service.vip.ip(), service.protocol.into());
                put_endpoint(ebpf, false, at, fragment::ENDPOINT_PROTOCOL, target)?;
            }
            let address = EndpointTarget {
                service: EndpointTarget::ADDRESS_ONLY,
                ..EndpointTarget::default()
            };
            let alone = SocketAddr::new(service.vip.ip(), 0);
            put_endpoint(ebpf, false, alone, 0, address)?;
        }
        for (number, backend) in (1..).zip(&world.backends) {
            let value = bytes_of::<_, 128>(&values::backend(backend));
            put(ebpf, name::BACKENDS, number, value)?;
        }
        for it in world.repliers() {
            if it.ports.start() == it.ports.end() {
                let endpoint = SocketAddr::new(it.address, *it.ports.start());
                put_endpoint(ebpf, true, endpoint, it.protocol, wide::reply(&it))?;
            }
        }
        wide::write(ebpf, world)?;
        for route in &world.routes {
            let hop = route.way.map_or(NextHop::LOCAL, values::next_hop);
            put_route(ebpf, route.prefix, route.bits.into(), hop)?;
        }
        self.write_rings(world)?;
        self.reset(world)
    }

    fn write_rings(&mut self, world: &World) -> Result<()> {
        let mut ring = [0; 2 * BLOCK_ENTRIES];
        let mut slots = [0; 8 * BLOCK_ENTRIES];
        let mut turns = [0; 2 * BLOCK_ENTRIES];
        for pool in &world.pools {
            for (slot, word) in (pool.offset as usize..).zip(&pool.slots) {
                ring[slot * 2..][..2].copy_from_slice(&word.stable().to_ne_bytes());
                slots[slot * 8..][..8].copy_from_slice(&word.0.to_ne_bytes());
            }
            for (turn, number) in (pool.offset as usize..).zip(&pool.sequence) {
                turns[turn * 2..][..2].copy_from_slice(&number.to_ne_bytes());
            }
        }
        put(&mut self.ebpf, name::RING, 0, ring)?;
        put(&mut self.ebpf, name::SLOTS, 0, slots)?;
        put(&mut self.ebpf, name::SEQUENCES, 0, turns)
    }

    /// Forgets what runs have left in the maps.
    pub(super) fn reset(&mut self, world: &World) -> Result<()> {
        let ebpf = &mut self.ebpf;
        for (map, records) in [
            (name::PENDING, &world.pending.0),
            (name::FLOWS, &world.flows.0),
        ] {
            let map = ebpf.map_mut(map).context("a map")?;
            let mut table = HashMap::<_, [u8; 40], [u8; 16]>::try_from(map)?;
            let keys: Vec<[u8; 40]> = table.keys().collect::<Result<_, _>>()?;
            for key in keys {
                table.remove(&key)?;
            }
            for (key, value) in records {
                table.insert(bytes_of::<_, 40>(key), bytes_of::<_, 16>(value), 0)?;
            }
        }
        let map = ebpf.map_mut(name::FRAGMENTS).context("a map")?;
        let mut datagrams =
            HashMap::<_, [u8; 40], [u8; size_of::<FragmentRecord>()]>::try_from(map)?;
        let keys: Vec<[u8; 40]> = datagrams.keys().collect::<Result<_, _>>()?;
        for key in keys {
            datagrams.remove(&key)?;
        }
        put(ebpf, name::LAST_MISS, 0, [0; 4 * BLOCK_ENTRIES])?;
        for (number, service) in (1..).zip(&world.services) {
            let turns = u64::from(service.turns).to_ne_bytes();
            put(ebpf, name::CURSORS, number, turns)?;
        }
        for (number, backend) in (1..).zip(&world.backends) {
            let open = backend.connections.to_ne_bytes();
            put(ebpf, name::CONNECTIONS, number, open)?;
        }
        Ok(())
    }

    /// Runs the program once.
    pub(super) fn run(&mut self, input: &[u8]) -> Result<Actual> {
        let mut output = [0; FRAME_BYTES_MAX];
        let program: &Xdp = self
            .ebpf
            .program(PROGRAM)
            .context("a program")?
            .try_into()?;
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(input),
                data_out: Some(&mut output),
                ..TestRunOptions::default()
            })
            .with_context(|| format!("a test run of {} bytes", input.len()))?;
        let length = result.data_size_out as usize;
        let reasons = self.reasons.moved()?;
        let counters = self.counters.moved()?;
        Ok(Actual {
            action: result.return_value,
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
    pub(super) fn last_miss_s(&mut self) -> Result<Vec<u32>> {
        let blocks = array::<{ 4 * BLOCK_ENTRIES }>(&mut self.ebpf, name::LAST_MISS)?;
        let block = blocks.get(&0, 0)?;
        Ok(block
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
            .collect())
    }

    /// How many connections of a backend are open.
    pub(super) fn connections(&mut self, number: u32) -> Result<i64> {
        let open = array::<8>(&mut self.ebpf, name::CONNECTIONS)?;
        Ok(i64::from_ne_bytes(open.get(&number, 0)?))
    }
}

/// The descriptor of an array with values for each CPU.
fn per_cpu(ebpf: &Ebpf, name: &str) -> Result<i32> {
    match ebpf.map(name) {
        Some(Map::PerCpuArray(data)) => Ok(data.fd().as_fd().as_raw_fd()),
        _ => bail!("the object has no array {name} with values for each CPU"),
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
