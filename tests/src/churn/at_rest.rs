//! A pool at rest: flows of any number leave no trace in the tables of flows, nor in memory.

use std::fs;

use aya::{
    maps::{HashMap, Map, MapData},
    programs::{TestRun, TestRunOptions, Xdp},
};
use aya_obj::programs::XdpAttachType;
use serde::Serialize;
use serde_json::Value;
use xlb_common::{
    flow::FlowKey,
    maps::{LAYOUT_VERSION, name},
    reason::Reason,
    record::FlowValue,
};

use super::{
    flood::{ACK, SYN, spoofed},
    stage::{Pool, Stage},
};
use crate::lab::{Agent, NetNs, wait_until};

/// The pool that is at rest until all else has been seen.
pub(super) const POOL: Pool = Pool {
    name: "at-rest",
    port: 8000,
};

/// Flows before memory is looked at, so that what grows once has grown.
const WARM_UP: u32 = 1000;
/// Flows that show that lookups and records are seen where there are some. Their records stay, so
/// there are few.
const MOVING: u32 = 1000;
/// What the agent may take more, for reasons of its own: a quarter of a byte a flow, where there are
/// a million of them.
const AGENT_SLACK_BYTES: u64 = 256 * 1024;

const KEY_BYTES: usize = size_of::<FlowKey>();
const VALUE_BYTES: usize = size_of::<FlowValue>();

/// What is reported of a pool at rest.
#[derive(Debug, Serialize)]
pub struct AtRest {
    /// Distinct flows.
    pub flows: u32,
    /// Packets that a node of the fleet has sent to backends: a SYN and a segment of each flow.
    pub packets: u64,
    /// Packets that were looked up in a table of flows.
    pub table_lookups: u64,
    /// Records that the tables of flows have more than before.
    pub records: u64,
    /// Memory before the flows.
    pub memory_before: Memory,
    /// Memory after them.
    pub memory_after: Memory,
    /// The same while slots move, which shows that lookups and records are seen.
    pub moving: Moving,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of all maps.
    pub maps: u64,
    /// Resident memory of the agent.
    pub agent: u64,
}

/// What fewer flows leave while slots move.
#[derive(Debug, Serialize)]
pub struct Moving {
    /// Distinct flows.
    pub flows: u32,
    /// Packets that were looked up in a table of flows.
    pub table_lookups: u64,
    /// Records that the tables of flows have more than before.
    pub records: u64,
}

/// What a node has counted.
struct Counts {
    packets: u64,
    table_lookups: u64,
    records: u64,
    maps_bytes: u64,
}

/// Has the program of one node, as it runs there, handle a SYN and a segment of each flow; the pool
/// moves afterwards.
pub(super) fn run(stage: &Stage, flows: u32) -> AtRest {
    eprintln!("at rest: {flows} flows");
    let agent = &stage.agents[0];
    let ns = &stage.fleet.nodes[0].ns;
    handle(ns, agent, flows..flows + WARM_UP);
    let before = Counts::of(ns, agent);
    let memory_before = before.memory(agent);
    handle(ns, agent, 0..flows);
    let after = Counts::of(ns, agent);
    let memory_after = after.memory(agent);

    let new = stage.endpoint(stage.backends, POOL).to_string();
    stage.tell(&["backend", "add", POOL.name, &new, "--weight", "2"]);
    wait_until("slots move", super::cases::SEEN_LIMIT, || {
        stage
            .numbers("pools", POOL.name, "/moving_slots")
            .iter()
            .all(|&it| it > 0)
    });
    let moving = Counts::of(ns, agent);
    handle(ns, agent, 0..MOVING);
    let moved = Counts::of(ns, agent);
    AtRest {
        flows,
        packets: after.packets - before.packets,
        table_lookups: after.table_lookups - before.table_lookups,
        records: after.records.abs_diff(before.records),
        memory_before,
        memory_after,
        moving: Moving {
            flows: MOVING,
            table_lookups: moved.table_lookups - moving.table_lookups,
            records: moved.records.saturating_sub(moving.records),
        },
    }
}

