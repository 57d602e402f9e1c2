//! What is loaded, attached and how full.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use xlb_common::{limits::BLOCK_ENTRIES, maps::name};

use super::{
    Dataplane,
    attach::{self, AttachMode},
    error::{DataplaneError, Doing},
    maps::Maps,
    pins::{Pins, interface_name},
    sys,
};

/// What is loaded and attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The program.
    pub program: ProgramStatus,
    /// Interfaces that it is to run on.
    pub interfaces: Vec<InterfaceStatus>,
    /// The maps.
    pub maps: Vec<MapStatus>,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// The kernel's number of it.
    pub id: u32,
    /// Bytes of bytecode after verification.
    pub translated_bytes: u32,
    /// Bytes of machine code; 0 without a JIT compiler.
    pub jited_bytes: u32,
    /// Instructions that the verifier went through; 0 before Linux 5.16.
    pub verified_instructions: u32,
    /// Bits of `xlb_common::maps::feature` that it was loaded with.
    pub features: u32,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// How the program is attached; `None`: it is not, since the interface is gone.
    pub mode: Option<AttachMode>,
    /// The kernel's number of the link.
    pub link_id: Option<u32>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStatus {
    /// Its name.
    pub name: &'static str,
    /// The kernel's number of it.
    pub id: u32,
    /// Entries that it has room for; of an arena those within its blocks.
    pub entries: u64,
    /// Entries in use, where that has a meaning.
    pub used: Option<u64>,
    /// Bytes of kernel memory; `None`: the process may not see it.
    pub memory_bytes: Option<u64>,
}

/// What the kernel says of a program that was loaded with these features.
pub(super) fn program(
    program: BorrowedFd<'_>,
    features: u32,
) -> Result<ProgramStatus, DataplaneError> {
    let info =
        sys::program_info(program).doing(|| "ask for the program's properties".to_owned())?;
    Ok(ProgramStatus {
        id: info.id,
        translated_bytes: info.translated_bytes,
        jited_bytes: info.jited_bytes,
        verified_instructions: info.verified_instructions,
        features,
    })
}

pub(super) fn status(dataplane: &Dataplane) -> Result<Status, DataplaneError> {
    let links = dataplane.pins.pinned_links()?;
    let interfaces = dataplane
        .spec
        .interfaces
        .iter()
        .map(|interface| {
            let link = links.iter().find(|link| link.ifindex == interface.ifindex);
            Ok(InterfaceStatus {
                name: interface.name.clone(),
                ifindex: interface.ifindex,
                mode: match link {
                    Some(link) => attach::mode_of(link.ifindex)?,
                    None => None,
                },
                link_id: link.map(|link| link.id),
            })
        })
        .collect::<Result<_, DataplaneError>>()?;
    Ok(Status {
        program: program(dataplane.program.as_fd(), dataplane.spec.features)?,
        interfaces,
        maps: maps(&dataplane.maps)?,
    })
}

/// The same from what is pinned, while no agent runs. Features are not known then.
pub(super) fn pinned(pins: &Pins, maps: &Maps) -> Result<Status, DataplaneError> {
    let path = pins.program();
    let opened = sys::open_pin(&path);
    let opened = opened.doing(|| format!("open the pinned program {}", path.display()))?;
    let links = pins.pinned_links()?;
    let interfaces = links
        .iter()
        .filter(|link| link.ifindex != 0)
        .map(|link| {
            Ok(InterfaceStatus {
                name: interface_name(link.ifindex),
                ifindex: link.ifindex,
                mode: attach::mode_of(link.ifindex)?,
                link_id: Some(link.id),
            })
        })
        .collect::<Result<_, DataplaneError>>()?;
    Ok(Status {
        program: program(opened.as_fd(), 0)?,
        interfaces,
        maps: self::maps(maps)?,
    })
}

fn maps(maps: &Maps) -> Result<Vec<MapStatus>, DataplaneError> {
    maps.used()
        .into_iter()
        .map(|(name, map, used)| {
            let asking = || format!("ask for the properties of {name}");
            let info = sys::map_info(map).doing(asking)?;
            Ok(MapStatus {
                name,
                id: info.id,
                entries: u64::from(info.entries) * entries_per_value(name),
                used,
                memory_bytes: memory_bytes(map),
            })
        })
        .collect()
}

/// Entries in a value of a map: the arenas hold blocks of them.
fn entries_per_value(map: &str) -> u64 {
    match map {
        name::RING | name::SLOTS | name::LAST_MISS | name::SEQUENCES => BLOCK_ENTRIES as u64,
        _ => 1,
    }
}

fn memory_bytes(map: BorrowedFd<'_>) -> Option<u64> {
    memlock(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?)
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_fdinfo() {
        let fdinfo = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t9\n";
        assert_eq!(memlock(fdinfo), Some(4096));
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
