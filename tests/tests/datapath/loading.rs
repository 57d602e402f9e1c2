//! The verifier accepts the program, whatever the configuration uses.

use xlb_common::{
    decap,
    maps::{PROGRAM, feature, way},
};

use crate::program;

/// Instructions that the verifier may walk through before it gives up: `BPF_COMPLEXITY_LIMIT_INSNS`
/// of the kernel.
const VERIFIER_LIMIT: u32 = 1_000_000;

/// With every set of families, no feature and each alone; and all features but each, and all: a branch is
/// removed, and a branch is there, next to none and next to all others. All sets would take hours.
fn sets() -> impl Iterator<Item = u32> {
    let all = feature::ALL.iter().fold(0, |bits, (bit, _)| bits | bit);
    let families = feature::IPV4 | feature::IPV6;
    (0..=all).filter(move |features| {
        let missing = all & !features;
        (features & !families).count_ones() <= 1 || missing.count_ones() <= 1
    })
}

#[test]
fn sets_of_features_load() {
    let all = feature::ALL.iter().fold(0, |bits, (bit, _)| bits | bit);
    let mut sizes = Vec::new();
    for features in sets() {
        let (ebpf, _ways) = program::load(features);
        for name in [PROGRAM].into_iter().chain(way::PROGRAMS) {
            let info = program::info(&ebpf, name);
            let verified = info
                .verified_instruction_count()
                .expect("Linux 5.16 or newer");
            let translated = info.size_translated().expect("the size of the program");
            if features == all || features.is_power_of_two() {
                println!(
                    "{name} with features {features:#b}: {verified} verified, {translated} bytes translated"
                );
            }
            // A change that brings the verifier near its limit shows here before it shows to a user.
            assert!(
                verified < VERIFIER_LIMIT / 2,
                "{name} with features {features:#b}: {verified}"
            );
            if name == PROGRAM {
                sizes.push(translated);
            }
        }
    }
    assert!(
        sizes[0] * 4 < sizes[sizes.len() - 1],
        "what is not configured should not stand in the program: {sizes:?}"
    );
}

#[test]
fn the_decapsulation_program_loads() {
    let info = program::info(&program::load_decapsulator(), decap::PROGRAM);
    let verified = info
        .verified_instruction_count()
        .expect("Linux 5.16 or newer");
    let translated = info.size_translated().expect("the size of the program");
    println!("decapsulation: {verified} verified, {translated} bytes translated");
    assert!(verified < VERIFIER_LIMIT / 50, "{verified}");
}
