//! How the slots of a ring were dealt, and from that the ring without a few of its members.
//!
//! Without a member, every turn of the others comes in the same order as before, and at each of them
//! nearly the same slots are free: those of before, and a few that the member had, or that somebody
//! gave up for one that comes earlier in its permutation. So only turns are looked at in which a member
//! may get another slot than before.
//!
//! Who gets one that comes earlier than what it had gets what it had in its next turn, and so on: it
//! is one behind. This goes on by itself until another has passed over what it had, in between.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::deal::{Hand, Table};

/// No turn.
const NEVER: u32 = u32::MAX;

/// How the slots of a ring were dealt.
#[derive(Debug)]
pub(super) struct History {
    players: Vec<Player>,
    ways: Vec<Way>,
    turns: Vec<Turn>,
    /// What each player got, one player after the other.
    gains: Vec<Gain>,
    visits: Visits,
}

/// The turns in which players came by slots: the first one took it, the others passed over it.
#[derive(Debug)]
struct Visits {
    /// Slot after slot, the earliest first.
    turns: Vec<u32>,
    /// By slot: where its turns end; they begin where those of the slot before end.
    ends: Vec<u32>,
}

impl Visits {
    /// Of slots and turns, in the order of the turns.
    fn of(visits: &[(u32, u32)], slots: usize) -> Self {
        let mut ends = vec![0u32; slots];
        for &(slot, _) in visits {
            ends[slot as usize] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            // Where they begin, for now.
            (*count, end) = (end, end + *count);
        }
        let mut turns = vec![0; visits.len()];
        for &(slot, turn) in visits {
            let end = &mut ends[slot as usize];
            turns[*end as usize] = turn;
            *end += 1;
        }
        Self { turns, ends }
    }

    fn of_slot(&self, slot: u32) -> &[u32] {
        let slot = slot as usize;
        let begin = if slot == 0 { 0 } else { self.ends[slot - 1] };
        &self.turns[begin as usize..self.ends[slot] as usize]
    }
}

#[derive(Debug)]
struct Player {
    /// As it was after the last turn.
    hand: Hand,
    /// Which of the gains are its own.
    first: u32,
    end: u32,
}

/// A player got a slot.
#[derive(Clone, Copy, Debug)]
struct Turn {
    player: u32,
    /// Its place among the gains.
    gain: u32,
}

/// A slot that a player got.
#[derive(Clone, Copy, Debug, Default)]
struct Gain {
    turn: u32,
    slot: u32,
    /// The first turn in which another passed over the slot, since it was taken.
    passed: u32,
    /// The first of the player's gains from this one on that another has passed over before the
    /// player's next turn; [`NEVER`]: there is none.
    contested: u32,
}

impl Player {
    fn gains<'a>(&self, gains: &'a [Gain]) -> &'a [Gain] {
        &gains[self.first as usize..self.end as usize]
    }
}

/// A player's way through its permutation.
#[derive(Clone, Copy, Debug)]
struct Way {
    inverse: u64,
    first: u64,
}

impl Way {
    fn of(table: Table, hand: &Hand) -> Self {
        let inverse = hand.inverse(table);
        Self {
            inverse,
            first: u64::from(hand.next(table)).wrapping_mul(inverse),
        }
    }

    /// Where a slot comes in the permutation, as a part of the ring.
    const fn place(self, slot: u32) -> u64 {
        (slot as u64)
            .wrapping_mul(self.inverse)
            .wrapping_sub(self.first)
    }
}

