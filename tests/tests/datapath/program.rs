//! Loads the program.

use std::{env, fs, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, ProgramArray},
    programs::{ProgramInfo, Xdp},
};
use xlb_common::{
    decap,
    limits::ENDPOINT_TABLE_MIN,
    maps::{PROGRAM, global, name, way},
};

/// Key of the flow hash in these tests.
pub(crate) const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Entries of `PENDING` and of `FLOWS`: few enough to fill.
pub(crate) const FLOW_ENTRIES: u32 = 8;

/// Where an object is: next to the one that `cargo xtask test` names, else where `cargo xtask build`
/// leaves it.
fn object_path(name: &str) -> PathBuf {
    env::var_os("XLB_EBPF_OBJECT")
        .map_or_else(
            || {
                PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                    .join("../target/ebpf/bpfel-unknown-none/release/xlb-ebpf")
            },
            PathBuf::from,
        )
        .with_file_name(name)
}

/// An object's bytes.
fn object(name: &str) -> Vec<u8> {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests load an XDP program: run them as root, by `cargo xtask test`"
    );
    let path = object_path(name);
    fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "read the eBPF object {}, which `cargo xtask build` makes: {error}",
            path.display()
        )
    })
}

/// Loads the programs and their maps with these features, which the verifier takes for constants. The
/// kernel empties the map of programs when it is dropped.
pub(crate) fn load(features: u32) -> (Ebpf, ProgramArray<MapData>) {
    let object = object("xlb-ebpf");
    let mask = ENDPOINT_TABLE_MIN - 1;
    let mut loader = EbpfLoader::new();
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(global::HASH_KEY, &HASH_KEY, true)
        .override_global(global::FEATURES, &features, true)
        .map_max_entries(name::PENDING, FLOW_ENTRIES)
        .map_max_entries(name::FLOWS, FLOW_ENTRIES);
    for name in [
        global::VIPS4_MASK,
        global::VIPS6_MASK,
        global::REPLIES4_MASK,
        global::REPLIES6_MASK,
    ] {
        loader.override_global(name, &mask, true);
    }
    let mut ebpf = loader
        .load(&object)
        .unwrap_or_else(|error| panic!("load the object: {error:?}"));
    let what = |name| format!("{name} with features {features:#b}");
    load_program(&mut ebpf, PROGRAM, &what(PROGRAM));
    let mut ways = ProgramArray::try_from(ebpf.take_map(name::WAYS).expect("the object's map"))
        .expect("a map of programs");
    for (index, name) in (0..).zip(way::PROGRAMS) {
        load_program(&mut ebpf, name, &what(name));
        let program: &Xdp = ebpf
            .program(name)
            .expect("the object's program")
            .try_into()
            .expect("a program of type XDP");
        ways.set(index, program.fd().expect("it is loaded"), 0)
            .expect("a place for it");
    }
    (ebpf, ways)
}

/// Loads the decapsulation program and its maps.
pub(crate) fn load_decapsulator() -> Ebpf {
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(&object("xlb-decap"))
        .unwrap_or_else(|error| panic!("load the object: {error:?}"));
    load_program(&mut ebpf, decap::PROGRAM, "the decapsulation program");
    ebpf
}

fn load_program(ebpf: &mut Ebpf, name: &str, what: &str) {
    let program: &mut Xdp = ebpf
        .program_mut(name)
        .expect("the object's program")
        .try_into()
        .expect("a program of type XDP");
    if let Err(error) = program.load() {
        panic!("the verifier refuses {what}: {error}");
    }
}

/// What the kernel says of a loaded program.
pub(crate) fn info(ebpf: &Ebpf, program: &str) -> ProgramInfo {
    let program: &Xdp = ebpf
        .program(program)
        .expect("the object's program")
        .try_into()
        .expect("a program of type XDP");
    program.info().expect("the kernel's account of the program")
}
