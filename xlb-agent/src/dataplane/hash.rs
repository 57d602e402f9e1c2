//! Hash maps and tries: what the kernel keeps by key.

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use xlb_common::{maps::FlowKey, next_hop::NextHop, record::FlowValue};

use super::{
    plain::{Plain, zeroed},
    sys,
};

/// Entries that are read by one system call, at first. A bucket of a hash must fit.
const BATCH: usize = 1024;

/// Entries that a bucket may have before listing gives up; hash maps spread better than that.
const BATCH_MAX: usize = 1 << 20;

/// A hash map or a trie.
#[derive(Debug)]
pub struct KernelMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> KernelMap<K, V> {
    pub(super) const fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            types: PhantomData,
        }
    }

    /// Reads the value of a key.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn get(&self, key: &K) -> io::Result<Option<V>> {
        sys::map_lookup(self.fd.as_fd(), key)
    }

    /// Writes the value of a key.
    ///
    /// # Errors
    ///
    /// What the kernel says; `E2BIG`: the map is full.
    pub fn insert(&mut self, key: &K, value: V) -> io::Result<()> {
        sys::map_update(self.fd.as_fd(), key, &[value], 0)
    }

    /// Writes the value of a key that is not in the map. `false`: it is.
    ///
    /// # Errors
    ///
    /// As for [`Self::insert`].
    pub fn insert_new(&mut self, key: &K, value: V) -> io::Result<bool> {
        match sys::map_update(self.fd.as_fd(), key, &[value], sys::NO_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key. `false`: it was not in the map.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn remove(&mut self, key: &K) -> io::Result<bool> {
        sys::map_delete(self.fd.as_fd(), key)
    }

    /// All entries, a thousand at a time. Entries that are inserted or removed meanwhile may be seen
    /// or not; those that stay are seen.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn for_each(&self, mut visit: impl FnMut(K, V)) -> io::Result<()> {
        const { assert!(size_of::<K>() <= sys::BATCH_TOKEN_WORDS * 8) };
        let mut token = None;
        let mut keys = vec![zeroed::<K>(); BATCH];
        let mut values = vec![zeroed::<V>(); BATCH];
        loop {
            let (count, last) =
                match sys::map_lookup_batch(self.fd.as_fd(), &mut token, &mut keys, &mut values) {
                    Ok(batch) => batch,
                    Err(error)
                        if error.raw_os_error() == Some(libc::ENOSPC) && keys.len() < BATCH_MAX =>
                    {
                        let larger = keys.len() * 2;
                        keys.resize(larger, zeroed());
                        values.resize(larger, zeroed());
                        continue;
                    }
                    Err(error) => return Err(error),
                };
            for (key, value) in keys.iter().zip(&values).take(count) {
                visit(*key, *value);
            }
            if last {
                return Ok(());
            }
        }
    }

    /// All entries; see [`Self::for_each`].
    ///
    /// # Errors
    ///
    /// As for [`Self::for_each`].
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        self.for_each(|key, value| entries.push((key, value)))?;
        Ok(entries)
    }

    /// Whether another entry fits.
    ///
    /// # Errors
    ///
    /// As for [`Self::for_each`].
    pub fn has_room(&self) -> io::Result<bool> {
        let capacity = sys::map_info(self.fd.as_fd())?.entries;
        Ok(self.count()? < u64::from(capacity))
    }

    /// How many entries there are.
    ///
    /// # Errors
    ///
    /// As for [`Self::for_each`].
    pub fn count(&self) -> io::Result<u64> {
        let mut count = 0;
        self.for_each(|_, _| count += 1)?;
        Ok(count)
    }
}

impl<K, V> AsFd for KernelMap<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A prefix: key of a trie. Of `ROUTES4` (4 bytes) and `ROUTES6` (16 bytes) it is an address; what stands
/// before addresses and ports in `WIDE4`, `PORTS` (8 bytes) and `WIDE6` (20 bytes), says
/// [`xlb_common::wide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct RouteKey<const N: usize> {
    /// Bits that count.
    pub prefix_bits: u32,
    /// Address, as it stands in the packet, and what stands before it.
    pub address: [u8; N],
}

// SAFETY: `repr(C)`, integers only; N is a multiple of four in all uses, so there is no padding.
unsafe impl<const N: usize> Plain for RouteKey<N> {}

/// `PENDING` and `FLOWS`.
pub type Flows = KernelMap<FlowKey, FlowValue>;

/// A trie of prefixes: next hops of replies, and the tables of ports.
pub type Routes<const N: usize> = KernelMap<RouteKey<N>, u64>;

/// What [`Routes::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Prefixes that were not there.
    pub added: usize,
    /// Prefixes that lead elsewhere now.
    pub changed: usize,
    /// Prefixes that are gone.
    pub removed: usize,
}

impl<const N: usize> Routes<N> {
    /// Makes the table hold exactly `desired`. Adds before it removes, so that a reply that had a
    /// route before and has one after has one in between.
    ///
    /// # Errors
    ///
    /// What the kernel says; `ENOSPC`: the table is full.
    pub fn apply(&mut self, desired: &BTreeMap<RouteKey<N>, NextHop>) -> io::Result<Applied> {
        let actual: BTreeMap<_, _> = self.entries()?.into_iter().collect();
        let mut applied = Applied::default();
        for (prefix, hop) in desired {
            match actual.get(prefix) {
                Some(&word) if word == hop.0 => continue,
                Some(_) => applied.changed += 1,
                None => applied.added += 1,
            }
            self.insert(prefix, hop.0)?;
        }
        for prefix in actual.keys().filter(|prefix| !desired.contains_key(prefix)) {
            self.remove(prefix)?;
            applied.removed += 1;
        }
        Ok(applied)
    }
}
