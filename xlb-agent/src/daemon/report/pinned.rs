//! What stands in the pinned maps, while no agent answers.

use nix::net::if_::if_indextoname;
use serde::Serialize;
use xlb_common::{
    maps::{Backend, Pool, Service, backend_flag},
    slot::SlotWord,
};
use xlb_control::{
    api::{InterfaceStatus, MapStatus, ProgramStatus, ReasonCount, ServiceHealth},
    config::Config,
};

use super::{map_status, program_status, reason_counts};
use crate::{
    dataplane::{self, Maps},
    engine::{self, goal},
    options::Options,
};

/// What a host does while no agent looks after it.
#[derive(Clone, Debug, Serialize)]
pub struct PinnedStatus {
    /// Always false: an agent's status has no such field.
    pub agent_runs: bool,
    /// The directory of the pins.
    pub pin_dir: String,
    /// The program that is pinned. Its features are not known.
    pub program: ProgramStatus,
    /// Interfaces that it is attached to.
    pub interfaces: Vec<InterfaceStatus>,
    /// Services, with names if the configuration file has them.
    pub services: Vec<PinnedService>,
    /// How full the maps are.
    pub maps: Vec<MapStatus>,
    /// Packets by reason, those that are not 0.
    pub reasons: Vec<ReasonCount>,
}

/// A service as it stands in the maps.
#[derive(Clone, Debug, Serialize)]
pub struct PinnedService {
    /// Name, if the configuration file has it.
    pub name: Option<String>,
    /// Virtual addresses and ports.
    pub vip: String,
    /// Transport protocol, by its number.
    pub protocol: u8,
    /// Name of its pool.
    pub pool: String,
    /// What holds for it, by the last that an agent found.
    pub health: ServiceHealth,
    /// Backends.
    pub backends: u32,
    /// Those of them that get new connections.
    pub accepting: u32,
    /// Slots of its ring that are marked as moving. They stay so until an agent runs.
    pub moving_slots: u32,
}

/// Reads what is pinned.
///
/// # Errors
///
/// When nothing is pinned, or the maps are of another version.
pub fn pinned_status(options: &Options) -> anyhow::Result<PinnedStatus> {
    let maps = dataplane::pinned_maps(&options.pin_dir)?;
    let status = dataplane::pinned_status(&options.pin_dir, &maps)?;
    let config = Config::load(&options.config).map(|loaded| loaded.config);
    let services = maps.services.iter().filter(|entry| entry.family != 0);
    Ok(PinnedStatus {
        agent_runs: false,
        pin_dir: options.pin_dir.display().to_string(),
        program: program_status(&status.program),
        interfaces: status
            .interfaces
            .iter()
            .map(|interface| InterfaceStatus {
                name: interface.name.clone(),
                index: interface.ifindex,
                mode: interface
                    .mode
                    .map_or("detached", |mode| mode.name())
                    .to_owned(),
                up: is_up(interface.ifindex),
            })
            .collect(),
        services: services
            .map(|entry| service(&maps, &entry, config.as_ref().ok()))
            .collect(),
        maps: map_status(&status.maps),
        reasons: reason_counts(maps.reasons.reasons()?),
    })
}

fn service(maps: &Maps, entry: &Service, config: Option<&Config>) -> PinnedService {
    let members = maps
        .backends
        .iter()
        .filter(|backend| backend.flags & backend_flag::USED != 0 && backend.pool == entry.pool);
    let members: Vec<Backend> = members.collect();
    let accepting = members
        .iter()
        .filter(|entry| engine::accepts(entry))
        .count();
    let key = engine::key_of(entry);
    let name = config.and_then(|config| {
        let mut services = config.services.values();
        let found = services.find(|it| engine::key_of(&goal::of_service(it)) == key)?;
        Some(found.name.clone())
    });
    let first = entry.ring_offset as usize;
    let words = maps
        .slots
        .load_range(first..first + entry.ring_slots as usize);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    PinnedService {
        name,
        vip: key.at.to_string(),
        protocol: entry.protocol,
        pool: maps
            .pools
            .read(entry.pool)
            .map_or_else(String::new, |pool| pool_name(&pool)),
        health: match accepting {
            0 => ServiceHealth::Down,
            n if n < members.len() => ServiceHealth::Degraded,
            _ => ServiceHealth::Up,
        },
        backends: count(members.len()),
        accepting: count(accepting),
        moving_slots: count(words.filter(|&word| SlotWord(word).is_marked()).count()),
    }
}

fn pool_name(pool: &Pool) -> String {
    let end = pool.name.iter().position(|&byte| byte == 0);
    let name = end.and_then(|end| pool.name.get(..end));
    String::from_utf8_lossy(name.unwrap_or(&pool.name)).into_owned()
}

/// Whether the kernel calls the link up. It may have no word for it, as of the loopback interface.
fn is_up(ifindex: u32) -> bool {
    let name = if_indextoname(ifindex);
    let state = name.ok().and_then(|name| {
        let path = format!("/sys/class/net/{}/operstate", name.to_string_lossy());
        std::fs::read_to_string(path).ok()
    });
    state.is_some_and(|state| state.trim() != "down")
}
