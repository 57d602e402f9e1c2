//! Loading programs on maps that are pinned.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    EbpfError, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use xlb_common::{
    decap,
    maps::{PROGRAM, global},
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

/// Loads the balancer's program on maps of these sizes, and pins it.
pub(super) fn load(
    spec: &Spec,
    sizes: &Sizes,
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<OwnedFd, DataplaneError> {
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
    load_on(&mut loader, BALANCER, PROGRAM, &layout(sizes), pin_of, pin)
}

/// Loads the decapsulation program on these maps, and pins it.
pub(super) fn load_decapsulator(
    maps: &[MapLayout],
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<OwnedFd, DataplaneError> {
    let mut loader = EbpfLoader::new();
    load_on(&mut loader, DECAPSULATOR, decap::PROGRAM, maps, pin_of, pin)
}

/// Loads the program of an object on maps that are pinned, and pins it.
fn load_on<'a>(
    loader: &mut EbpfLoader<'a>,
    object: &[u8],
    program: &str,
    maps: &[MapLayout],
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<OwnedFd, DataplaneError> {
    let failed = |error: EbpfError| DataplaneError::Load(Box::new(error));
    loader.btf(None);
    for map in maps {
        loader
            .map_pin_path(map.name, pin_of(map.name))
            .map_max_entries(map.name, map.entries);
    }
    let mut object = loader.load(object).map_err(failed)?;
    let program: &mut Xdp = object
        .program_mut(program)
        .ok_or_else(|| DataplaneError::Spec(format!("the eBPF object has no program {program}")))?
        .try_into()
        .map_err(|error: ProgramError| failed(error.into()))?;
    program.load().map_err(|error| failed(error.into()))?;
    let fd = program
        .fd()
        .map_err(|error| failed(error.into()))?
        .as_fd()
        .try_clone_to_owned()
        .doing(|| "duplicate the program's descriptor".to_owned())?;
    sys::pin(fd.as_fd(), pin).doing(|| format!("pin the program {}", pin.display()))?;
    Ok(fd)
}
