//! Arrays with values for each CPU, read whole: a run makes a million of such reads, and aya reads entry by
//! entry.

use std::io;

use anyhow::{Context, Result};

/// `enum bpf_cmd`, `BPF_MAP_LOOKUP_BATCH`.
const MAP_LOOKUP_BATCH: i64 = 24;

/// An array with values for each CPU, and what it was.
pub(in crate::fuzz) struct PerCpu {
    map: i32,
    words: usize,
    cpus: usize,
    keys: Vec<u32>,
    raw: Vec<u64>,
    before: Vec<u64>,
}

impl PerCpu {
    pub(in crate::fuzz) fn new(map: i32, entries: u32, words: usize) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| {
            anyhow::anyhow!("read the number of CPUs from {what}: {error}")
        })?;
        let entries = entries as usize;
        let mut array = Self {
            map,
            words,
            cpus,
            keys: vec![0; entries],
            raw: vec![0; entries * words * cpus],
            before: vec![0; entries * words],
        };
        array.moved()?;
        Ok(array)
    }

    /// What has moved since the last time: entry, and by what.
    pub(in crate::fuzz) fn moved(&mut self) -> Result<Vec<(u32, Vec<u64>)>> {
        lookup(self.map, &mut self.keys, &mut self.raw).context("read counters")?;
        let mut moved = Vec::new();
        let each = self.words * self.cpus;
        for (entry, raw) in self.raw.chunks(each).enumerate() {
            let before = &mut self.before[entry * self.words..][..self.words];
            let mut changed = Vec::new();
            for (word, before) in before.iter_mut().enumerate() {
                let now: u64 = raw.iter().skip(word).step_by(self.words).sum();
                if now != *before && changed.is_empty() {
                    changed = vec![0; self.words];
                }
                if now != *before {
                    changed[word] = now.wrapping_sub(*before);
                    *before = now;
                }
            }
            if !changed.is_empty() {
                moved.push((entry as u32, changed));
            }
        }
        Ok(moved)
    }
}

/// Reads the first entries of an array, as many as `keys` has room for.
fn lookup(map: i32, keys: &mut [u32], values: &mut [u64]) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let mut next = 0_u64;
    let mut attributes = Attributes {
        in_batch: 0,
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len() as u32,
        map: map as u32,
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: `attributes` is a prefix of `union bpf_attr` as the command defines it (the kernel's
    // include/uapi/linux/bpf.h), and the pointers in it are valid for as long as the borrows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_LOOKUP_BATCH,
            std::ptr::from_mut(&mut attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        // There is nothing after what was read.
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
    }
    if attributes.count as usize != keys.len() {
        return Err(io::Error::other(format!(
            "{} of {} entries were read",
            attributes.count,
            keys.len()
        )));
    }
    Ok(())
}
