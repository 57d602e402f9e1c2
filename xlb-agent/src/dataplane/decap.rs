//! The decapsulation program of a backend: pinned, adopted and exchanged as the balancer's is. Its
//! maps have one size, so that none ever grows.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use xlb_common::{
    decap::{Reason, SYSCTLS_MAX, Sysctl, name},
    limits::{MAX_BACKEND_VIPS, MAX_BALANCER_PREFIXES},
};
use xlb_control::config::Mode;

use super::{
    attach::{self, AttachMode},
    counters::PerCpuCounters,
    error::{DataplaneError, Doing},
    hash::{KernelMap, RouteKey},
    host,
    install::{found_maps, refuse_other_versions},
    layout::{Kind, MapLayout, NO_PREALLOC},
    mapped::MappedArray,
    pins::{self, DECAPSULATOR, Pins},
    program,
    spec::{Interface, check_interfaces},
    stage::{self, Stage},
    status::{self, InterfaceStatus, ProgramStatus},
    sys,
};

/// The layout of all maps.
fn layout() -> Vec<MapLayout> {
    let (balancers, vips) = (MAX_BALANCER_PREFIXES, MAX_BACKEND_VIPS);
    let (trie, hash) = (Kind::LpmTrie, Kind::Hash);
    let reasons = Reason::COUNT as u32;
    vec![
        MapLayout::keyed::<RouteKey<4>, u32>(name::BALANCERS4, trie, balancers, NO_PREALLOC),
        MapLayout::keyed::<RouteKey<16>, u32>(name::BALANCERS6, trie, balancers, NO_PREALLOC),
        MapLayout::keyed::<[u8; 4], u32>(name::LOCAL_VIPS4, hash, vips, NO_PREALLOC),
        MapLayout::keyed::<[u8; 16], u32>(name::LOCAL_VIPS6, hash, vips, NO_PREALLOC),
        MapLayout::keyed::<u32, u64>(name::DECAP_REASONS, Kind::PerCpuArray, reasons, 0),
        MapLayout::mapped::<Sysctl>(name::SYSCTLS, SYSCTLS_MAX),
    ]
}

/// The maps, typed.
#[derive(Debug)]
pub struct DecapMaps {
    /// IPv4 prefixes of balancers.
    pub balancers4: KernelMap<RouteKey<4>, u32>,
    /// IPv6 prefixes of balancers.
    pub balancers6: KernelMap<RouteKey<16>, u32>,
    /// IPv4 VIPs, with bits of `xlb_common::decap::vip_flag`.
    pub vips4: KernelMap<[u8; 4], u32>,
    /// IPv6 VIPs, with bits of `xlb_common::decap::vip_flag`.
    pub vips6: KernelMap<[u8; 16], u32>,
    /// The agent's record of kernel parameters.
    pub sysctls: MappedArray<Sysctl>,
    reasons: PerCpuCounters<u64>,
}

impl DecapMaps {
    fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        let fd = |name: &str| -> Result<OwnedFd, DataplaneError> {
            let path = pins.map(name);
            sys::open_pin(&path).doing(|| format!("open the pinned map {}", path.display()))
        };
        let mapping = |name: &'static str| move || format!("map {name} into memory");
        Ok(Self {
            balancers4: KernelMap::new(fd(name::BALANCERS4)?),
            balancers6: KernelMap::new(fd(name::BALANCERS6)?),
            vips4: KernelMap::new(fd(name::LOCAL_VIPS4)?),
            vips6: KernelMap::new(fd(name::LOCAL_VIPS6)?),
            sysctls: MappedArray::new(fd(name::SYSCTLS)?).doing(mapping(name::SYSCTLS))?,
            reasons: PerCpuCounters::new(fd(name::DECAP_REASONS)?)
                .doing(mapping(name::DECAP_REASONS))?,
        })
    }

    /// Every reason with its number of packets.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn reasons(&self) -> io::Result<Vec<(Reason, u64)>> {
        let counts = self.reasons.read_range(0, Reason::COUNT as u32)?;
        Ok(Reason::ALL.iter().copied().zip(counts).collect())
    }
}

/// The decapsulation program, its links and maps.
#[derive(Debug)]
pub struct Decapsulator {
    pins: Pins,
    program: OwnedFd,
    /// The maps.
    pub maps: DecapMaps,
}

