//! The verifier accepts the program, whatever the configuration uses.

use xlb_common::{
    decap,
    maps::{PROGRAM, feature},
};

use crate::program;

/// Instructions that the verifier may walk through before it gives up: `BPF_COMPLEXITY_LIMIT_INSNS`
/// of the kernel.
const VERIFIER_LIMIT: u32 = 1_000_000;

/// Every combination of features, since each has other branches removed.
#[test]
fn every_set_of_features_loads() {
    let all = feature::ALL.iter().fold(0, |bits, (bit, _)| bits | bit);
    let mut sizes = Vec::new();
    for features in 0..=all {
        let ebpf = program::load(features);
        let info = program::info(&ebpf, PROGRAM);
        let verified = info
            .verified_instruction_count()
            .expect("Linux 5.16 or newer");
        let translated = info.size_translated().expect("the size of the program");
        if features == all || features.is_power_of_two() {
            println!(
                "features {features:#08b}: {verified} verified, {translated} bytes translated"
            );
        }
        // A change that brings the verifier near its limit shows here before it shows to a user.
        assert!(
            verified < VERIFIER_LIMIT / 2,
            "features {features:#b}: {verified}"
        );
        sizes.push(translated);
    }
    assert!(
        sizes[0] * 4 < sizes[all as usize],
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
    assert!(verified < VERIFIER_LIMIT / 100, "{verified}");
}
