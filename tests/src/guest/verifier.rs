//! Every program with every set of features.

use super::Counted;
use crate::programs::{
    load::{self, BALANCER, DECAPSULATOR},
    measure, sets,
};

/// Loads all of them, once each.
pub(super) fn load_everything() -> Counted {
    let object = |name| load::object(name).unwrap_or_else(|error| panic!("{error:#}"));
    let (balancer, decapsulator) = (object(BALANCER), object(DECAPSULATOR));
    let mut counted = Counted::default();
    let all = sets()
        .map(|features| measure::balancer(&balancer, features))
        .chain([measure::decapsulator(&decapsulator).map(|measure| vec![measure])]);
    for loaded in all {
        for measure in loaded.unwrap_or_else(|error| panic!("{error:#}")) {
            counted.programs += 1;
            counted.verified = counted.verified.max(measure.verified);
        }
    }
    counted
}