impl History {
    /// Deals the slots of `ring` again, which is what these hands get.
    pub(super) fn of(table: Table, hands: Vec<Hand>, ring: &[u16]) -> Self {
        let ways: Vec<Way> = hands.iter().map(|hand| Way::of(table, hand)).collect();
        let mut players = players(hands, ring);
        let mut turns: Vec<Turn> = Vec::with_capacity(ring.len());
        let mut gains = vec![Gain::default(); ring.len()];
        // A slot is come by about as often as the logarithm of their number says.
        let mut visits = Vec::with_capacity(ring.len() * (ring.len().max(2).ilog2() as usize));
        'all: while turns.len() < ring.len() {
            for (index, player) in (0u32..).zip(&mut players) {
                if !player.hand.has_a_turn() {
                    continue;
                }
                let turn = turns.len() as u32;
                let slot = loop {
                    let slot = player.hand.step(table);
                    visits.push((slot, turn));
                    if ring[slot as usize] == player.hand.number() {
                        break slot;
                    }
                };
                gains[player.end as usize] = Gain {
                    turn,
                    slot,
                    ..Gain::default()
                };
                turns.push(Turn {
                    player: index,
                    gain: player.end,
                });
                player.end += 1;
                if turns.len() == ring.len() {
                    break 'all;
                }
            }
        }
        let visits = Visits::of(&visits, ring.len());
        for player in &players {
            let gains = &mut gains[player.first as usize..player.end as usize];
            let (mut contested, mut next) = (NEVER, NEVER);
            for (index, gain) in (player.first..player.end).zip(gains).rev() {
                gain.passed = visits.of_slot(gain.slot).get(1).copied().unwrap_or(NEVER);
                if gain.passed < next {
                    contested = index;
                }
                gain.contested = contested;
                next = gain.turn;
            }
        }
        Self {
            players,
            ways,
            turns,
            gains,
            visits,
        }
    }

    /// The next turn of a player after `now`.
    fn next_turn(&self, player: u32, now: u32) -> u32 {
        let gains = self.players[player as usize].gains(&self.gains);
        let next = gains.partition_point(|gain| gain.turn <= now);
        gains.get(next).map_or(NEVER, |gain| gain.turn)
    }

    /// Makes of the ring the one without the members with these numbers. `false`: that is no less
    /// work than to deal it anew, and what stands in `ring` is of no use.
    pub(super) fn without(&self, numbers: &[u16], ring: &mut [u16]) -> bool {
        let is_out = |player: &Player| numbers.contains(&player.hand.number());
        let mut staying = self.players.iter().filter(|player| !is_out(player));
        let Some(some) = staying.next() else {
            return false;
        };
        let is_heaviest = |player: &Player| player.hand.is_heaviest();
        let weight = some.hand.weight();
        let are_equal = staying.clone().all(|player| player.hand.weight() == weight);
        // Others are the heaviest now, so that turns come in another order, unless all are equal.
        if !are_equal && !is_heaviest(some) && !staying.any(is_heaviest) {
            return false;
        }
        let mut again = Again {
            history: self,
            out: self.players.iter().map(is_out).collect(),
            behind: vec![NEVER; self.players.len()],
            free: BinaryHeap::new(),
            left: Vec::new(),
        };
        again.leave();
        if !again.take(ring) {
            return false;
        }
        again.deal_rest(ring);
        true
    }
}

/// Players with room for their gains, which are to be as many as they have slots.
fn players(hands: Vec<Hand>, ring: &[u16]) -> Vec<Player> {
    let mut counts = vec![0u32; usize::from(u16::MAX) + 1];
    for &number in ring {
        counts[usize::from(number)] += 1;
    }
    let mut end = 0;
    let player = |hand: Hand| {
        let first = end;
        end += counts[usize::from(hand.number())];
        Player {
            hand,
            first,
            end: first,
        }
    };
    hands.into_iter().map(player).collect()
}

/// A ring that is dealt again.
struct Again<'a> {
    history: &'a History,
    /// The players that are out.
    out: Vec<bool>,
    /// By player: the gain since which it is one behind; [`NEVER`]: it is not.
    behind: Vec<u32>,
    free: BinaryHeap<Reverse<Free>>,
    /// Slots that are free after the last turn.
    left: Vec<u32>,
}

/// A slot that is free though it was dealt before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Free {
    /// The turn in which somebody takes an interest in it next.
    turn: u32,
    slot: u32,
    /// The gain that it was of somebody who is one behind, and still is if it comes so far; or
    /// [`NEVER`].
    contested: u32,
}

