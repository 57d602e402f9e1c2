//! A backend is added to a fleet of three nodes under connections that stay open.

use xlb_tests::churn::{Size, perform};

#[test]
fn a_backend_that_is_added_breaks_connections_only_without_transitions() {
    let report = perform(Size {
        connections: 200,
        backends: 8,
        spoofed: 0,
        cases: 1,
        floods: 0,
    });
    let case = &report.cases[0];
    assert!(case.broken == 0 && case.slots_moved > 0, "{report:?}");
    assert!(case.broken_without_transitions > 0, "{report:?}");
}
