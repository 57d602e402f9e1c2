//! Array maps in the agent's memory: a write is a store, not a system call.

use std::{
    io,
    marker::PhantomData,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use xlb_common::limits::BLOCK_ENTRIES;

use super::{plain::Plain, sys};

/// The memory of an array map. The program works on the same memory, so all accesses are atomic or
/// volatile, and the wrapper types hand out copies only.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Memory {}

impl Memory {
    fn map(map: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let length = std::num::NonZeroUsize::new(bytes)
            .ok_or_else(|| io::Error::other("an array map without entries"))?;
        // SAFETY: a new shared mapping at a place of the kernel's choice replaces nothing.
        let start = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map,
                0,
            )
        }?;
        Ok(Self {
            start: start.cast(),
            bytes,
        })
    }

    /// A pointer to a value of type `T`, if it lies within the memory and is aligned.
    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.bytes || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: offset and size lie within the mapping.
        Some(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no pointer into it outlives the owner.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.bytes) } {
            tracing::debug!(%error, "munmap of an array map");
        }
    }
}

/// An array map with values of type `T`.
#[derive(Debug)]
pub struct MappedArray<T> {
    memory: Memory,
    fd: OwnedFd,
    length: u32,
    value: PhantomData<T>,
}

impl<T: Plain> MappedArray<T> {
    /// Bytes from one value to the next: the kernel rounds up to eight.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps an array map of such values.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = sys::map_info(fd.as_fd())?;
        if info.value_bytes as usize != size_of::<T>() {
            return Err(io::Error::other(format!(
                "values of {} bytes where {} are expected",
                info.value_bytes,
                size_of::<T>()
            )));
        }
        let memory = Memory::map(fd.as_fd(), Self::STRIDE * info.entries as usize)?;
        Ok(Self {
            memory,
            fd,
            length: info.entries,
            value: PhantomData,
        })
    }

    /// Entries of the array.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether it has none, which the kernel does not allow.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A copy of the entry, or `None` past the end. Not atomic as a whole, only by the word.
    #[must_use]
    pub fn read(&self, index: u32) -> Option<T> {
        let entry = self.memory.at::<T>(Self::STRIDE * index as usize)?;
        // SAFETY: `at` proved that it lies within the memory and is aligned; any bit pattern is a
        // value. The program may write meanwhile, hence volatile.
        Some(unsafe { entry.read_volatile() })
    }

    /// Writes an entry that no program looks at yet. `false` past the end.
    #[must_use]
    pub fn write(&mut self, index: u32, value: T) -> bool {
        let Some(entry) = self.memory.at::<T>(Self::STRIDE * index as usize) else {
            return false;
        };
        // SAFETY: as in `read`.
        unsafe { entry.write_volatile(value) };
        true
    }

    /// Copies of all entries.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.length).map_while(|index| self.read(index))
    }

    /// Stores a field of two bytes, by its offset in `T`. Everything written before is seen by who
    /// sees this. `false` past the end, or if the offset is not that of an aligned field.
    #[must_use]
    pub fn store_u16(&mut self, index: u32, offset: usize, value: u16) -> bool {
        self.field::<u16, AtomicU16>(index, offset)
            .map(|field| field.store(value, Ordering::Release))
            .is_some()
    }

    /// Stores a field of four bytes; see [`Self::store_u16`].
    #[must_use]
    pub fn store_u32(&mut self, index: u32, offset: usize, value: u32) -> bool {
        self.field::<u32, AtomicU32>(index, offset)
            .map(|field| field.store(value, Ordering::Release))
            .is_some()
    }

    /// Stores a field of eight bytes; see [`Self::store_u16`].
    #[must_use]
    pub fn store_u64(&mut self, index: u32, offset: usize, value: u64) -> bool {
        self.field::<u64, AtomicU64>(index, offset)
            .map(|field| field.store(value, Ordering::Release))
            .is_some()
    }

    /// Adds to a field of eight bytes, around the end if need be; see [`Self::store_u16`].
    #[must_use]
    pub fn add_u64(&mut self, index: u32, offset: usize, summand: u64) -> bool {
        self.field::<u64, AtomicU64>(index, offset)
            .map(|field| field.fetch_add(summand, Ordering::Relaxed))
            .is_some()
    }

    fn field<F, A>(&self, index: u32, offset: usize) -> Option<&A> {
        const { assert!(size_of::<F>() == size_of::<A>()) };
        if index >= self.length || offset + size_of::<F>() > size_of::<T>() {
            return None;
        }
        let field = self
            .memory
            .at::<A>(Self::STRIDE * index as usize + offset)?;
        // SAFETY: `at` proved that it lies within the memory and is aligned for the atomic, of
        // which any bit pattern is a value; the memory lives as long as `self`.
        Some(unsafe { field.as_ref() })
    }
}

