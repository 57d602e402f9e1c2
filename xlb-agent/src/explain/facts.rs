//! What the data path would look at for a packet.

use std::{collections::BTreeMap, io, net::IpAddr};

use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget},
    flow::FlowKey,
    hash,
    limits::NAME_BYTES,
    maps::{Backend, Service, service_option, service_state},
    record::FlowValue,
    slot::SlotWord,
    wide::direction,
};

use super::choice;
use crate::{dataplane::Maps, endpoint, engine::find_wide};

/// What stands in the maps about a flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// What the packet is to xlb.
    pub found: Found,
    /// Number of the service.
    pub service_number: u32,
    /// Name of the service's pool.
    pub pool: String,
    /// The flow's slot; `None` if the maps have none, or the packet is no client's.
    pub slot: Option<Slot>,
    /// The record in `PENDING`.
    pub pending: Option<FlowValue>,
    /// The record in `FLOWS`.
    pub flow: Option<FlowValue>,
    /// Whether `PENDING` has room.
    pub pending_room: bool,
    /// Whether `FLOWS` has room.
    pub flows_room: bool,
    /// What the policy would choose for a new connection; 0: the ring decides.
    pub choice: u16,
    /// Entries of the backends that anything above names.
    pub backends: BTreeMap<u16, Backend>,
    /// When this was read, in seconds of CLOCK_MONOTONIC.
    pub now_s: u32,
}

/// What a packet is to xlb.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found {
    /// For a service.
    Service(Service),
    /// From a backend under `dnat`, on its way back to a client.
    Reply {
        /// The service.
        service: Service,
        /// The backend.
        backend: u16,
    },
    /// Neither.
    Nothing {
        /// Whether its destination is a VIP of another port or protocol.
        is_vip: bool,
    },
}

/// The slot of a flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Place in the ring.
    pub slot: u32,
    /// Slots of the ring.
    pub ring_slots: u32,
    /// Hash of the flow.
    pub hash: u32,
    /// Entry of the ring.
    pub ring: u16,
    /// The slot's word.
    pub word: SlotWord,
    /// When a flow without a record last used `stable`, in seconds of CLOCK_MONOTONIC.
    pub last_miss_s: u32,
}

impl Facts {
    /// The service, if there is one.
    #[must_use]
    pub const fn service(&self) -> Option<&Service> {
        match &self.found {
            Found::Service(service)
            | Found::Reply {
                service,
                backend: _,
            } => Some(service),
            Found::Nothing { is_vip: _ } => None,
        }
    }

    /// Numbers of backends, and what names each.
    pub(super) fn named(&self) -> Vec<(u16, &'static str)> {
        let mut named = Vec::new();
        if let Found::Reply {
            backend,
            service: _,
        } = self.found
        {
            named.push((backend, "reply"));
        }
        if let Some(slot) = &self.slot {
            named.push((slot.ring, "ring"));
            named.push((slot.word.stable(), "stable"));
            named.push((slot.word.target(), "target"));
        }
        named.push((self.choice, "policy"));
        if let Some(value) = self.pending {
            named.push((value.backend(), "PENDING"));
        }
        if let Some(value) = self.flow {
            named.push((value.backend(), "FLOWS"));
        }
        named.retain(|&(number, _)| number != 0);
        named
    }
}

