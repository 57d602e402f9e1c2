//! Whatever is typed in, the configuration stays sound.

use proptest::prelude::*;

use super::{
    add, add_service, disable, drain, enable, file, remove, remove_service, undrain, weigh,
};
use crate::{
    api::Change,
    config::{
        check_invariants,
        overrides::{Merged, Touched, apply, record, record_on},
    },
};

/// Any change to few backends and services, so that they meet.
fn any_change() -> impl Strategy<Value = Change> {
    let pool = || prop::sample::select(vec!["web", "front", "dns", "spare", "api", "none"]);
    let endpoint = || {
        prop::sample::select(vec![
            "10.0.1.1:80",
            "10.0.1.2:80",
            "10.0.2.1:53",
            "10.0.9.1:80",
            "10.0.9.2:80",
            "[2001:db8::1]:80",
            "192.0.2.10:443",
        ])
    };
    let service = || prop::sample::select(vec!["front", "dns", "api", "new"]);
    prop_oneof![
        (pool(), endpoint(), 0_u16..3).prop_map(|(p, e, w)| add(p, e, w)),
        (pool(), endpoint()).prop_map(|(p, e)| remove(p, e)),
        (pool(), endpoint()).prop_map(|(p, e)| enable(p, e)),
        (pool(), endpoint()).prop_map(|(p, e)| disable(p, e)),
        (pool(), endpoint(), prop::option::of(0_u64..9)).prop_map(|(p, e, t)| drain(p, e, t)),
        (pool(), endpoint()).prop_map(|(p, e)| undrain(p, e)),
        (pool(), endpoint(), 0_u16..3).prop_map(|(p, e, w)| weigh(p, e, w)),
        (
            service(),
            prop::sample::select(vec!["192.0.2.10", "192.0.2.11", "2001:db8::9"]),
            pool()
        )
            .prop_map(|(s, v, p)| add_service(s, v, 443, p)),
        service().prop_map(remove_service),
    ]
}

proptest! {
    /// Whatever is typed in, the configuration stays sound, nothing recorded is stale, and the list
    /// is the same after it was written and read.
    #[test]
    fn recorded_changes_always_fit(new in prop::collection::vec(any_change(), 0..30)) {
        let mut changes = Vec::new();
        for change in new {
            let before = changes.clone();
            if record(&mut changes, change, &file()).is_err() {
                prop_assert_eq!(&changes, &before);
            }
            let merged = apply(&file(), &changes);
            prop_assert_eq!(&merged.stale, &[]);
            prop_assert_eq!(check_invariants(&merged.config), Vec::<String>::new());
        }
        let json = serde_json::to_string(&changes).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Change>>(&json).unwrap(), changes);
    }

    /// A merger that is kept in line is the one that is made anew, and the answers are the same.
    #[test]
    fn a_merger_in_line_is_the_merger(new in prop::collection::vec(any_change(), 0..30)) {
        let (mut changes, mut oracle) = (Vec::new(), Vec::new());
        let mut merged = apply(&file(), &[]);
        for change in new {
            let expected = record(&mut oracle, change.clone(), &file());
            let was = merged.clone();
            let answer = record_on(&mut changes, change, &file(), &mut merged);
            match &answer {
                Ok((_, Touched::Services)) => merged = apply(&file(), &changes),
                Ok((_, Touched::Pool { name, before })) => {
                    let mut back = merged.clone();
                    back.replace(name, Merged::clone(before));
                    prop_assert_eq!(&back, &was);
                }
                Err(_) => {}
            }
            prop_assert_eq!(answer.map(|(changed, _)| changed), expected);
            prop_assert_eq!(&changes, &oracle);
            prop_assert_eq!(&merged, &apply(&file(), &oracle));
        }
    }

    /// A list that was recorded for another file never makes an unsound configuration.
    #[test]
    fn any_list_leaves_the_configuration_sound(changes in prop::collection::vec(any_change(), 0..20)) {
        let merged = apply(&file(), &changes);
        prop_assert_eq!(check_invariants(&merged.config), Vec::<String>::new());
        for (pool, endpoint) in merged.admin.keys() {
            let pool = &merged.config.pools[pool];
            prop_assert!(pool.backends.iter().any(|backend| backend.endpoint() == *endpoint));
        }
    }
}
