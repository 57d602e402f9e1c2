//! Loading the program on maps that are pinned.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    EbpfError, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use xlb_common::maps::{PROGRAM, global};

use super::{
    error::{DataplaneError, Doing},
    layout::{Sizes, layout},
    spec::Spec,
    sys,
};

/// The object, which the agent carries with it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("XLB_EBPF_OBJECT"));

/// Loads the program on maps of these sizes, and pins it.
pub(super) fn load(
    spec: &Spec,
    sizes: &Sizes,
    pin_of: impl Fn(&str) -> PathBuf,
    pin: &Path,
) -> Result<OwnedFd, DataplaneError> {
    let failed = |error: EbpfError| DataplaneError::Load(Box::new(error));
    let masks = [
        (global::VIPS4_MASK, sizes.vips4 - 1),
        (global::VIPS6_MASK, sizes.vips6 - 1),
        (global::REPLIES4_MASK, sizes.replies4 - 1),
        (global::REPLIES6_MASK, sizes.replies6 - 1),
    ];
    let mut loader = EbpfLoader::new();
    loader
        .btf(None)
        .override_global(global::HASH_KEY, &spec.hash_key, true)
        .override_global(global::FEATURES, &spec.features, true);
    for (name, mask) in &masks {
        loader.override_global(name, mask, true);
    }
    for map in layout(sizes) {
        loader
            .map_pin_path(map.name, pin_of(map.name))
            .map_max_entries(map.name, map.entries);
    }
    let mut object = loader.load(OBJECT).map_err(failed)?;
    let program: &mut Xdp = object
        .program_mut(PROGRAM)
        .ok_or_else(|| DataplaneError::Spec(format!("the eBPF object has no program {PROGRAM}")))?
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
