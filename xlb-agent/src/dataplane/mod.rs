//! Everything that touches BPF, as a thin layer: no decision about traffic is made here.
//!
//! Maps, program and links are pinned, so the data path outlives the agent. [`Dataplane::open`] makes
//! what is missing and adopts what it finds; program and maps are exchanged under traffic as
//! [`stage`] describes.

mod attach;
mod copy;
mod counters;
mod egress;
mod error;
mod events;
#[doc(hidden)]
pub mod fault;
mod grace;
mod hash;
mod host;
mod layout;
mod mapped;
mod maps;
mod pins;
mod plain;
mod program;
mod spec;
mod stage;
mod status;
mod sys;
mod table;
mod xdp_query;

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

pub use self::{
    attach::AttachMode,
    counters::{PerCpuCounters, Summed},
    egress::EgressTable,
    error::DataplaneError,
    events::Events,
    grace::rcu_grace_period,
    hash::{Applied, Flows, KernelMap, RouteKey, Routes},
    layout::Sizes,
    mapped::{Arena, MappedArray, Word},
    maps::Maps,
    pins::{prepare_pin_dir, unload},
    plain::Plain,
    spec::{Interface, Spec},
    stage::Repair,
    status::{InterfaceStatus, MapStatus, ProgramStatus, Status},
    table::{Full, Table, TableEntry, entries_for},
};

use self::{
    error::Doing,
    layout::{MapLayout, layout},
    pins::Pins,
    stage::Stage,
};

/// What [`Dataplane::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Maps of an earlier agent were there, and their contents are kept.
    pub found: bool,
    /// What had to be repaired, if an earlier agent was killed in the middle of a change.
    pub repaired: Option<Repair>,
    /// Maps that were replaced by larger ones.
    pub grown: Vec<&'static str>,
    /// How the program is attached to each interface.
    pub attached: Vec<(String, AttachMode)>,
}

/// The data path: program, links and maps.
#[derive(Debug)]
pub struct Dataplane {
    pins: Pins,
    spec: Spec,
    program: OwnedFd,
    maps: Maps,
}

impl Dataplane {
    /// Makes the data path be what `spec` asks for, with what an earlier agent left where there is
    /// something. An adopted data path is not interrupted.
    ///
    /// # Errors
    ///
    /// Says what the host lacks or what the kernel refused. Maps of another layout are left alone,
    /// and so is everything if an interface does not exist or has somebody else's program.
    pub fn open(pin_dir: &Path, spec: &Spec) -> Result<(Self, Adopted), DataplaneError> {
        host::check()?;
        spec.check()?;
        prepare_pin_dir(pin_dir)?;
        let pins = Pins::new(pin_dir);
        refuse_other_versions(pin_dir)?;
        let found = !found_maps(&pins)?.is_empty();
        attach::check(&spec.interfaces, &pins.pinned_links()?)?;

        pins.create()?;
        let opened = Self::adopt(pins, spec, found);
        if opened.is_err() && !found {
            // Nothing was here before, so nothing of a failed attempt need stay.
            if let Err(error) = unload(pin_dir) {
                tracing::warn!(%error, "removing what a failed start left");
            }
        }
        opened
    }

    fn adopt(pins: Pins, spec: &Spec, found: bool) -> Result<(Self, Adopted), DataplaneError> {
        let repaired = stage::repair(&pins, &layout(&spec.sizes))?;
        let installed = install(&pins, spec, |_| Ok(()))?;
        let attached = attach::reconcile(
            &pins,
            installed.program.as_fd(),
            &spec.interfaces,
            spec.mode,
        )?;
        let adopted = Adopted {
            found,
            repaired,
            grown: installed.grown,
            attached,
        };
        let dataplane = Self {
            pins,
            spec: Spec {
                sizes: installed.sizes,
                ..spec.clone()
            },
            program: installed.program,
            maps: installed.maps,
        };
        Ok((dataplane, adopted))
    }

