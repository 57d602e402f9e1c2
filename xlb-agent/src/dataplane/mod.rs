//! Everything that touches BPF, as a thin layer: no decision about traffic is made here.
//!
//! Maps, program and links are pinned, so the data path outlives the agent. [`Dataplane::open`] makes
//! what is missing and adopts what it finds; program and maps are exchanged under traffic as
//! `stage` describes. A backend's decapsulation program, [`Decapsulator`], is kept by the same means.

mod attach;
mod copy;
mod counters;
mod decap;
mod egress;
mod error;
mod events;
#[doc(hidden)]
pub mod fault;
mod grace;
mod hash;
mod host;
mod install;
mod layout;
mod mapped;
mod maps;
mod pins;
mod plain;
mod program;
mod records;
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
    decap::{DecapMaps, Decapsulator, Pinned},
    egress::EgressTable,
    error::DataplaneError,
    events::Events,
    grace::rcu_grace_period,
    hash::{Applied, Flows, KernelMap, RouteKey, Routes},
    host::check as check_host,
    layout::Sizes,
    mapped::{Arena, MappedArray, Word},
    maps::Maps,
    pins::{prepare_pin_dir, unload},
    plain::Plain,
    records::Records,
    spec::{Interface, Spec},
    stage::Repair,
    status::{InterfaceStatus, MapStatus, ProgramStatus, Status},
    table::{Full, Table, TableEntry, entries_for},
};

use self::{
    install::{found_maps, install, refuse_other_versions},
    layout::layout,
    pins::{BALANCER, Pins},
};

/// Opens the maps that are pinned, to be read: nothing is made, grown or repaired.
///
/// # Errors
///
/// When nothing is pinned, or the maps are of another version.
pub fn pinned_maps(pin_dir: &Path) -> Result<Maps, DataplaneError> {
    refuse_other_versions(pin_dir, BALANCER)?;
    let pins = Pins::new(pin_dir, BALANCER);
    found_maps(&pins, &layout(&Sizes::default()))?;
    Maps::open(|name| pins.map(name))
}

/// What is loaded, attached and how full, from the pins alone: nothing is made or repaired.
///
/// # Errors
///
/// As for [`pinned_maps`], or when the program is not pinned.
pub fn pinned_status(pin_dir: &Path, maps: &Maps) -> Result<Status, DataplaneError> {
    status::pinned(&Pins::new(pin_dir, BALANCER), maps)
}

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

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// `enum xdp_action`.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// Bytes by which a frame may grow in front, at most: the kernel's headroom.
const MOST_ADDED: usize = 256;

