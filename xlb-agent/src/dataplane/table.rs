//! Endpoint tables: how the agent writes what `xlb_common::endpoint::find` reads at the same time.
//!
//! An entry's key is written while its target is 0, then the target in one store. A removed entry is
//! a grave, which keeps its key. Another key may have its place only after a grace period, since a
//! program that has just compared the old key may be about to read the target.

use std::{
    collections::BTreeSet,
    io,
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use thiserror::Error;
use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget, Entry, Entry4, Entry6, find},
    limits::ENDPOINT_PROBES,
};

use super::{mapped::MappedArray, plain::Plain};

/// No place for an entry within the reach of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an endpoint table is full near the endpoint's home")]
pub struct Full {
    /// A place comes free by a grace period; see [`Table::after_grace`]. Otherwise the table must
    /// grow.
    pub after_grace: bool,
}

/// A kind of entry, and how its key is published.
pub trait TableEntry: Entry + Plain {
    /// Where the target lies in the entry.
    const TARGET_OFFSET: usize;

    /// Writes the key of an entry whose target is 0.
    fn write_key(array: &mut MappedArray<Self>, index: u32, key: Self::Key) -> bool;
}

impl TableEntry for Entry4 {
    const TARGET_OFFSET: usize = offset_of!(Entry4, target);

    fn write_key(array: &mut MappedArray<Self>, index: u32, key: Endpoint4) -> bool {
        array.store_u64(index, offset_of!(Entry4, key), key.0)
    }
}

/// A `port_protocol` that no key has, and which is not 0 either: stands in an IPv6 entry while its
/// address is written, so that halves of two keys never look like a third.
const KEY_IN_CHANGE: u32 = u32::MAX;

impl TableEntry for Entry6 {
    const TARGET_OFFSET: usize = offset_of!(Entry6, target);

    fn write_key(array: &mut MappedArray<Self>, index: u32, key: Endpoint6) -> bool {
        const MARK: usize = offset_of!(Entry6, key) + offset_of!(Endpoint6, port_protocol);
        const ADDRESS: usize = offset_of!(Entry6, key) + offset_of!(Endpoint6, address);
        array.store_u32(index, MARK, KEY_IN_CHANGE)
            && array.store_u64(index, ADDRESS, key.address[0])
            && array.store_u64(index, ADDRESS + 8, key.address[1])
            && array.store_u32(index, MARK, key.port_protocol)
    }
}

/// An endpoint table in the memory that the program reads.
#[derive(Debug)]
pub struct Table<E> {
    array: MappedArray<E>,
    mask: u32,
    /// Graves that were dug since the last grace period.
    fresh_graves: BTreeSet<u32>,
    used: u32,
}

impl<E: TableEntry> Table<E> {
    /// A table whose graves are older than a grace period. The number of entries is a power of two.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let array = MappedArray::<E>::new(fd)?;
        if !array.len().is_power_of_two() {
            return Err(io::Error::other(format!(
                "an endpoint table of {} entries, which is no power of two",
                array.len()
            )));
        }
        let used = array
            .iter()
            .filter(|entry| entry.target().service != 0)
            .count();
        Ok(Self {
            mask: array.len() - 1,
            array,
            fresh_graves: BTreeSet::new(),
            used: u32::try_from(used).unwrap_or(u32::MAX),
        })
    }

    /// Entries of the table, a power of two.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.array.len()
    }

    /// Endpoints in the table.
    #[must_use]
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// What a key stands for.
    #[must_use]
    pub fn get(&self, key: E::Key) -> Option<EndpointTarget> {
        let index = self.index_of(key)?;
        let target = self.array.read(index)?.target();
        (target.service != 0).then_some(target)
    }

    /// Endpoints and what they stand for, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (E::Key, EndpointTarget)> + '_ {
        self.array.iter().filter_map(|entry| {
            let target = entry.target();
            (target.service != 0).then_some((entry.key()?, target))
        })
    }

    /// Has a key stand for `target`, whether it is in the table or not.
    ///
    /// # Errors
    ///
    /// [`Full`] if the key is new and finds no place.
    pub fn insert(&mut self, key: E::Key, target: EndpointTarget) -> Result<(), Full> {
        // The key's own grave can be used at once: nobody takes it for another key.
        let own = self.index_of(key);
        let index = match own {
            Some(index) => index,
            None => {
                let index = self.place_for(key)?;
                if !E::write_key(&mut self.array, index, key) {
                    return Err(Full { after_grace: false });
                }
                index
            }
        };
        self.fresh_graves.remove(&index);
        self.publish(index, target);
        Ok(())
    }

    /// Changes what a key stands for. `false`: it is not in the table.
    pub fn set(&mut self, key: E::Key, target: EndpointTarget) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        if let Some(index) = self.index_of(key) {
            self.publish(index, target);
        }
        true
    }

    /// Removes a key. `false`: it is not in the table.
    pub fn remove(&mut self, key: E::Key) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        if let Some(index) = self.index_of(key) {
            self.publish(index, EndpointTarget::default());
            self.fresh_graves.insert(index);
        }
        true
    }

    /// Whether entries were removed since the last grace period.
    #[must_use]
    pub fn wants_grace(&self) -> bool {
        !self.fresh_graves.is_empty()
    }

    /// Tells the table that a grace period has passed since the last removal: the places of removed
    /// entries may be used again.
    pub fn after_grace(&mut self) {
        self.fresh_graves.clear();
    }

    fn publish(&mut self, index: u32, target: EndpointTarget) {
        let before = self.array.read(index).map_or(0, |e| e.target().service);
        self.used += u32::from(before == 0 && target.service != 0);
        self.used -= u32::from(before != 0 && target.service == 0);
        // The target's parts as they lie in memory: one store, so that the program never sees a
        // service with another's backend.
        let [a, b, c, d] = target.service.to_ne_bytes();
        let [e, f] = target.backend.to_ne_bytes();
        let [g, h] = target.reserved.to_ne_bytes();
        let word = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let stored = self.array.store_u64(index, E::TARGET_OFFSET, word);
        debug_assert!(stored, "an index within the mask is within the table");
    }

    /// Places that a lookup of the key looks at, in its order.
    fn probes(&self, key: E::Key) -> impl Iterator<Item = u32> + use<E> {
        let (home, mask) = (E::home(key), self.mask);
        (0..ENDPOINT_PROBES).map(move |probe| home.wrapping_add(probe) & mask)
    }

    /// Where the key stands, be it as a grave.
    fn index_of(&self, key: E::Key) -> Option<u32> {
        for index in self.probes(key) {
            let entry = self.array.read(index)?;
            if entry.is(key) {
                return Some(index);
            }
            entry.key()?;
        }
        None
    }

    fn place_for(&self, key: E::Key) -> Result<u32, Full> {
        let mut after_grace = false;
        for index in self.probes(key) {
            let Some(entry) = self.array.read(index) else {
                break;
            };
            if entry.key().is_none() {
                return Ok(index);
            }
            if entry.target().service == 0 {
                if !self.fresh_graves.contains(&index) {
                    return Ok(index);
                }
                after_grace = true;
            }
        }
        Err(Full { after_grace })
    }
}

