//! Loads the programs.

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
};
use xlb_common::decap;
use xlb_tests::programs::load;

/// Key of the flow hash in these tests.
pub(crate) const HASH_KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// Entries of `PENDING` and of `FLOWS`: few enough to fill.
pub(crate) const FLOW_ENTRIES: u32 = 8;

/// An object's bytes.
fn object(name: &str) -> Vec<u8> {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests load an XDP program: run them as root, by `cargo xtask test`"
    );
    load::object(name).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Loads the programs and their maps with these features, which the verifier takes for constants. The
/// kernel empties the map of programs when it is dropped.
pub(crate) fn load(features: u32) -> (Ebpf, ProgramArray<MapData>) {
    let mut ebpf = load::balancer(&features, &HASH_KEY, FLOW_ENTRIES, FLOW_ENTRIES)
        .load(&object(load::BALANCER))
        .unwrap_or_else(|error| panic!("load the object: {error:?}"));
    let ways = load::programs(&mut ebpf)
        .unwrap_or_else(|error| panic!("with features {features:#b}: {error:#}"));
    (ebpf, ways)
}

/// Loads the decapsulation program and its maps.
pub(crate) fn load_decapsulator() -> Ebpf {
    let mut ebpf = EbpfLoader::new()
        .load(&object(load::DECAPSULATOR))
        .unwrap_or_else(|error| panic!("load the object: {error:?}"));
    load::program(&mut ebpf, decap::PROGRAM).unwrap_or_else(|error| panic!("{error:#}"));
    ebpf
}