    /// Changes a running data path to what `spec` asks for, without losing a packet. Maps never
    /// shrink. Returns the names of the maps that grew.
    ///
    /// `prepare` is called with the maps that will be in force, before the program that uses them
    /// is. Maps that grew have the contents of their forerunners, endpoint tables too; only those of
    /// `FLOWS`, `PENDING`, `COUNTERS` and `REASONS` follow later. What `prepare` writes into maps that
    /// did not grow, the program in force sees at once. It is called in any case.
    ///
    /// Records that the program makes in `FLOWS` and `PENDING` while these grow are brought over
    /// right after the swap, some milliseconds late. So these two grow best while no slot moves.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`], and what `prepare` says. What ran before runs on.
    pub fn reload(
        &mut self,
        spec: &Spec,
        prepare: impl FnOnce(&mut Maps) -> Result<(), DataplaneError>,
    ) -> Result<Vec<&'static str>, DataplaneError> {
        spec.check()?;
        attach::check(&spec.interfaces, &self.pins.pinned_links()?)?;
        let sizes = spec.sizes.max(&self.spec.sizes);
        let same_program = sizes == self.spec.sizes
            && spec.features == self.spec.features
            && spec.hash_key == self.spec.hash_key;
        let grown = if same_program {
            prepare(&mut self.maps)?;
            Vec::new()
        } else {
            let installed = install(&self.pins, spec, prepare)?;
            self.program = installed.program;
            self.maps = installed.maps;
            self.spec.sizes = installed.sizes;
            self.spec.features = spec.features;
            self.spec.hash_key = spec.hash_key;
            installed.grown
        };
        attach::reconcile(
            &self.pins,
            self.program.as_fd(),
            &spec.interfaces,
            spec.mode,
        )?;
        self.spec.interfaces.clone_from(&spec.interfaces);
        self.spec.mode = spec.mode;
        Ok(grown)
    }

    /// Attaches the program anew to an interface that has gone and come back under another number,
    /// or had its program taken off.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`]; the interface is not among those of the specification.
    pub fn refresh_interface(
        &mut self,
        name: &str,
        new_ifindex: u32,
    ) -> Result<AttachMode, DataplaneError> {
        let mut spec = self.spec.clone();
        let Some(interface) = spec.interfaces.iter_mut().find(|i| i.name == name) else {
            return Err(DataplaneError::NoInterface {
                name: name.to_owned(),
            });
        };
        interface.ifindex = new_ifindex;
        let interface = interface.clone();
        spec.check()?;
        attach::check(std::slice::from_ref(&interface), &self.pins.pinned_links()?)?;
        self.spec = spec;
        // Other interfaces may be gone just now; their turn comes when they are back.
        let mut present = Vec::new();
        for candidate in &self.spec.interfaces {
            if *candidate == interface || attach::mode_of(candidate.ifindex)?.is_some() {
                present.push(candidate.clone());
            }
        }
        let modes = attach::reconcile(&self.pins, self.program.as_fd(), &present, self.spec.mode)?;
        modes
            .into_iter()
            .find_map(|(attached, mode)| (attached == name).then_some(mode))
            .ok_or_else(|| DataplaneError::NoInterface {
                name: name.to_owned(),
            })
    }

    /// The maps.
    #[must_use]
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The maps, to be written.
    #[must_use]
    pub const fn maps_mut(&mut self) -> &mut Maps {
        &mut self.maps
    }

    /// What is in force: what was asked, with sizes as they are.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What the program tells the agent. There may be one reader at a time; within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn events(&self) -> Result<Events, DataplaneError> {
        Events::open(&self.pins)
    }

    /// What is loaded, attached, and how full.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn status(&self) -> Result<Status, DataplaneError> {
        status::status(self)
    }
}

/// Program and maps that are in force after [`install`].
struct Installed {
    program: OwnedFd,
    maps: Maps,
    sizes: Sizes,
    grown: Vec<&'static str>,
}

/// Loads the program on the maps that there are, on new ones where there are none, and on larger
/// ones where they are too small, and puts it into the links.
fn install(
    pins: &Pins,
    spec: &Spec,
    prepare: impl FnOnce(&mut Maps) -> Result<(), DataplaneError>,
) -> Result<Installed, DataplaneError> {
    let found = found_maps(pins)?;
    let sizes = layout::effective_sizes(&spec.sizes, &found);
    let wanted = layout(&sizes);
    let mut grown: Vec<MapLayout> = Vec::new();
    for map in &wanted {
        match found.iter().find(|(name, _)| *name == map.name) {
            None => stage::create_map(map, &pins.map(map.name))?,
            Some((_, info)) if info.entries < map.entries => grown.push(*map),
            Some(_) => {}
        }
    }
    let stage = Stage::begin(pins, &grown)?;
    let staged = || -> Result<(OwnedFd, Maps), DataplaneError> {
        let mut maps = Maps::open(|name| stage.pin_of(name))?;
        prepare(&mut maps)?;
        let program = program::load(spec, &sizes, |name| stage.pin_of(name), &stage.program())?;
        Ok((program, maps))
    };
    let (program, maps) = match staged() {
        Ok(staged) => staged,
        Err(error) => {
            stage.discard()?;
            return Err(error);
        }
    };
    stage.commit(&wanted)?;
    Ok(Installed {
        program,
        maps,
        sizes,
        grown: grown.iter().map(|map| map.name).collect(),
    })
}

/// The maps that are pinned, after a look at their layout. Nothing else has been touched when it
/// fails.
fn found_maps(pins: &Pins) -> Result<Vec<(&'static str, sys::MapInfo)>, DataplaneError> {
    let mut found = Vec::new();
    let mut differences = Vec::new();
    for map in layout(&Sizes::default()) {
        // A change that is about to be finished has its maps aside.
        for (pin, aside) in [
            (pins.map(map.name), false),
            (pins.commit().join(map.name), true),
        ] {
            if !pin.exists() {
                continue;
            }
            let asking = || format!("open the pinned map {}", pin.display());
            let fd = sys::open_pin(&pin).doing(asking)?;
            let info = sys::map_info(fd.as_fd()).doing(asking)?;
            differences.extend(layout::difference(&map, &info));
            if !aside {
                found.push((map.name, info));
            }
        }
    }
    if differences.is_empty() {
        Ok(found)
    } else {
        Err(DataplaneError::Layout {
            path: pins.dir().to_owned(),
            differences,
        })
    }
}

fn refuse_other_versions(pin_dir: &Path) -> Result<(), DataplaneError> {
    match pins::other_versions(pin_dir)?.first() {
        Some(other) => Err(DataplaneError::Layout {
            path: other.clone(),
            differences: vec![format!(
                "this version's layout is {}",
                xlb_common::maps::LAYOUT_VERSION
            )],
        }),
        None => Ok(()),
    }
}
