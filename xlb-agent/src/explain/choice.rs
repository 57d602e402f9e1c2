//! What a policy that decides by connection would choose now, as `xlb-ebpf` does.

use xlb_common::{
    maps::{Service, service_state},
    policy::{self, Candidates, Load},
    slot::{BackendFlags, SlotWord},
};

use crate::dataplane::Maps;

/// The backend of a new connection; 0: the ring decides. Nobody's turn is taken.
pub(super) fn choose(maps: &Maps, service: &Service, hash: u32) -> u16 {
    if service.state & service_state::LEAST_CONNECTIONS != 0 {
        policy::least_connections(&Pool { maps, service }, hash, service.ring_slots)
    } else if service.state & service_state::ROUND_ROBIN != 0 {
        turn(maps, service)
    } else {
        0
    }
}

/// Whose turn it is.
fn turn(maps: &Maps, service: &Service) -> u16 {
    let cursor = maps.cursors.read(service.number).unwrap_or(0);
    let place = cursor.checked_rem(service.sequence_length.into());
    place
        .and_then(|place| {
            let index = u64::from(service.ring_offset) + place;
            maps.sequences.load(usize::try_from(index).ok()?)
        })
        .filter(|&backend| load(maps, backend).weight > 0)
        .unwrap_or(0)
}

struct Pool<'a> {
    maps: &'a Maps,
    service: &'a Service,
}

impl Candidates for Pool<'_> {
    fn target(&self, slot: u32) -> u16 {
        let index = (self.service.ring_offset + slot) as usize;
        SlotWord(self.maps.slots.load(index).unwrap_or(0)).target()
    }

    fn load(&self, backend: u16) -> Load {
        load(self.maps, backend)
    }
}

/// What a backend has to do.
fn load(maps: &Maps, backend: u16) -> Load {
    let entry = maps.backends.read(backend.into()).filter(|_| backend != 0);
    let accepting = entry.filter(|entry| BackendFlags(entry.flags).accepts());
    accepting.map_or(Load::NONE, |entry| {
        let count = maps.connections.read(backend.into()).unwrap_or(0);
        // Below zero for a moment, when an end was counted before its beginning.
        let count = if (count as i64) < 0 { 0 } else { count as u32 };
        Load {
            connections: count,
            weight: entry.weight,
        }
    })
}
