//! The decapsulation program of a backend: pinned, adopted and exchanged as the balancer's is. Its
//! maps have one size each, but for the counters, which grow with a program that has more reasons.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use xlb_common::{
    decap::{Hop, Reason, SYSCTLS_MAX, Sysctl, name},
    limits::{DECAP_EVENTS_BYTES, MAX_ALTERNATIVES, MAX_BACKEND_VIPS, MAX_BALANCER_PREFIXES},
    reason::REASONS_MAX,
};
use xlb_control::config::Mode;

use super::{
    attach::{self, AttachMode},
    counters::PerCpuCounters,
    error::{DataplaneError, Doing},
    events::Events,
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
    const fn prefixes<const N: usize>(name: &'static str) -> MapLayout {
        let most = MAX_BALANCER_PREFIXES;
        MapLayout::keyed::<RouteKey<N>, u32>(name, Kind::LpmTrie, most, NO_PREALLOC)
    }
    const fn addresses<const N: usize, V>(name: &'static str, most: u32) -> MapLayout {
        MapLayout::keyed::<[u8; N], V>(name, Kind::Hash, most, NO_PREALLOC)
    }
    let reasons = REASONS_MAX;
    vec![
        prefixes::<4>(name::BALANCERS4),
        prefixes::<16>(name::BALANCERS6),
        addresses::<4, u32>(name::LOCAL_VIPS4, MAX_BACKEND_VIPS),
        addresses::<16, u32>(name::LOCAL_VIPS6, MAX_BACKEND_VIPS),
        prefixes::<4>(name::PEERS4),
        prefixes::<16>(name::PEERS6),
        addresses::<4, Hop>(name::ALTERNATIVES4, MAX_ALTERNATIVES),
        addresses::<16, Hop>(name::ALTERNATIVES6, MAX_ALTERNATIVES),
        MapLayout::keyed::<(), ()>(name::DECAP_EVENTS, Kind::RingBuf, DECAP_EVENTS_BYTES, 0),
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
    /// IPv4 prefixes of backends that packets may be passed on to.
    pub peers4: KernelMap<RouteKey<4>, u32>,
    /// IPv6 prefixes of backends that packets may be passed on to.
    pub peers6: KernelMap<RouteKey<16>, u32>,
    /// The ways to such backends, IPv4.
    pub alternatives4: KernelMap<[u8; 4], Hop>,
    /// The ways to such backends, IPv6.
    pub alternatives6: KernelMap<[u8; 16], Hop>,
    /// The agent's record of kernel parameters.
    pub sysctls: MappedArray<Sysctl>,
    reasons: PerCpuCounters<u64>,
}

impl DecapMaps {
    fn open(pin_of: impl Fn(&str) -> PathBuf) -> Result<Self, DataplaneError> {
        let fd = |name: &str| -> Result<OwnedFd, DataplaneError> {
            let path = pin_of(name);
            sys::open_pin(&path).doing(|| format!("open the pinned map {}", path.display()))
        };
        let mapping = |name: &'static str| move || format!("map {name} into memory");
        Ok(Self {
            balancers4: KernelMap::new(fd(name::BALANCERS4)?),
            balancers6: KernelMap::new(fd(name::BALANCERS6)?),
            vips4: KernelMap::new(fd(name::LOCAL_VIPS4)?),
            vips6: KernelMap::new(fd(name::LOCAL_VIPS6)?),
            peers4: KernelMap::new(fd(name::PEERS4)?),
            peers6: KernelMap::new(fd(name::PEERS6)?),
            alternatives4: KernelMap::new(fd(name::ALTERNATIVES4)?),
            alternatives6: KernelMap::new(fd(name::ALTERNATIVES6)?),
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
        let layout = layout();
        stage::repair(&pins, &layout)?;
        let found = found_maps(&pins, &layout)?;
        let mut grown = Vec::new();
        for map in &layout {
            match found.iter().find(|(name, _)| *name == map.name) {
                None => stage::create_map(map, &pins.map(map.name))?,
                Some((_, info)) if info.entries < map.entries => grown.push(*map),
                Some(_) => {}
            }
        }
        let stage = Stage::begin(&pins, &grown)?;
        let staged = || -> Result<(OwnedFd, DecapMaps), DataplaneError> {
            let mut maps = DecapMaps::open(|name| stage.pin_of(name))?;
            prepare(&mut maps)?;
            let pin_of = |name: &str| stage.pin_of(name);
            let program = program::load_decapsulator(&layout, pin_of, &stage.program())?;
            Ok((program, maps))
        };
        let (program, maps) = match staged() {
            Ok(staged) => staged,
            Err(error) => {
                stage.discard()?;
                return Err(error);
            }
        };
        stage.commit(&layout)?;
        let attached = attach::reconcile(&pins, program.as_fd(), interfaces, mode)?;
        let this = Self {
            pins,
            program,
            maps,
        };
        Ok((this, attached))
    }

    /// What the program tells the agent. There may be one reader at a time; within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn events(&self) -> Result<Events, DataplaneError> {
        Events::open(&self.pins, name::DECAP_EVENTS)
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
            maps: DecapMaps::open(|name| pins.map(name))?,
        }))
    }
}
