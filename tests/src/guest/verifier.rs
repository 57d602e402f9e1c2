//! Every program with every set of features.

use std::{env, path::Path};

use super::Counted;
use crate::programs::{Objects, all_features, sets};

/// Set for the first process by `cargo xtask kernels --quick`.
const QUICK: &str = "XLB_QUICK";

/// Whether a set is loaded in a quick run: none, all, one, and all but one.
fn is_simple(features: u32) -> bool {
    let missing = all_features() & !features;
    features.count_ones() <= 1 || missing.count_ones() <= 1
}

/// Loads all of them, once each.
pub(super) fn load_everything() -> Counted {
    // They are next to this program in the image.
    let object = Path::new("/xlb/xlb-ebpf");
    let objects = Objects::read_next_to(object).unwrap_or_else(|error| panic!("{error:#}"));
    let mut counted = Counted::default();
    let quick = env::var_os(QUICK).is_some();
    let all = sets()
        .filter(|features| !quick || is_simple(*features))
        .map(|features| objects.balancer(features))
        .chain([objects.decapsulator()]);
    for loaded in all {
        for measure in loaded.unwrap_or_else(|error| panic!("{error:#}")) {
            counted.programs += 1;
            counted.verified = counted.verified.max(measure.verified);
        }
    }
    counted
}
