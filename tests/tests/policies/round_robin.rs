//! Round-robin.

use std::{thread, time::Duration};

use xlb_tests::lab::wait_until;

use crate::stage::Stage;

const ROUND_ROBIN: &str = "policy = \"round-robin\"";
const MAGLEV: &str = "policy = \"maglev\"";

#[test]
fn connections_spread_by_weight_and_stay_whatever_changes() {
    let mut stage = Stage::new("turns", &[1, 2, 1, 2], MAGLEV);
    let _servers = stage.serve();
    let old = stage.connect(12);
    assert_eq!(stage.used("FLOWS") + stage.used("PENDING"), 0, "at rest");

    // Another policy moves nothing, and decides from now on.
    stage.reload(4, ROUND_ROBIN);
    let turns = stage.connect(12);
    assert_eq!(stage.spread(&turns), [2, 4, 2, 4]);
    stage.answering(&old, 10);
    assert!(
        stage.used("FLOWS") >= 12,
        "every new connection is recorded"
    );

    // Backends come and go.
    stage.reload(3, ROUND_ROBIN);
    let fewer = stage.connect(8);
    assert_eq!(stage.spread(&fewer), [2, 4, 2, 0]);
    stage.reload(4, ROUND_ROBIN);

    // The policy is given up while no agent runs.
    stage.agent.kill9();
    stage.write(4, MAGLEV);
    stage.agent.start_again();
    for clients in [&old, &turns, &fewer] {
        stage.answering(clients, 10);
    }
    // Longer than the idle time: records hold their slots, and whoever talks keeps its record.
    thread::sleep(Duration::from_secs(6));
    for clients in [&old, &turns, &fewer] {
        stage.answering(clients, 10);
    }

    // And is taken up and given up by a reload.
    stage.reload(4, ROUND_ROBIN);
    let last = stage.connect(6);
    stage.reload(4, MAGLEV);
    for clients in [old, turns, fewer, last] {
        stage.answering(&clients, 10);
        for connection in clients.stop() {
            assert_eq!(connection.broken, None);
        }
    }
    wait_until("all is at rest", Duration::from_secs(60), || {
        let status = stage.agent.cli(&["status", "-o", "json"]);
        let features = status["program"]["features"].as_array().expect("features");
        status["pools"][0]["moving_slots"] == 0
            && stage.used("FLOWS") == 0
            && !features.iter().any(|feature| feature == "tracked")
    });
}
