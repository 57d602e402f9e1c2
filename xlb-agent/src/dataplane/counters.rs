//! Per-CPU arrays: read as sums over all CPUs.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use xlb_common::{maps::AttachmentCounters, reason::Reason};

use super::{plain::Plain, sys};

/// A value of a per-CPU array that can be summed up.
pub trait Summed: Plain + Default {
    /// Adds another CPU's value.
    fn add(&mut self, other: &Self);
}

impl Summed for u64 {
    fn add(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

impl Summed for AttachmentCounters {
    fn add(&mut self, other: &Self) {
        self.packets.add(&other.packets);
        self.bytes.add(&other.bytes);
        self.connections.add(&other.connections);
        self.reply_packets.add(&other.reply_packets);
        self.reply_bytes.add(&other.reply_bytes);
    }
}

/// A per-CPU array of counters.
#[derive(Debug)]
pub struct PerCpuCounters<T> {
    fd: OwnedFd,
    entries: u32,
    cpus: usize,
    value: PhantomData<T>,
}

impl<T: Summed> PerCpuCounters<T> {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        // The kernel rounds each CPU's value up to eight bytes.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        Ok(Self {
            entries: sys::map_info(fd.as_fd())?.entries,
            cpus: possible_cpus()?,
            fd,
            value: PhantomData,
        })
    }

    /// Counters in the array.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.entries
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The counter's sum over all CPUs.
    ///
    /// # Errors
    ///
    /// What the kernel says; the index lies past the end.
    pub fn read(&self, index: u32) -> io::Result<T> {
        let mut values = vec![T::default(); self.cpus];
        self.read_with(index, &mut values)
    }

    /// The sums over all CPUs of `count` counters from `first` on.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn read_range(&self, first: u32, count: u32) -> io::Result<Vec<T>> {
        let mut values = vec![T::default(); self.cpus];
        (first..first.saturating_add(count))
            .map(|index| self.read_with(index, &mut values))
            .collect()
    }

    /// Sets `count` counters from `first` on to zero, on all CPUs.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn zero_range(&mut self, first: u32, count: u32) -> io::Result<()> {
        let zeros = vec![T::default(); self.cpus];
        (first..first.saturating_add(count))
            .try_for_each(|index| sys::map_update(self.fd.as_fd(), &index, &zeros, 0))
    }

    fn read_with(&self, index: u32, values: &mut [T]) -> io::Result<T> {
        if !sys::map_lookup_into(self.fd.as_fd(), &index, values)? {
            return Err(io::Error::other(format!("counter {index} is past the end")));
        }
        let mut sum = T::default();
        for value in values.iter() {
            sum.add(value);
        }
        Ok(sum)
    }
}

impl PerCpuCounters<u64> {
    /// Every reason with its number of packets.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub fn reasons(&self) -> io::Result<Vec<(Reason, u64)>> {
        let counts = self.read_range(0, Reason::COUNT as u32)?;
        Ok(Reason::ALL.iter().copied().zip(counts).collect())
    }
}

impl<T> AsFd for PerCpuCounters<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// CPUs for which the kernel keeps a value.
pub(super) fn possible_cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error)
}
