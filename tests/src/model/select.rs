//! Which backend a packet goes to.

use xlb_common::{
    flow::FlowKey,
    hash,
    maps::service_state,
    policy::{Candidates, Load, least_connections},
    reason::Reason,
    rule::{Kind, Verdict, What, select},
};

use super::{
    balance::Model,
    connections::{Counted, Ends},
    tables::Access,
    world::World,
};

/// What was decided for a packet.
pub(super) struct Choice {
    pub(super) backend: u16,
    /// A backend that may have the connection instead.
    pub(super) alternative: Option<u16>,
    /// Hash of the flow, or of the client where all its connections go together: it stands for them in
    /// outer headers.
    pub(super) hash: u32,
}

impl Model {
    /// The backend of a packet of a flow. `flags`: of TCP.
    pub(super) fn select(
        &mut self,
        service: usize,
        key: &FlowKey,
        kind: Kind,
        flags: u8,
    ) -> Result<Choice, Reason> {
        let of = self.world.services[service].clone();
        let state = self.world.state(&of);
        if state & service_state::REFUSE != 0 {
            return Err(Reason::AllDown);
        }
        let hash = if of.has(service_state::CLIENT_IP) {
            key.client_hash(self.world.hash_key)
        } else {
            key.hash(self.world.hash_key)
        };
        let pool = &self.world.pools[of.pool];
        let slot = hash::slot(hash, pool.slots.len() as u32);
        let mut word = pool.slots[slot as usize];
        let place = pool.offset + slot;
        if of.has(service_state::TRACKED) {
            word = word.with_mark(true);
        }
        let before = Counted::of(self, key);
        let mut turns = of.turns;
        let (verdict, looked_up, missed) = {
            let world = &self.world;
            let mut choose = || policys_choice(world, service, hash, &mut turns);
            let mut access = Access {
                key: *key,
                now_s: self.now_s,
                pending: &mut self.pending,
                flows: &mut self.flows,
                flags: &|number| world.flags(number),
                choose: &mut choose,
                looked_up: false,
                missed: false,
            };
            let always = of.has(service_state::BY_CONNECTION);
            let verdict = select(&mut access, word, kind, always);
            (verdict, access.looked_up, access.missed)
        };
        self.world.services[service].turns = turns;
        if looked_up {
            self.events.push(Reason::TableLookup);
        }
        if missed {
            self.last_miss_s.insert(place, self.now_s);
        }
        if of.has(service_state::LEAST_CONNECTIONS) && kind != Kind::Untracked {
            self.count(key, &before, verdict, Ends::by(flags));
        }
        self.end(verdict)?;
        let alternative = (of.second_chance
            && verdict.what == What::Missed
            && self.are_two(word.stable(), word.target()))
        .then_some(word.target());
        Ok(Choice {
            backend: verdict.backend,
            alternative,
            hash,
        })
    }

    fn end(&mut self, verdict: Verdict) -> Result<(), Reason> {
        if verdict.is_drop() {
            return Err(Reason::FlowTableFull);
        }
        if matches!(verdict.what, What::FullToStable | What::FlowFull) {
            self.events.push(Reason::FlowTableFullToStable);
        }
        if verdict.backend == 0 {
            return Err(Reason::NoBackend);
        }
        Ok(())
    }

    /// Whether two numbers are of different hosts.
    fn are_two(&self, stable: u16, target: u16) -> bool {
        match (self.world.backend(stable), self.world.backend(target)) {
            (Some(stable), Some(target)) => stable.address.ip() != target.address.ip(),
            _ => false,
        }
    }
}

/// What a policy that decides by connection says; 0: nothing.
fn policys_choice(world: &World, service: usize, hash: u32, turns: &mut u32) -> u16 {
    let service = &world.services[service];
    let pool = &world.pools[service.pool];
    if service.has(service_state::ROUND_ROBIN) {
        if pool.sequence.is_empty() {
            return 0;
        }
        let turn = *turns as usize % pool.sequence.len();
        *turns = turns.wrapping_add(1);
        let number = pool.sequence[turn];
        let weight = world.backend(number).map_or(0, |backend| backend.weight);
        if world.flags(number).accepts() && weight != 0 {
            number
        } else {
            0
        }
    } else if service.has(service_state::LEAST_CONNECTIONS) {
        least_connections(&OfPool(world, service.pool), hash, pool.slots.len() as u32)
    } else {
        0
    }
}

struct OfPool<'a>(&'a World, usize);

impl Candidates for OfPool<'_> {
    fn target(&self, slot: u32) -> u16 {
        self.0.pools[self.1].slots[slot as usize].target()
    }

    fn load(&self, number: u16) -> Load {
        match self.0.backend(number) {
            Some(backend) if self.0.flags(number).accepts() => Load {
                connections: u32::try_from(backend.connections.max(0)).unwrap_or(u32::MAX),
                weight: backend.weight,
            },
            _ => Load::NONE,
        }
    }
}