/// Reads what the data path would look at for a packet of a flow, or a fragment of one; `hash_key` is the
/// program's.
///
/// # Errors
///
/// What the kernel says.
pub fn gather(
    maps: &Maps,
    hash_key: [u64; 2],
    key: &FlowKey,
    fragment: bool,
    now_s: u32,
) -> io::Result<Facts> {
    let mut facts = Facts {
        found: Found::Nothing { is_vip: false },
        service_number: 0,
        pool: String::new(),
        slot: None,
        pending: None,
        flow: None,
        pending_room: true,
        flows_room: true,
        choice: 0,
        backends: BTreeMap::new(),
        now_s,
    };
    let vip = vip(
        maps,
        key.destination,
        key.destination_port_be,
        key.protocol,
        key.family,
    );
    let reply = reply(maps, key);
    facts.found = match (vip, reply) {
        (Some(target), _) => {
            facts.service_number = target.service;
            Found::Service(maps.services.read(target.service).unwrap_or_default())
        }
        (None, Some(target)) => {
            facts.service_number = target.service;
            Found::Reply {
                service: maps.services.read(target.service).unwrap_or_default(),
                backend: target.backend,
            }
        }
        (None, None) => Found::Nothing {
            is_vip: self::vip(maps, key.destination, 0, 0, key.family).is_some(),
        },
    };
    if let Some(service) = facts.service() {
        facts.pool = pool_name(maps, service.pool);
    }
    if let Found::Service(service) = facts.found {
        let by_address = service.options & service_option::FRAGMENTS_BY_ADDRESS != 0;
        let hashed = if fragment && by_address {
            FlowKey {
                source_port_be: 0,
                destination_port_be: 0,
                ..*key
            }
        } else {
            *key
        };
        facts.slot = slot(maps, &service, hash_key, &hashed);
        let own = |value: &FlowValue| value.tag() == key.tag();
        facts.pending = maps.pending.get(key)?.filter(own);
        facts.flow = maps.flows.get(key)?.filter(own);
        let tracked = service.state & service_state::TRACKED != 0;
        if tracked || facts.slot.is_some_and(|slot| slot.word.is_marked()) {
            facts.pending_room = maps.pending.has_room()?;
            facts.flows_room = maps.flows.has_room()?;
        }
    }
    if let (Found::Service(service), Some(slot)) = (&facts.found, &facts.slot) {
        facts.choice = choice::choose(maps, service, slot.hash);
    }
    for (number, _) in facts.named() {
        if let Some(entry) = maps.backends.read(number.into()) {
            facts.backends.insert(number, entry);
        }
    }
    Ok(facts)
}

fn slot(maps: &Maps, service: &Service, hash_key: [u64; 2], key: &FlowKey) -> Option<Slot> {
    let hash = if service.state & service_state::CLIENT_IP != 0 {
        key.client_hash(hash_key)
    } else {
        key.hash(hash_key)
    };
    let slot = hash::slot(hash, service.ring_slots);
    let index = service.ring_offset.checked_add(slot)? as usize;
    Some(Slot {
        slot,
        ring_slots: service.ring_slots,
        hash,
        ring: maps.ring.load(index)?,
        word: SlotWord(maps.slots.load(index)?),
        last_miss_s: maps.last_miss.load(index)?,
    })
}

fn vip(
    maps: &Maps,
    address: [u64; 2],
    port_be: u16,
    protocol: u8,
    family: u8,
) -> Option<EndpointTarget> {
    let exact = if family == 4 {
        maps.vips4
            .get(Endpoint4::new(low(address), port_be, protocol))
    } else {
        maps.vips6.get(Endpoint6::new(address, port_be, protocol))
    };
    let at = ip(address, family);
    exact.or_else(|| find_wide(maps, direction::VIP, at, port_be, protocol))
}

fn reply(maps: &Maps, key: &FlowKey) -> Option<EndpointTarget> {
    let (address, port_be) = (key.source, key.source_port_be);
    let exact = if key.family == 4 {
        let key = Endpoint4::new(low(address), port_be, key.protocol);
        maps.replies4.get(key)
    } else {
        let key = Endpoint6::new(address, port_be, key.protocol);
        maps.replies6.get(key)
    };
    let at = ip(address, key.family);
    exact.or_else(|| find_wide(maps, direction::REPLY, at, port_be, key.protocol))
}

/// An address out of the words of a key.
fn ip(words: [u64; 2], family: u8) -> IpAddr {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    endpoint::address(bytes, family)
}

/// An IPv4 address out of the words of a key.
const fn low(words: [u64; 2]) -> u32 {
    let [a, b, c, d, ..] = words[0].to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn pool_name(maps: &Maps, number: u32) -> String {
    let name = maps
        .pools
        .read(number)
        .map_or([0; NAME_BYTES], |pool| pool.name);
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(NAME_BYTES);
    String::from_utf8_lossy(&name[..end]).into_owned()
}
