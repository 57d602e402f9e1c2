//! Where interfaces stand in `EGRESS`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use xlb_common::limits::MAX_EGRESS;

use crate::netlink::Interface;

/// Indexes in `EGRESS` by the interfaces' names in the configuration. An interface keeps its index
/// for as long as it is configured, missing or not, wherever in the list it stands: next hops name
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) by_name: BTreeMap<String, u16>,
    /// Indexes of interfaces that are not configured any more, which next hops may still name.
    pub(super) given_up: BTreeSet<u16>,
}

impl Places {
    /// The index of an interface.
    pub(super) fn of(&self, interface: &Interface) -> Option<u16> {
        self.by_name.get(&interface.configured).copied()
    }

    /// The places for exactly these names.
    ///
    /// # Errors
    ///
    /// When no place is left.
    pub(super) fn with<'a>(&self, names: impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let names: BTreeSet<&str> = names.collect();
        let mut places = self.clone();
        for (name, index) in &self.by_name {
            if !names.contains(name.as_str()) {
                places.by_name.remove(name);
                places.given_up.insert(*index);
            }
        }
        for name in names {
            if places.by_name.contains_key(name) {
                continue;
            }
            let taken = |index: &u16| {
                places.given_up.contains(index) || places.by_name.values().any(|of| of == index)
            };
            let free = (1..MAX_EGRESS)
                .filter_map(|index| u16::try_from(index).ok())
                .find(|index| !taken(index));
            let free = free.with_context(|| {
                format!(
                    "there is no room for interface {name} beside the others: take some out first"
                )
            })?;
            places.by_name.insert(name.to_owned(), free);
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(by_name: &[(&str, u16)], given_up: &[u16]) -> Places {
        Places {
            by_name: by_name
                .iter()
                .map(|&(name, index)| (name.to_owned(), index))
                .collect(),
            given_up: given_up.iter().copied().collect(),
        }
    }

    #[test]
    fn a_new_interface_gets_a_place_that_nothing_names() {
        let before = places(&[("a", 1), ("b", 2)], &[3]);
        let after = before.with(["b", "c", "d"].into_iter()).expect("room");
        assert_eq!(after, places(&[("b", 2), ("c", 4), ("d", 5)], &[1, 3]));
    }

    #[test]
    fn places_run_out_with_words() {
        let most: Vec<String> = (1..MAX_EGRESS).map(|index| format!("eth{index}")).collect();
        let full = Places::default()
            .with(most.iter().map(String::as_str))
            .expect("as many as the configuration may have");
        let error = full.with(["other"].into_iter()).expect_err("full");
        assert!(error.to_string().contains("interface other"), "{error}");
    }
}
