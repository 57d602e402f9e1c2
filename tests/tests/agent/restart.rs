//! The data path outlives its agent, and the next agent takes it over as it is.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};
use xlb_tests::lab::{DatagramOptions, Datagrams, Load, wait_until};

use crate::stage::{ECHO, PATIENCE, Stage, WEB, kept_on};

/// How long a host is without an agent.
const ABSENCE: Duration = Duration::from_secs(2);

/// What the next agent must find as it was, of each backend.
fn backends(stage: &Stage) -> Vec<Value> {
    let rows = stage.cli("backend list web -o json").json();
    let rows = rows.as_array().expect("backends are a list").iter();
    let kept = ["endpoint", "number", "state", "weight", "slots"];
    rows.map(|row| kept.iter().map(|key| row[key].clone()).collect())
        .collect()
}

#[test]
fn what_an_agent_leaves_is_what_the_next_one_finds() {
    let mut stage = Stage::start("restart", 4);
    let clients = stage.keep_connections();
    // One is well, and each of the others in a state of its own.
    stage.backends[1].kill9();
    let drain = format!("backend drain web {} --timeout 1h", stage.web(2));
    assert_eq!(stage.cli(&drain).code, 0);
    let disable = format!("backend disable web {}", stage.web(3));
    assert_eq!(stage.cli(&disable).code, 0);
    stage.wait_for_state(stage.web(1), "down");
    let before = backends(&stage);
    let leaving = |stage: &Stage| stage.backend("web", stage.web(2))["leaving_slots"].clone();
    let leaving_before = leaving(&stage);
    let states: Vec<&Value> = before.iter().map(|row| &row[2]).collect();
    assert_eq!(json!(states), json!(["up", "down", "draining", "disabled"]));

    let load = Load::start(&stage.topology.client.ns, stage.load());
    let datagrams = Datagrams::start(
        &stage.topology.client.ns,
        DatagramOptions {
            rate_per_s: 500,
            ..DatagramOptions::new(ECHO)
        },
    );
    for killed in [true, false] {
        if killed {
            stage.agent.kill9();
        } else {
            stage.agent.stop();
        }
        thread::sleep(ABSENCE);
        stage.agent.start_again();
        assert_eq!(backends(&stage), before, "killed: {killed}");
        assert_eq!(leaving(&stage), leaving_before);
        let drain = stage.backend("web", stage.web(2));
        let left_s = drain["drain_ends_in_s"].as_u64().expect("a number");
        // The clock has gone on meanwhile.
        assert!(left_s <= 3600 - ABSENCE.as_secs(), "{left_s}");
        assert!(stage.agent.log().contains("found: true"));
    }
    let (requests, packets) = (load.stop(), datagrams.stop());
    let failed: Vec<_> = requests.iter().filter(|request| request.failed()).collect();
    assert!(requests.len() > 100 && failed.is_empty(), "{failed:?}");
    assert!(packets.sent > 1000 && packets.lost == 0, "{packets:?}");
    let kept = clients.snapshot();
    for backend in ["backend1", "backend3"] {
        let kept = kept_on(&kept, backend);
        assert!(
            !kept.is_empty() && kept.iter().all(|&goes_on| goes_on),
            "{backend}: {kept:?}"
        );
    }

    // The drain that was taken over ends when it is told to.
    let drain = format!("backend drain web {} --timeout 1s", stage.web(2));
    assert_eq!(stage.cli(&drain).code, 0);
    wait_until("the connections left have moved", PATIENCE, || {
        kept_on(&clients.snapshot(), "backend3")
            .iter()
            .all(|goes_on| !goes_on)
    });
    assert_eq!(leaving(&stage), json!(0));
    assert!(
        kept_on(&clients.stop(), "backend1")
            .iter()
            .all(|&goes_on| goes_on)
    );
}

/// Names below the pin directory.
fn pins(stage: &Stage) -> Vec<String> {
    let directory = stage.agent.pin_directory().display().to_string();
    let mut pins: Vec<String> = stage
        .topology
        .balancer
        .ns
        .exec(&["find", &directory])
        .lines()
        .map(str::to_owned)
        .collect();
    pins.sort();
    pins
}

#[test]
fn what_another_version_left_is_left_alone() {
    let mut stage = Stage::start("version", 1);
    let ns = stage.topology.balancer.ns.clone();
    let directory = stage.agent.pin_directory().to_owned();
    stage.agent.stop();

    // Another version of the layout.
    let other = directory.join("v0");
    ns.run(|| fs::create_dir(&other)).expect("make a directory");
    let before = pins(&stage);
    let refused = stage.start_that_fails();
    refused.refused_with(&[
        "v0 was pinned by another version of xlb",
        "nothing was changed",
    ]);
    refused.refused_with(&["`xlb-agent unload`"]);
    assert_eq!(pins(&stage), before);
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));
    ns.run(|| fs::remove_dir(&other))
        .expect("remove a directory");

    // A map that is not what this version would have made.
    let pin = directory.join("v1/EVENTS");
    ns.run(|| fs::remove_file(&pin)).expect("remove a pin");
    let map = "type array key 4 value 8 entries 1 name EVENTS";
    let pin = pin.display().to_string();
    let words = ["bpftool", "map", "create", &pin].into_iter();
    ns.exec(&words.chain(map.split(' ')).collect::<Vec<_>>());
    let before = pins(&stage);
    let refused = stage.start_that_fails();
    refused.refused_with(&["v1 was pinned by another version of xlb", "EVENTS"]);
    assert_eq!(pins(&stage), before);
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));

    // The way out that the message names.
    let unload = stage.cli("unload");
    assert_eq!(unload.code, 0, "{unload:?}");
    stage.agent.start_again();
    stage.wait_until_well();
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));
}