impl Again<'_> {
    /// Frees the slots of those that are out.
    fn leave(&mut self) {
        let history = self.history;
        for (player, _) in history
            .players
            .iter()
            .zip(&self.out.clone())
            .filter(|&(_, &out)| out)
        {
            for gain in player.gains(&history.gains) {
                self.wait(gain.slot, gain.passed, NEVER);
            }
        }
    }

    /// A slot is free until a turn.
    fn wait(&mut self, slot: u32, turn: u32, contested: u32) {
        if turn == NEVER {
            self.left.push(slot);
        } else {
            self.free.push(Reverse(Free {
                turn,
                slot,
                contested,
            }));
        }
    }

    /// Somebody has got another slot than this gain, and is one behind now.
    fn fall_behind(&mut self, player: usize, gain: u32) {
        self.behind[player] = gain;
        let contested = self.history.gains[gain as usize].contested;
        if let Some(gain) = self.history.gains.get(contested as usize) {
            self.wait(gain.slot, gain.passed, contested);
        }
    }

    /// Looks for the next turn of anybody who has passed over a slot by then, or had it.
    fn look_for(&mut self, slot: u32, now: u32) {
        let history = self.history;
        let next = |player: u32| {
            if self.out[player as usize] {
                NEVER
            } else {
                history.next_turn(player, now)
            }
        };
        let mut earliest = NEVER;
        for &turn in history.visits.of_slot(slot) {
            if turn >= earliest {
                break;
            }
            let player = history.turns[turn as usize].player;
            if turn <= now {
                earliest = earliest.min(next(player));
            } else if !self.out[player as usize] {
                earliest = turn;
            }
        }
        self.wait(slot, earliest, NEVER);
    }

    /// Whether a slot is free indeed: who is one behind may not have come so far.
    fn is_free(&mut self, free: Free) -> bool {
        let Some(gain) = self.history.gains.get(free.contested as usize) else {
            return true;
        };
        let owner = self.history.turns[gain.turn as usize].player as usize;
        let since = self.history.gains.get(self.behind[owner] as usize);
        if since.is_none_or(|since| since.contested != free.contested) {
            return false;
        }
        // From now on this is a slot as any other.
        self.behind[owner] = NEVER;
        true
    }

    /// Goes through the turns in which somebody may get another slot than before. `false`: there are
    /// too many of them.
    fn take(&mut self, ring: &mut [u16]) -> bool {
        let history = self.history;
        // A turn here costs several times what it does to deal a slot.
        let mut budget = history.turns.len() / 8;
        let mut slots = Vec::new();
        while let Some(&Reverse(Free { turn: now, .. })) = self.free.peek() {
            if budget == 0 {
                return false;
            }
            budget -= 1;
            slots.clear();
            while let Some(&Reverse(free)) = self.free.peek()
                && free.turn == now
            {
                self.free.pop();
                if self.is_free(free) {
                    slots.push(free.slot);
                }
            }
            let Turn { player, gain } = history.turns[now as usize];
            let player = player as usize;
            if self.out[player] {
                for &slot in &slots {
                    self.look_for(slot, now);
                }
                continue;
            }
            if slots.is_empty() {
                continue;
            }
            if self.behind[player] != NEVER {
                slots.push(history.gains[gain as usize - 1].slot);
            }
            let way = history.ways[player];
            let best = (0..slots.len()).min_by_key(|&at| way.place(slots[at]));
            let slot = slots.swap_remove(best.unwrap_or(0));
            ring[slot as usize] = history.players[player].hand.number();
            for &other in &slots {
                self.look_for(other, now);
            }
            self.fall_behind(player, gain);
        }
        true
    }

    /// Goes on where dealing ended, with the slots that are left.
    fn deal_rest(&mut self, ring: &mut [u16]) {
        let History {
            players,
            ways,
            turns,
            gains,
            ..
        } = self.history;
        for (player, _) in players
            .iter()
            .zip(&self.behind)
            .filter(|&(_, &behind)| behind != NEVER)
        {
            self.left
                .extend(player.gains(gains).last().map(|gain| gain.slot));
        }
        let mut hands: Vec<Hand> = players.iter().map(|player| player.hand.clone()).collect();
        let last = turns.last().map_or(0, |turn| turn.player as usize);
        for index in (0..players.len()).cycle().skip(last + 1) {
            if self.left.is_empty() {
                break;
            }
            if self.out[index] || !hands[index].has_a_turn() {
                continue;
            }
            let way = ways[index];
            let places = 0..self.left.len();
            let best = places.min_by_key(|&at| way.place(self.left[at]));
            let slot = self.left.swap_remove(best.unwrap_or(0));
            ring[slot as usize] = hands[index].number();
        }
    }
}
