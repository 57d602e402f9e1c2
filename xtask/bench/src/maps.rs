//! Maps, seen from outside: by their pins, and in memory.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd,
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use xlb_tests::lab::NetNs;

/// Opens a pinned map of a lab's host, whose pins nobody else sees.
#[must_use]
pub fn open_map(ns: &NetNs, pin: &Path) -> Map {
    Map::from_map_data(open_map_data(ns, pin)).expect("a map of a kind that aya knows")
}

/// The same as the map's descriptor.
#[must_use]
pub fn open_map_data(ns: &NetNs, pin: &Path) -> MapData {
    ns.run(|| MapData::from_pin(pin))
        .unwrap_or_else(|error| panic!("open the map {}: {error}", pin.display()))
}

/// The whole of an array map that can be mapped, as words in memory.
#[derive(Debug)]
pub struct Words {
    start: NonNull<u64>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Words {}
// SAFETY: as above; all accesses are atomic.
unsafe impl Sync for Words {}

impl Words {
    /// Maps a map, to be read.
    #[must_use]
    pub fn of(map: &MapData) -> Self {
        Self::map(map, ProtFlags::PROT_READ)
    }

    fn map(map: &MapData, protection: ProtFlags) -> Self {
        let info = map.info().expect("the kernel's account of a map");
        let stride = (info.value_size() as usize).next_multiple_of(size_of::<u64>());
        let length = NonZeroUsize::new(stride * info.max_entries() as usize)
            .expect("no map is without entries");
        // SAFETY: a new mapping at a place of the kernel's choice replaces nothing.
        let start = unsafe {
            mmap(
                None,
                length,
                protection,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }
        .unwrap_or_else(|error| panic!("map {length} bytes of a map into memory: {error}"));
        Self {
            start: start.cast(),
            length,
        }
    }

    /// Words in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.length.get() / size_of::<u64>()
    }

    /// The word at an index.
    ///
    /// # Panics
    ///
    /// Past the end.
    #[must_use]
    pub fn load(&self, index: usize) -> u64 {
        self.at(index).load(Ordering::Relaxed)
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count(), "word {index} of {}", self.count());
        // SAFETY: the word lies in the mapping, is aligned, as a page is, and lives as long as
        // `self`; whoever else writes it does so atomically.
        unsafe { AtomicU64::from_ptr(self.start.add(index).as_ptr()) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference into it outlives `self`.
        let unmapped = unsafe { munmap(self.start.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// Writes all of an array map that can be mapped, from its start on.
///
/// # Panics
///
/// When it is too small.
pub fn fill(map: &MapData, words: impl IntoIterator<Item = u64>) {
    let memory = Words::map(map, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    for (index, word) in words.into_iter().enumerate() {
        memory.at(index).store(word, Ordering::Relaxed);
    }
}
