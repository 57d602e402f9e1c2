//! Contents of a map into the larger one that replaces it.
//!
//! The program keeps writing to the older map until its links are swapped. So what it writes is
//! copied once before, and what is newer once after.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use xlb_common::{
    endpoint::{Entry4, Entry6},
    maps::name,
    nat::{NatPort, Word},
    record::FlowValue,
};

use super::{
    counters::possible_cpus,
    hash::{Flows, KernelMap, RouteKey},
    layout::{Kind, MapLayout},
    mapped::{self, Arena, MappedArray},
    plain::Plain,
    sys,
    table::{Table, TableEntry},
};

/// Copies the contents of a map into a larger, empty one.
pub(super) fn copy(layout: &MapLayout, from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    match layout.kind {
        Kind::Array if layout.is_endpoint_table() => match layout.name {
            name::VIPS4 | name::REPLIES4 => rehash::<Entry4>(from, to),
            _ => rehash::<Entry6>(from, to),
        },
        Kind::Array => mapped::copy(from.as_fd(), to.as_fd()),
        Kind::Hash => add_newer_flows(from, to),
        Kind::PerCpuArray => copy_per_cpu(&from, &to),
        Kind::LpmTrie => match layout.name {
            name::ROUTES4 => copy_trie::<4>(from, to),
            name::ROUTES6 => copy_trie::<16>(from, to),
            name::WIDE6 => copy_trie::<20>(from, to),
            _ => copy_trie::<8>(from, to),
        },
        Kind::DevMap => copy_devices(&from, &to),
        // Events that were not read yet are lost; the program repeats those that matter. Programs
        // belong to one load, and datagrams live for a moment.
        Kind::RingBuf | Kind::Programs | Kind::LruHash => Ok(()),
    }
}

fn copy_trie<const N: usize>(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    add_all(
        &KernelMap::<RouteKey<N>, u64>::new(from),
        KernelMap::new(to),
    )
}

/// After the swap, when nobody writes to the older map any more: adds what the program wrote there
/// since [`copy`]. Counts of packets between the copy and the swap are not added.
pub(super) fn add_newer(layout: &MapLayout, from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    match layout.kind {
        Kind::Hash => add_newer_flows(from, to),
        Kind::Array if layout.name == name::LAST_MISS => add_newer_misses(from, to),
        Kind::Array if layout.name == name::NAT_PORTS => add_newer_ports(from, to),
        Kind::Array
        | Kind::PerCpuArray
        | Kind::LpmTrie
        | Kind::DevMap
        | Kind::RingBuf
        | Kind::Programs
        | Kind::LruHash => Ok(()),
    }
}

fn rehash<E: TableEntry>(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let from = Table::<E>::new(from)?;
    let mut to = Table::<E>::new(to)?;
    for (key, target) in from.iter() {
        to.insert(key, target).map_err(io::Error::other)?;
    }
    Ok(())
}

fn add_all<K: Plain, V: Plain>(from: &KernelMap<K, V>, mut to: KernelMap<K, V>) -> io::Result<()> {
    for (key, value) in from.entries()? {
        to.insert(&key, value)?;
    }
    Ok(())
}

/// Adds records that are missing, and those that were seen later than their copy.
fn add_newer_flows(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let (from, mut to) = (Flows::new(from), Flows::new(to));
    let mut result = Ok(());
    from.for_each(|key, value: FlowValue| {
        let add = |to: &mut Flows| -> io::Result<()> {
            if to.insert_new(&key, value)? {
                return Ok(());
            }
            match to.get(&key)? {
                Some(copy) if copy.seen_s < value.seen_s => to.insert(&key, value),
                Some(_) | None => Ok(()),
            }
        };
        if result.is_ok() {
            result = add(&mut to);
        }
    })?;
    result
}

/// Adds what ports have become. What a packet did since the swap is newer yet.
fn add_newer_ports(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let (from, mut to) = (
        MappedArray::<NatPort>::new(from)?,
        MappedArray::<NatPort>::new(to)?,
    );
    for index in 0..from.len() {
        let (Some(older), Some(newer)) = (from.read(index), to.read(index)) else {
            break;
        };
        // The later claim, or the one that lasts longer.
        let age = |port: &NatPort| (Word(port.word).generation(), Word(port.word).until_s());
        if age(&older) > age(&newer) && !to.write(index, older) {
            break;
        }
    }
    Ok(())
}

fn add_newer_misses(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let (from, mut to) = (Arena::<u32>::new(from)?, Arena::<u32>::new(to)?);
    for index in 0..from.len() {
        let (Some(older), Some(newer)) = (from.load(index), to.load(index)) else {
            break;
        };
        if older > newer && !to.store(index, older) {
            break;
        }
    }
    Ok(())
}

fn copy_per_cpu(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let info = sys::map_info(from.as_fd())?;
    let words = info.value_bytes.div_ceil(8) as usize * possible_cpus()?;
    let mut values = vec![0_u64; words];
    for index in 0..info.entries {
        if sys::map_lookup_into(from.as_fd(), &index, &mut values)?
            && values.iter().any(|&word| word != 0)
        {
            sys::map_update(to.as_fd(), &index, &values, 0)?;
        }
    }
    Ok(())
}

fn copy_devices(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for index in 0..sys::map_info(from.as_fd())?.entries {
        if let Some([ifindex, _]) = sys::map_lookup::<u32, [u32; 2]>(from.as_fd(), &index)? {
            sys::map_update(to.as_fd(), &index, &[[ifindex, 0_u32]], 0)?;
        }
    }
    Ok(())
}