/// The data path: program, links and maps.
#[derive(Debug)]
pub struct Dataplane {
    pins: Pins,
    spec: Spec,
    program: OwnedFd,
    /// The program that exchanges words of records.
    bury: OwnedFd,
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
        check_host()?;
        spec.check()?;
        prepare_pin_dir(pin_dir)?;
        let pins = Pins::new(pin_dir, BALANCER);
        refuse_other_versions(pin_dir, BALANCER)?;
        let found = !found_maps(&pins, &layout(&Sizes::default()))?.is_empty();
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
            bury: installed.bury,
            maps: installed.maps,
        };
        Ok((dataplane, adopted))
    }

    /// All bits that are set in the state of any pinned service; none if nothing is pinned that can
    /// be read.
    #[must_use]
    pub fn pinned_states(pin_dir: &Path) -> u32 {
        install::pinned_states(&Pins::new(pin_dir, BALANCER))
    }

    /// Whether a pinned service has a backend of another family that it sends to in outer headers.
    #[must_use]
    pub fn pinned_across(pin_dir: &Path) -> bool {
        install::pinned_across(&Pins::new(pin_dir, BALANCER))
    }

    /// Whether a pinned backend takes the port that its packets have.
    #[must_use]
    pub fn pinned_portless(pin_dir: &Path) -> bool {
        install::pinned_portless(&Pins::new(pin_dir, BALANCER))
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
        let interfaces = self.present(&spec.interfaces)?;
        attach::check(&interfaces, &self.pins.pinned_links()?)?;
        // On new interfaces first, where it may fail: with the program in force, which does them no
        // service yet, but is on no other interface's way.
        let program = self.program.as_fd();
        let attached = attach::attach_all(&self.pins, program, &interfaces, spec.mode)?;
        let grown = match self.exchange(spec, prepare) {
            Ok(grown) => grown,
            Err(error) => {
                attach::detach(&self.pins, &attached.new)?;
                return Err(error);
            }
        };
        attach::detach_others(&self.pins, &interfaces)?;
        self.spec.interfaces.clone_from(&spec.interfaces);
        self.spec.mode = spec.mode;
        Ok(grown)
    }

    /// Exchanges program and maps for what `spec` asks for, if they are something else.
    fn exchange(
        &mut self,
        spec: &Spec,
        prepare: impl FnOnce(&mut Maps) -> Result<(), DataplaneError>,
    ) -> Result<Vec<&'static str>, DataplaneError> {
        let sizes = spec.sizes.max(&self.spec.sizes);
        let same_program = sizes == self.spec.sizes
            && spec.features == self.spec.features
            && spec.hash_key == self.spec.hash_key;
        if same_program {
            prepare(&mut self.maps)?;
            return Ok(Vec::new());
        }
        let installed = install(&self.pins, spec, prepare)?;
        self.program = installed.program;
        self.bury = installed.bury;
        self.maps = installed.maps;
        self.spec.sizes = installed.sizes;
        self.spec.features = spec.features;
        self.spec.hash_key = spec.hash_key;
        Ok(installed.grown)
    }

    /// Attaches the program anew to an interface that has gone and come back under another number,
    /// or had its program taken off. It need not be among those of the last specification, which
    /// may be of a time when it was not there.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`].
    pub fn refresh_interface(
        &mut self,
        name: &str,
        new_ifindex: u32,
    ) -> Result<AttachMode, DataplaneError> {
        let mut spec = self.spec.clone();
        let interfaces = &mut spec.interfaces;
        match interfaces.iter_mut().find(|known| known.name == name) {
            Some(known) => known.ifindex = new_ifindex,
            None => interfaces.push(Interface {
                name: name.to_owned(),
                ifindex: new_ifindex,
            }),
        }
        spec.check()?;
        let present = self.present(&spec.interfaces)?;
        attach::check(&present, &self.pins.pinned_links()?)?;
        self.spec = spec;
        let modes = attach::reconcile(&self.pins, self.program.as_fd(), &present, self.spec.mode)?;
        modes
            .into_iter()
            .find_map(|(attached, mode)| (attached == name).then_some(mode))
            .ok_or_else(|| DataplaneError::NoInterface {
                name: name.to_owned(),
            })
    }

    /// Those of the interfaces that are new, or are there. One that was there before may be gone just
    /// now, which is no reason to refuse a change; its turn comes when it is back.
    fn present(&self, interfaces: &[Interface]) -> Result<Vec<Interface>, DataplaneError> {
        let mut present = Vec::new();
        for interface in interfaces {
            let known = self.spec.interfaces.contains(interface);
            if !known || attach::exists(interface)? {
                present.push(interface.clone());
            }
        }
        Ok(present)
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

    /// Runs the program on a frame, which goes nowhere: what it would do with one that came in by the
    /// loopback interface. Its maps are as after a real frame.
    ///
    /// # Errors
    ///
    /// What the kernel says: it takes frames from 14 bytes on that leave room in a page.
    pub fn try_frame(&self, frame: &[u8]) -> std::io::Result<Tried> {
        let mut after = vec![0; frame.len() + MOST_ADDED];
        let (action, length) = sys::test_run_with(self.program.as_fd(), frame, &mut after)?;
        after.truncate(length);
        Ok(Tried {
            action,
            frame: after,
        })
    }

    /// What the program tells the agent. There may be one reader at a time; within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn events(&self) -> Result<Events, DataplaneError> {
        Events::open(&self.pins, xlb_common::maps::name::EVENTS)
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