impl<E> AsFd for Table<E> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.array.as_fd()
    }
}

/// Smallest number of entries, a power of two and at least `at_least`, in which these keys and as
/// many more find their places; `None` if that is more than `at_most`.
///
/// The table of the result is at most half full, and no key lies further from its home than a lookup
/// goes, in whatever order they are inserted one after another.
#[must_use]
pub fn entries_for<E: Entry>(keys: &[E::Key], at_least: u32, at_most: u32) -> Option<u32> {
    let half_full = u32::try_from(keys.len()).ok()?.checked_mul(2)?;
    let mut entries = at_least.max(half_full).checked_next_power_of_two()?;
    while entries <= at_most {
        if fits::<E>(keys, entries) {
            return Some(entries);
        }
        entries = entries.checked_mul(2)?;
    }
    None
}

fn fits<E: Entry>(keys: &[E::Key], entries: u32) -> bool {
    let mask = entries - 1;
    let target = EndpointTarget {
        service: 1,
        ..EndpointTarget::default()
    };
    let mut table = vec![E::default(); entries as usize];
    keys.iter().all(|&key| {
        if find(key, mask, |index| table.get(index as usize)).is_some() {
            return true;
        }
        let home = E::home(key);
        (0..ENDPOINT_PROBES).any(|probe| {
            let index = home.wrapping_add(probe) & mask;
            match table.get_mut(index as usize) {
                Some(place) if place.key().is_none() => {
                    *place = E::new(key, target);
                    true
                }
                Some(_) | None => false,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use xlb_common::limits::{ENDPOINT_TABLE_MAX, ENDPOINT_TABLE_MIN};

    use super::*;

    fn key(number: u32) -> Endpoint4 {
        Endpoint4::new(number, 80, 6)
    }

    #[test]
    fn a_table_is_made_large_enough_for_its_keys() {
        let size = |count| {
            let keys: Vec<_> = (0..count).map(key).collect();
            entries_for::<Entry4>(&keys, ENDPOINT_TABLE_MIN, ENDPOINT_TABLE_MAX)
        };
        assert_eq!(size(0), Some(64));
        let thousand = size(1000).expect("fits");
        assert!((2048..=8192).contains(&thousand), "{thousand}");
        assert_eq!(size(600_000), None, "half full needs 2^21 entries");
    }

    #[test]
    fn keys_that_share_a_home_need_a_larger_table() {
        let crowded: Vec<_> = (0..100_000)
            .map(key)
            .filter(|key| key.home() & 63 == 5)
            .take(ENDPOINT_PROBES as usize + 1)
            .collect();
        assert!(!fits::<Entry4>(&crowded, 64));
        assert!(fits::<Entry4>(&crowded[1..], 64));
        assert!(entries_for::<Entry4>(&crowded, 64, 1 << 20) > Some(64));
    }

    #[test]
    fn no_key_is_the_mark_of_a_change() {
        let largest = Endpoint6::new([u64::MAX; 2], u16::MAX, u8::MAX);
        assert_ne!(largest.port_protocol, KEY_IN_CHANGE);
    }
}