impl<T> AsFd for MappedArray<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Copies the contents of an array map into one that is at least as long, with equal values.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = |map: BorrowedFd<'_>| -> io::Result<usize> {
        let info = sys::map_info(map)?;
        Ok(info.value_bytes.next_multiple_of(8) as usize * info.entries as usize)
    };
    let (from, to) = (
        Memory::map(from, bytes(from)?)?,
        Memory::map(to, bytes(to)?)?,
    );
    for offset in (0..from.bytes.min(to.bytes)).step_by(size_of::<u64>()) {
        if let (Some(from), Some(to)) = (from.at::<u64>(offset), to.at::<u64>(offset)) {
            // SAFETY: both lie within their memories and are aligned; the program accesses them
            // atomically, and so do we.
            unsafe { u64::store(to, u64::load(from)) };
        }
    }
    Ok(())
}

/// A word of an arena.
pub trait Word: Plain {
    /// Reads the word.
    ///
    /// # Safety
    ///
    /// `at` is valid and aligned, and only accessed atomically.
    unsafe fn load(at: NonNull<Self>) -> Self;
    /// Writes the word; what was written before is seen by who sees it.
    ///
    /// # Safety
    ///
    /// As for [`Word::load`].
    unsafe fn store(at: NonNull<Self>, value: Self);
}

macro_rules! word {
    ($($type:ty: $atomic:ty),+) => {
        $(impl Word for $type {
            unsafe fn load(at: NonNull<Self>) -> Self {
                // SAFETY: the caller's promise.
                unsafe { <$atomic>::from_ptr(at.as_ptr()) }.load(Ordering::Acquire)
            }
            unsafe fn store(at: NonNull<Self>, value: Self) {
                // SAFETY: the caller's promise.
                unsafe { <$atomic>::from_ptr(at.as_ptr()) }.store(value, Ordering::Release);
            }
        })+
    };
}

word!(u16: AtomicU16, u32: AtomicU32, u64: AtomicU64);

/// An arena: an array map of blocks, seen as one long array of words.
#[derive(Debug)]
pub struct Arena<T> {
    blocks: MappedArray<[T; BLOCK_ENTRIES]>,
}

impl<T: Word> Arena<T> {
    /// Maps an array map of blocks.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            blocks: MappedArray::new(fd)?,
        })
    }

    /// Words of the arena.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.blocks.len() as usize * BLOCK_ENTRIES
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Reads a word; `None` past the end.
    #[must_use]
    pub fn load(&self, index: usize) -> Option<T> {
        let word = self.word(index)?;
        // SAFETY: `word` lies within the memory, is aligned, and blocks are only accessed here.
        Some(unsafe { T::load(word) })
    }

    /// Reads the words of a range; nothing if it goes past the end.
    pub fn load_range(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = T> + '_ {
        let range = if range.end <= self.len() { range } else { 0..0 };
        let start = self.blocks.memory.start.cast::<T>();
        range.map(move |index| {
            // SAFETY: the index is below the number of words, so the word lies within the memory,
            // and is aligned as its start is, to a page; blocks are only accessed here.
            unsafe { T::load(start.add(index)) }
        })
    }

    /// Writes a word; `false` past the end.
    #[must_use]
    pub fn store(&mut self, index: usize, value: T) -> bool {
        let Some(word) = self.word(index) else {
            return false;
        };
        // SAFETY: as in `load`.
        unsafe { T::store(word, value) };
        true
    }

    fn word(&self, index: usize) -> Option<NonNull<T>> {
        self.blocks.memory.at(index.checked_mul(size_of::<T>())?)
    }
}

impl<T> AsFd for Arena<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.blocks.fd.as_fd()
    }
}
