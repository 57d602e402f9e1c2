//! The eBPF programs, loaded as tests want them: sets of features, and what the verifier makes of each.

pub mod load;
pub mod maps;
pub mod measure;

use xlb_common::maps::feature;

/// With every set of families, no feature and each alone; and all features but each, and all: a branch is
/// removed, and a branch is there, next to none and next to all others. All sets would take hours.
pub fn sets() -> impl Iterator<Item = u32> {
    let families = feature::IPV4 | feature::IPV6;
    (0..=feature::EVERY).filter(move |features| {
        let missing = feature::EVERY & !features;
        (features & !families).count_ones() <= 1 || missing.count_ones() <= 1
    })
}

/// A set of features in words: those that are there, or, if these are many, those that are not.
#[must_use]
pub fn name_of(features: u32) -> String {
    let names = |bits: u32| {
        let found = feature::ALL.iter().filter(|(bit, _)| bits & bit != 0);
        let names: Vec<&str> = found.map(|(_, name)| *name).collect();
        names.join("+")
    };
    let missing = feature::EVERY & !features;
    match (features, missing) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        _ if features.count_ones() <= missing.count_ones() => names(features),
        _ => format!("all-but-{}", names(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_short_names() {
        assert_eq!(name_of(0), "none");
        assert_eq!(name_of(feature::IPV4 | feature::DNAT), "ipv4+dnat");
        assert_eq!(name_of(feature::EVERY & !feature::GUE), "all-but-gue");
        assert_eq!(name_of(feature::EVERY), "all");
    }
}
