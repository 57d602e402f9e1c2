//! A backend is added to a fleet of three nodes under connections that stay open, alone and while a
//! node goes; and many flows come while nothing changes.

use xlb_tests::churn::{Size, perform};

#[test]
fn connections_break_only_without_transitions_or_second_chance() {
    let report = perform(Size {
        connections: 200,
        backends: 8,
        spoofed: 0,
        flows_at_rest: 20_000,
        cases: &["added", "node-and-backend"],
    });
    assert!(report.ok, "{report:?}");
    let [added, both] = &report.cases[..] else {
        panic!("two cases: {report:?}");
    };
    assert!(added.broken == 0 && added.slots_moved > 0, "{report:?}");
    assert!(added.broken_without_transitions > 0, "{report:?}");
    assert!(both.broken_with_second_chance == 0, "{report:?}");
    let at_rest = &report.at_rest;
    assert_eq!(at_rest.packets, 40_000, "{report:?}");
    assert_eq!((at_rest.table_lookups, at_rest.records), (0, 0));
    assert!(both.nodes_moved > 0 && both.passed_on > 0, "{report:?}");
}
