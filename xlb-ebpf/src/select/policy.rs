//! Chooses the backend of a new connection, where the policy decides by connection.

use xlb_common::{
    maps::{Service, feature, service_state},
    policy::{self, Candidates, Load},
    slot::{BackendFlags, SlotWord},
};

use super::count;
use crate::{
    atomic, globals,
    maps::{self, BACKENDS, CURSORS, SEQUENCES, SLOTS},
};

/// What a decision takes.
#[derive(Clone, Copy)]
pub struct Decision {
    /// The service.
    pub service: &'static Service,
    /// Its state, as it was read once for the packet.
    pub state: u32,
    /// Hash of the flow.
    pub hash: u32,
}

impl Decision {
    /// Whether every flow of the service is recorded.
    #[inline(always)]
    pub fn tracks(self) -> bool {
        globals::has(feature::TRACKED) && self.state & service_state::TRACKED != 0
    }

    /// Whether the policy decides by connection.
    #[inline(always)]
    pub fn is_by_connection(self) -> bool {
        self.has_policies() && self.state & service_state::BY_CONNECTION != 0
    }

    /// Whether connections are counted.
    #[inline(always)]
    pub fn counts(self) -> bool {
        self.has_policies() && self.state & service_state::LEAST_CONNECTIONS != 0
    }

    #[inline(always)]
    fn has_policies(self) -> bool {
        globals::has(feature::TRACKED) && globals::has(feature::BY_CONNECTION)
    }

    /// The backend of a new connection; 0: the ring decides.
    #[inline(always)]
    pub fn choose(self) -> u16 {
        if !self.is_by_connection() {
            0
        } else if self.counts() {
            policy::least_connections(&self, self.hash, self.service.ring_slots)
        } else {
            rotate(self.service)
        }
    }
}

/// Whose turn it is.
#[inline(always)]
fn rotate(service: &Service) -> u16 {
    // SAFETY: the agent changes this word while we read it, hence volatile.
    let length = unsafe { (&raw const service.sequence_length).read_volatile() };
    let Some(cursor) = CURSORS.get_ptr_mut(service.number) else {
        return 0;
    };
    // SAFETY: the pointer is to a value of the map.
    let turn = unsafe { atomic::fetch_add(cursor, 1) };
    let Some(place) = turn.checked_rem(u64::from(length)) else {
        return 0;
    };
    let Some(entry) = maps::arena(&SEQUENCES, service.ring_offset + place as u32) else {
        return 0;
    };
    // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
    let backend = unsafe { entry.read_volatile() };
    // A backend that has just left keeps its turns for a moment.
    if load(backend).weight == 0 {
        0
    } else {
        backend
    }
}

impl Candidates for Decision {
    #[inline(always)]
    fn target(&self, slot: u32) -> u16 {
        match maps::arena(&SLOTS, self.service.ring_offset + slot) {
            // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
            Some(word) => SlotWord(unsafe { word.read_volatile() }).target(),
            None => 0,
        }
    }

    #[inline(always)]
    fn load(&self, backend: u16) -> Load {
        load(backend)
    }
}

/// What a backend has to do.
#[inline(always)]
fn load(backend: u16) -> Load {
    if backend == 0 {
        return Load::NONE;
    }
    let Some(entry) = BACKENDS.get_ptr(u32::from(backend)) else {
        return Load::NONE;
    };
    // SAFETY: the pointer is to a value of the map; the agent may write it, hence volatile.
    let (flags, weight) = unsafe {
        (
            BackendFlags((&raw const (*entry).flags).read_volatile()),
            (&raw const (*entry).weight).read_volatile(),
        )
    };
    if !flags.accepts() {
        return Load::NONE;
    }
    Load {
        connections: count::of(backend),
        weight,
    }
}