impl AtRest {
    /// What it came to, for people.
    pub(super) fn lines(&self) -> String {
        let (before, after) = (self.memory_before, self.memory_after);
        format!(
            "At rest: {} flows, {} packets: {} looked up in tables, {} records; memory of the maps \
             {} -> {} bytes, of the agent {} -> {}\n\
             Moving: {} flows: {} packets looked up in tables, {} records\n",
            self.flows,
            self.packets,
            self.table_lookups,
            self.records,
            before.maps,
            after.maps,
            before.agent,
            after.agent,
            self.moving.flows,
            self.moving.table_lookups,
            self.moving.records
        )
    }

    /// What should hold and does not.
    pub(super) fn complaints(&self) -> Vec<String> {
        let (before, after) = (self.memory_before, self.memory_after);
        let holds = [
            (
                self.packets == 2 * u64::from(self.flows),
                "packets went astray",
            ),
            (self.table_lookups == 0, "tables of flows were looked into"),
            (self.records == 0, "flows were recorded"),
            (
                before.maps > 0 && after.maps == before.maps,
                "maps took memory",
            ),
            (
                before.agent > 0 && after.agent <= before.agent + AGENT_SLACK_BYTES,
                "the agent took memory",
            ),
            (self.moving.table_lookups > 0, "lookups are not seen"),
            (self.moving.records > 0, "records are not seen"),
        ];
        let failed = holds.into_iter().filter(|(holds, _)| !holds);
        failed.map(|(_, what)| format!("at rest: {what}")).collect()
    }
}

/// Gives the program that is loaded on a node packets of these flows.
fn handle(ns: &NetNs, agent: &Agent, flows: std::ops::Range<u32>) {
    let pin = agent.pin_directory().join(LAYOUT_VERSION).join("program");
    ns.run(|| {
        let program = Xdp::from_pin(&pin, XdpAttachType::Interface).expect("the pinned program");
        let mut frame = [0; 54];
        // IPv4.
        frame[12] = 8;
        for flow in flows {
            for (sequence, flags) in [(0, SYN), (1, ACK)] {
                frame[14..].copy_from_slice(&spoofed(flow, POOL.port, sequence, flags));
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    ..TestRunOptions::default()
                };
                program.test_run(options).expect("a test run");
            }
        }
    });
}

impl Counts {
    fn of(ns: &NetNs, agent: &Agent) -> Self {
        let status = agent.cli(&["status", "-o", "json"]);
        let list = |name: &str| status[name].as_array().expect("a list");
        let sum = |entries: &mut dyn Iterator<Item = &Value>, pointer: &str| -> u64 {
            entries
                .map(|entry| {
                    let number = entry.pointer(pointer).and_then(Value::as_u64);
                    number.unwrap_or_else(|| panic!("no number {pointer} in {entry}"))
                })
                .sum()
        };
        let mut services = list("services").iter().filter(|it| it["name"] == POOL.name);
        let lookup = Reason::TableLookup.name();
        let mut reasons = list("reasons").iter().filter(|it| it["reason"] == lookup);
        Self {
            packets: sum(&mut services, "/counters/packets"),
            table_lookups: sum(&mut reasons, "/packets"),
            records: records(ns, agent),
            maps_bytes: sum(&mut list("maps").iter(), "/bytes"),
        }
    }

    fn memory(&self, agent: &Agent) -> Memory {
        Memory {
            maps: self.maps_bytes,
            agent: resident_bytes(agent.pid()),
        }
    }
}

/// Records in the tables of flows now; `status` counts them now and then.
fn records(ns: &NetNs, agent: &Agent) -> u64 {
    let tables = [name::PENDING, name::FLOWS].map(|table| {
        let pin = agent.pin_directory().join(LAYOUT_VERSION).join(table);
        ns.run(|| {
            let table = Map::HashMap(MapData::from_pin(&pin).expect("the pinned table"));
            let table: HashMap<_, [u8; KEY_BYTES], [u8; VALUE_BYTES]> =
                HashMap::try_from(table).expect("a hash of records");
            table.keys().count() as u64
        })
    });
    tables.into_iter().sum()
}

/// Resident memory of a process (proc_pid_status(5)).
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let mut lines = status.lines();
    let kibibytes = lines.find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.expect("VmRSS").trim().parse().expect("a number");
    kibibytes * 1024
}
