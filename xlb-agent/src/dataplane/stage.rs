//! Changing program and maps under traffic, and finishing what a crash interrupted.
//!
//! New maps are made and filled in `staging`, and the program is loaded on them there. Renaming that
//! directory to `commit` is the point of no return: before it nothing that runs was touched, and
//! `staging` is discarded; after it everything that is needed is in `commit`, and each step from
//! there on can be done again.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use super::{
    copy,
    error::{DataplaneError, Doing},
    fault::{self, Step},
    grace::rcu_grace_period,
    layout::MapLayout,
    pins::{self, PROGRAM, Pins},
    sys,
};

/// What was found of an agent that was killed in the middle of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// A change that had not begun to take effect was discarded.
    Discarded,
    /// A change that had begun to take effect was finished.
    Finished,
}

/// Finishes or discards a change that was interrupted. `layout` says how maps are copied.
pub(super) fn repair(pins: &Pins, layout: &[MapLayout]) -> Result<Option<Repair>, DataplaneError> {
    let discarded = pins.staging().exists();
    pins::remove_dir(&pins.staging())?;
    if pins.commit().exists() {
        finish(pins, layout)?;
        return Ok(Some(Repair::Finished));
    }
    Ok(discarded.then_some(Repair::Discarded))
}

/// A change in the making.
pub(super) struct Stage<'a> {
    pins: &'a Pins,
    grown: &'a [MapLayout],
}

impl<'a> Stage<'a> {
    /// Makes the maps that grow or belong to the new program, and fills them, but for what the
    /// program adds to all the time.
    pub(super) fn begin(pins: &'a Pins, grown: &'a [MapLayout]) -> Result<Self, DataplaneError> {
        pins::remove_dir(&pins.staging())?;
        pins::make_dir(&pins.staging())?;
        let stage = Self { pins, grown };
        for map in grown {
            create_map(map, &stage.pin_of(map.name))?;
        }
        for map in grown.iter().filter(|map| map.is_copied_early()) {
            stage.copy(map)?;
        }
        fault::reach(Step::MapsStaged);
        Ok(stage)
    }

    /// Where the map that will be in force is pinned.
    pub(super) fn pin_of(&self, name: &str) -> PathBuf {
        if self.grown.iter().any(|map| map.name == name) {
            self.pins.staging().join(name)
        } else {
            self.pins.map(name)
        }
    }

    /// Where the program is to be pinned.
    pub(super) fn program(&self) -> PathBuf {
        self.pins.staging().join(PROGRAM)
    }

    /// Puts the change into effect. If a link does not take the program, all go back to the one that
    /// they had.
    pub(super) fn commit(self, layout: &[MapLayout]) -> Result<(), DataplaneError> {
        fault::reach(Step::ProgramStaged);
        for map in self.grown.iter().filter(|map| map.is_copied_late()) {
            self.copy(map)?;
        }
        rename(&self.pins.staging(), &self.pins.commit())?;
        fault::reach(Step::Committed);
        match finish(self.pins, layout) {
            Err(error @ DataplaneError::Attach { .. }) => {
                self.roll_back()?;
                Err(error)
            }
            other => other,
        }
    }

    /// Discards the change.
    pub(super) fn discard(self) -> Result<(), DataplaneError> {
        pins::remove_dir(&self.pins.staging())
    }

    fn roll_back(&self) -> Result<(), DataplaneError> {
        let former = open(&self.pins.program())?;
        swap_links(self.pins, former.as_fd())?;
        rename(&self.pins.commit(), &self.pins.staging())?;
        pins::remove_dir(&self.pins.staging())
    }

    fn copy(&self, map: &MapLayout) -> Result<(), DataplaneError> {
        let from = open(&self.pins.map(map.name))?;
        let to = open(&self.pin_of(map.name))?;
        copy::copy(map, from, to).doing(|| format!("copy {} into a larger map", map.name))
    }
}

/// Makes a map and pins it.
pub(super) fn create_map(map: &MapLayout, pin: &std::path::Path) -> Result<(), DataplaneError> {
    let fd = sys::map_create(
        map.kind as u32,
        map.key_bytes,
        map.value_bytes,
        map.entries,
        map.flags,
        map.name,
    )
    .doing(|| format!("make {} with {} entries", map.name, map.entries))?;
    sys::pin(fd.as_fd(), pin).doing(|| format!("pin {}", pin.display()))
}

/// Does what is left to do of a committed change.
fn finish(pins: &Pins, layout: &[MapLayout]) -> Result<(), DataplaneError> {
    let committed = pins.commit().join(PROGRAM);
    // The program's pin is the first to be renamed, when all links run it.
    if committed.exists() {
        swap_links(pins, open(&committed)?.as_fd())?;
        fault::reach(Step::LinksSwapped);
    }
    let grown: Vec<&MapLayout> = layout
        .iter()
        .filter(|map| pins.commit().join(map.name).exists())
        .collect();
    if !grown.is_empty() {
        // Packets that are on their way in the former program use its maps until then.
        rcu_grace_period();
    }
    for map in grown.iter().filter(|map| !map.is_of_load()) {
        let from = open(&pins.map(map.name))?;
        let to = open(&pins.commit().join(map.name))?;
        copy::add_newer(map, from, to).doing(|| format!("bring {} up to date", map.name))?;
    }
    if committed.exists() {
        rename(&committed, &pins.program())?;
        fault::reach(Step::ProgramRenamed);
    }
    for map in &grown {
        rename(&pins.commit().join(map.name), &pins.map(map.name))?;
        fault::reach(Step::FirstMapRenamed);
    }
    fault::reach(Step::AllRenamed);
    pins::remove_dir(&pins.commit())
}

/// Has every link run the program.
fn swap_links(pins: &Pins, program: BorrowedFd<'_>) -> Result<(), DataplaneError> {
    let id = sys::program_info(program)
        .doing(|| "ask for the program's number".to_owned())?
        .id;
    for link in pins.pinned_links()? {
        if link.ifindex == 0 || link.program_id == id {
            continue;
        }
        match sys::link_update(link.fd.as_fd(), program) {
            Ok(()) => fault::reach(Step::FirstLinkSwapped),
            // The interface has just gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(source) => {
                return Err(DataplaneError::Attach {
                    interface: pins::interface_name(link.ifindex),
                    mode: super::attach::mode_of(link.ifindex)?
                        .unwrap_or(super::attach::AttachMode::Native),
                    hint: ": the new program was not taken, the former one runs on",
                    source,
                });
            }
        }
    }
    Ok(())
}

fn open(pin: &std::path::Path) -> Result<OwnedFd, DataplaneError> {
    sys::open_pin(pin).doing(|| format!("open {}", pin.display()))
}

fn rename(from: &std::path::Path, to: &std::path::Path) -> Result<(), DataplaneError> {
    fs::rename(from, to).doing(|| format!("rename {} to {}", from.display(), to.display()))
}
