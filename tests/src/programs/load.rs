//! Loads the programs.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::Xdp,
};
use xlb_common::{
    limits::ENDPOINT_TABLE_MIN,
    maps::{PROGRAM, global, name, way},
    nat::PORTS_OF_SOURCE,
};

/// The balancer's object.
pub const BALANCER: &str = "xlb-ebpf";

/// The object of the backend's side.
pub const DECAPSULATOR: &str = "xlb-decap";

/// Entries of a table of endpoints less one.
const MASK: u32 = ENDPOINT_TABLE_MIN - 1;

/// The object of this name: next to the one that `XLB_EBPF_OBJECT` names, else where `cargo xtask build`
/// leaves it.
///
/// # Errors
///
/// Names the file that can't be read.
pub fn object(name: &str) -> Result<Vec<u8>> {
    let built = || {
        let target = "../target/ebpf/bpfel-unknown-none/release/xlb-ebpf";
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target)
    };
    let path = env::var_os("XLB_EBPF_OBJECT")
        .map_or_else(built, PathBuf::from)
        .with_file_name(name);
    fs::read(&path).with_context(|| {
        format!(
            "read the eBPF object {}, which `cargo xtask build` makes",
            path.display()
        )
    })
}

/// A loader of the balancer with these features, this key of the flow hash, and room for so many records
/// in `PENDING` and in `FLOWS`.
#[must_use]
pub fn balancer<'a>(
    features: &'a u32,
    hash_key: &'a [u64; 2],
    pending: u32,
    flows: u32,
) -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader
        .override_global(global::HASH_KEY, hash_key, true)
        .override_global(global::FEATURES, features, true)
        .map_max_entries(name::PENDING, pending)
        .map_max_entries(name::FLOWS, flows)
        .map_max_entries(name::NAT_PORTS, PORTS_OF_SOURCE)
        .map_max_entries(name::NAT_FLOWS, flows);
    for mask in [
        global::VIPS4_MASK,
        global::VIPS6_MASK,
        global::REPLIES4_MASK,
        global::REPLIES6_MASK,
    ] {
        loader.override_global(mask, &MASK, true);
    }
    loader
}

/// Loads the balancer's programs, and links them. The kernel empties the map of programs when it is
/// dropped.
///
/// # Errors
///
/// What the verifier says.
pub fn programs(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>> {
    program(ebpf, PROGRAM)?;
    let ways = ebpf.take_map(name::WAYS).context("a map of programs")?;
    let mut ways = ProgramArray::try_from(ways)?;
    for (index, name) in (0..).zip(way::PROGRAMS) {
        ways.set(index, program(ebpf, name)?.fd()?, 0)?;
    }
    Ok(ways)
}

/// Loads a program of an object.
///
/// # Errors
///
/// What the verifier says.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a Xdp> {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?
        .try_into()?;
    program
        .load()
        .with_context(|| format!("load the program {name}"))?;
    Ok(program)
}