impl Decapsulator {
    /// Makes the program run on these interfaces, on the maps of an earlier agent where there are
    /// some. `prepare` is called with the maps before the program sees a packet.
    ///
    /// # Errors
    ///
    /// As for [`super::Dataplane::open`], and what `prepare` says.
    pub fn open(
        pin_dir: &Path,
        interfaces: &[Interface],
        mode: Mode,
        prepare: impl FnOnce(&mut DecapMaps) -> Result<(), DataplaneError>,
    ) -> Result<(Self, Vec<(String, AttachMode)>), DataplaneError> {
        host::check()?;
        check_interfaces(interfaces)?;
        pins::prepare_pin_dir(pin_dir)?;
        let pins = Pins::new(pin_dir, DECAPSULATOR);
        refuse_other_versions(pin_dir, DECAPSULATOR)?;
        let found = !found_maps(&pins, &layout())?.is_empty();
        attach::check(interfaces, &pins.pinned_links()?)?;
        pins.create()?;
        let opened = Self::adopt(pins, interfaces, mode, prepare);
        if opened.is_err() && !found {
            // Nothing was here before, so nothing of a failed attempt need stay.
            if let Err(error) = pins::unload(pin_dir) {
                tracing::warn!(%error, "removing what a failed start left");
            }
        }
        opened
    }

    fn adopt(
        pins: Pins,
        interfaces: &[Interface],
        mode: Mode,
        prepare: impl FnOnce(&mut DecapMaps) -> Result<(), DataplaneError>,
    ) -> Result<(Self, Vec<(String, AttachMode)>), DataplaneError> {
        let maps = layout();
        stage::repair(&pins, &maps)?;
        for map in maps.iter().filter(|map| !pins.map(map.name).exists()) {
            stage::create_map(map, &pins.map(map.name))?;
        }
        let mut opened = DecapMaps::open(&pins)?;
        prepare(&mut opened)?;
        let stage = Stage::begin(&pins, &[])?;
        let loaded = program::load_decapsulator(&maps, |name| pins.map(name), &stage.program());
        let program = match loaded {
            Ok(program) => program,
            Err(error) => {
                stage.discard()?;
                return Err(error);
            }
        };
        stage.commit(&maps)?;
        let attached = attach::reconcile(&pins, program.as_fd(), interfaces, mode)?;
        let this = Self {
            pins,
            program,
            maps: opened,
        };
        Ok((this, attached))
    }

    /// Makes the program run on exactly these interfaces, one of which may have gone and come back.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`].
    pub fn attach(
        &mut self,
        interfaces: &[Interface],
        mode: Mode,
    ) -> Result<Vec<(String, AttachMode)>, DataplaneError> {
        check_interfaces(interfaces)?;
        attach::check(interfaces, &self.pins.pinned_links()?)?;
        attach::reconcile(&self.pins, self.program.as_fd(), interfaces, mode)
    }
}

/// A decapsulation program as its pins show it, whether an agent runs or not.
#[derive(Debug)]
pub struct Pinned {
    /// The program.
    pub program: ProgramStatus,
    /// Interfaces that it was attached to.
    pub interfaces: Vec<InterfaceStatus>,
    /// The maps.
    pub maps: DecapMaps,
}

impl Pinned {
    /// Looks for one; `None`: there is none.
    ///
    /// # Errors
    ///
    /// What the kernel says; maps of another layout.
    pub fn find(pin_dir: &Path) -> Result<Option<Self>, DataplaneError> {
        let pins = Pins::new(pin_dir, DECAPSULATOR);
        refuse_other_versions(pin_dir, DECAPSULATOR)?;
        let is_whole = layout().iter().all(|map| pins.map(map.name).exists());
        if !is_whole || !pins.program().exists() {
            return Ok(None);
        }
        found_maps(&pins, &layout())?;
        let program = pins.program();
        let program = sys::open_pin(&program).doing(|| format!("open {}", program.display()))?;
        let interfaces = pins
            .pinned_links()?
            .iter()
            .map(|link| {
                Ok(InterfaceStatus {
                    name: pins::interface_name(link.ifindex),
                    ifindex: link.ifindex,
                    mode: match link.ifindex {
                        0 => None,
                        ifindex => attach::mode_of(ifindex)?,
                    },
                    link_id: Some(link.id),
                })
            })
            .collect::<Result<_, DataplaneError>>()?;
        Ok(Some(Self {
            program: status::program(program.as_fd(), 0)?,
            interfaces,
            maps: DecapMaps::open(&pins)?,
        }))
    }
}
