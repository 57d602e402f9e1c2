//! Program and maps together: what is found is checked, what is missing made, what is too small
//! replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use xlb_common::maps::{Backend, Service, backend_flag::USED, forward, name};

use super::{
    error::{DataplaneError, Doing},
    layout::{self, MapLayout, Sizes, layout},
    mapped::MappedArray,
    maps::Maps,
    pins::{self, Pins, Tenant},
    program,
    spec::Spec,
    stage::{self, Stage},
    sys,
};

/// Program and maps that are in force after [`install`].
pub(super) struct Installed {
    pub(super) program: OwnedFd,
    pub(super) bury: OwnedFd,
    pub(super) maps: Maps,
    pub(super) sizes: Sizes,
    pub(super) grown: Vec<&'static str>,
}

/// Loads the program on the maps that there are, on new ones where there are none, and on larger
/// ones where they are too small, and puts it into the links.
pub(super) fn install(
    pins: &Pins,
    spec: &Spec,
    prepare: impl FnOnce(&mut Maps) -> Result<(), DataplaneError>,
) -> Result<Installed, DataplaneError> {
    let found = found_maps(pins, &layout(&Sizes::default()))?;
    let sizes = layout::effective_sizes(&spec.sizes, &found);
    let wanted = layout(&sizes);
    let mut grown: Vec<MapLayout> = Vec::new();
    for map in &wanted {
        match found.iter().find(|(name, _)| *name == map.name) {
            _ if map.is_of_load() => grown.push(*map),
            None => stage::create_map(map, &pins.map(map.name))?,
            Some((_, info)) if info.entries < map.entries => grown.push(*map),
            Some(_) => {}
        }
    }
    let stage = Stage::begin(pins, &grown)?;
    let staged = || -> Result<(program::Loaded, Maps), DataplaneError> {
        let mut maps = Maps::open(|name| stage.pin_of(name))?;
        prepare(&mut maps)?;
        let loaded = program::load(spec, &sizes, |name| stage.pin_of(name), &stage.program())?;
        Ok((loaded, maps))
    };
    let (loaded, maps) = match staged() {
        Ok(staged) => staged,
        Err(error) => {
            stage.discard()?;
            return Err(error);
        }
    };
    stage.commit(&wanted)?;
    Ok(Installed {
        program: loaded.balancer,
        bury: loaded.bury,
        maps,
        sizes,
        grown: grown
            .iter()
            .filter(|map| !map.is_of_load())
            .map(|map| map.name)
            .collect(),
    })
}

/// The maps that are pinned, after a look at their layout. Nothing else has been touched when it
/// fails.
pub(super) fn found_maps(
    pins: &Pins,
    layout: &[MapLayout],
) -> Result<Vec<(&'static str, sys::MapInfo)>, DataplaneError> {
    let mut found = Vec::new();
    let mut differences = Vec::new();
    for map in layout {
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
            differences.extend(layout::difference(map, &info));
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
            unload: pins.tenant().unload,
        })
    }
}

/// All bits that are set in the state of any pinned service. A change that is about to be finished
/// has its maps aside.
pub(super) fn pinned_states(pins: &Pins) -> u32 {
    let places = [pins.map(name::SERVICES), pins.commit().join(name::SERVICES)];
    let states = places.iter().map(|pin| {
        let services = sys::open_pin(pin).and_then(MappedArray::<Service>::new);
        services.map_or(0, |services| {
            services.iter().fold(0, |all, service| all | service.state)
        })
    });
    states.fold(0, |all, state| all | state)
}

/// Whether a pinned service has a backend of another family that it sends to in outer headers. A change
/// that is about to be finished has its maps aside.
pub(super) fn pinned_across(pins: &Pins) -> bool {
    let places = |name| [pins.map(name), pins.commit().join(name)];
    let mut families: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
    for pin in places(name::BACKENDS) {
        let Ok(backends) = sys::open_pin(&pin).and_then(MappedArray::<Backend>::new) else {
            continue;
        };
        for backend in backends.iter().filter(|entry| entry.flags & USED != 0) {
            let of_pool = families.entry(backend.pool).or_default();
            of_pool.insert(backend.family);
        }
    }
    places(name::SERVICES).iter().any(|pin| {
        let services = sys::open_pin(pin).and_then(MappedArray::<Service>::new);
        services.is_ok_and(|services| {
            services
                .iter()
                .filter(|service| matches!(service.forward, forward::IPIP | forward::GUE))
                .any(|service| {
                    let of_pool = families.get(&service.pool).into_iter().flatten();
                    of_pool.copied().any(|family| family != service.family)
                })
        })
    })
}

/// Whether a pinned backend takes the port that its packets have. A change that is about to be finished
/// has its maps aside.
pub(super) fn pinned_portless(pins: &Pins) -> bool {
    let places = [pins.map(name::BACKENDS), pins.commit().join(name::BACKENDS)];
    places.iter().any(|pin| {
        let backends = sys::open_pin(pin).and_then(MappedArray::<Backend>::new);
        backends.is_ok_and(|backends| {
            let mut used = backends.iter().filter(|entry| entry.flags & USED != 0);
            used.any(|entry| entry.port_be == 0)
        })
    })
}

/// Fails if another version of xlb pinned its maps here.
pub(super) fn refuse_other_versions(pin_dir: &Path, tenant: Tenant) -> Result<(), DataplaneError> {
    match pins::other_versions(pin_dir, tenant)?.first() {
        Some(other) => Err(DataplaneError::Layout {
            path: other.clone(),
            differences: vec![format!("this version's layout is {}", tenant.version)],
            unload: tenant.unload,
        }),
        None => Ok(()),
    }
}
