//! Loading programs on maps that are pinned.

use std::{
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use xlb_common::{
    collect::BURY,
    decap,
    maps::{PROGRAM, global, name, way},
};

use super::{
    error::{DataplaneError, Doing},
    layout::{MapLayout, Sizes, layout},
    spec::Spec,
    sys,
};

/// The balancer's object, which the agent carries with it.
static BALANCER: &[u8] = aya::include_bytes_aligned!(env!("XLB_EBPF_OBJECT"));

/// The object of the decapsulation program, which it carries too.
static DECAPSULATOR: &[u8] = aya::include_bytes_aligned!(env!("XLB_DECAP_OBJECT"));

/// The balancer's programs, loaded.
pub(super) struct Loaded {
    /// The one that balances.
    pub(super) balancer: OwnedFd,
    /// The one that exchanges words of records, which is not pinned: an agent loads its own.
    pub(super) bury: OwnedFd,
}

/// Loads the balancer's programs on maps of these sizes, and pins the one that balances. The others are
/// held by the map that it finds them in.
pub(super) fn load(
    spec: &Spec,
    sizes: &Sizes,
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<Loaded, DataplaneError> {
    let masks = [
        (global::VIPS4_MASK, sizes.vips4 - 1),
        (global::VIPS6_MASK, sizes.vips6 - 1),
        (global::REPLIES4_MASK, sizes.replies4 - 1),
        (global::REPLIES6_MASK, sizes.replies6 - 1),
    ];
    let mut loader = EbpfLoader::new();
    loader
        .override_global(global::HASH_KEY, &spec.hash_key, true)
        .override_global(global::FEATURES, &spec.features, true);
    for (name, mask) in &masks {
        loader.override_global(name, mask, true);
    }
    let mut object = open_on(&mut loader, BALANCER, &layout(sizes), &pin_of)?;
    let balancer = load_program(&mut object, PROGRAM)?;
    let bury = load_program(&mut object, BURY)?;
    load_ways(&mut object, &pin_of(name::WAYS))?;
    sys::pin(balancer.as_fd(), pin).doing(|| format!("pin the program {}", pin.display()))?;
    Ok(Loaded { balancer, bury })
}

/// Loads the programs that a packet's way may go on in, and puts them into their pinned map.
fn load_ways(object: &mut Ebpf, pin: &Path) -> Result<(), DataplaneError> {
    let filling = || format!("fill {}", pin.display());
    let ways = sys::open_pin(pin).doing(filling)?;
    for (index, name) in (0_u32..).zip(way::PROGRAMS) {
        let program = load_program(object, name)?;
        let number = program.as_raw_fd().cast_unsigned();
        sys::map_update(ways.as_fd(), &index, &[number], 0).doing(filling)?;
    }
    Ok(())
}

/// Loads the decapsulation program on these maps, and pins it.
pub(super) fn load_decapsulator(
    maps: &[MapLayout],
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<OwnedFd, DataplaneError> {
    let mut object = open_on(&mut EbpfLoader::new(), DECAPSULATOR, maps, pin_of)?;
    let program = load_program(&mut object, decap::PROGRAM)?;
    sys::pin(program.as_fd(), pin).doing(|| format!("pin the program {}", pin.display()))?;
    Ok(program)
}

/// Opens an object on maps that are pinned.
fn open_on<'a>(
    loader: &mut EbpfLoader<'a>,
    object: &[u8],
    maps: &[MapLayout],
    pin_of: impl Fn(&str) -> PathBuf,
) -> Result<Ebpf, DataplaneError> {
    loader.btf(None);
    for map in maps {
        loader
            .map_pin_path(map.name, pin_of(map.name))
            .map_max_entries(map.name, map.entries);
    }
    let loaded = loader.load(object);
    loaded.map_err(|error: EbpfError| DataplaneError::Load(Box::new(error)))
}

fn load_program(object: &mut Ebpf, name: &str) -> Result<OwnedFd, DataplaneError> {
    let failed = |error: ProgramError| DataplaneError::Load(Box::new(error.into()));
    let program: &mut Xdp = object
        .program_mut(name)
        .ok_or_else(|| DataplaneError::Spec(format!("the eBPF object has no program {name}")))?
        .try_into()
        .map_err(failed)?;
    program.load().map_err(failed)?;
    program
        .fd()
        .map_err(failed)?
        .as_fd()
        .try_clone_to_owned()
        .doing(|| "duplicate the program's descriptor".to_owned())
}
