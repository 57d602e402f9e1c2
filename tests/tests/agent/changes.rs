//! What commands change outlives the agent, and is seen.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt};

use serde_json::{Value, json};
use xlb_tests::lab::{VIP_V4, wait_until};

use crate::stage::{self, CHECK, PATIENCE, Stage, at, kept_on, pool};

const MORE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(VIP_V4), 81);

/// The usual configuration, and a pool without a service.
fn file(stage: &Stage) -> String {
    let spare = [at(&stage.topology.backends[0], 8081)];
    stage::usual(&stage.topology) + &pool("spare", &spare, "")
}

#[track_caller]
fn change(stage: &Stage, line: &str) {
    let run = stage.cli(line);
    assert_eq!(run.code, 0, "{line}: {run:?}");
}

/// All that changes have an effect on.
fn effects(stage: &Stage) -> Value {
    let columns = |line: &str, keys: &[&str]| -> Value {
        let rows = stage.cli(line).json();
        let rows = rows.as_array().expect("a list").iter();
        rows.map(|row| keys.iter().map(|key| row[key].clone()).collect::<Value>())
            .collect()
    };
    json!([
        columns(
            "backend list -o json",
            &["pool", "endpoint", "weight", "state", "origin"]
        ),
        columns("service list -o json", &["name", "port", "pool", "origin"]),
        stage.status()["changes"],
    ])
}

/// Changes that the status lists, each with whether it has an effect.
fn listed(stage: &Stage) -> Vec<(String, bool)> {
    let status = stage.status();
    let changes = status["changes"].as_array().expect("changes are a list");
    let name = |change: &Value| change["change"]["change"].as_str().unwrap_or("").to_owned();
    changes
        .iter()
        .map(|change| (name(change), change["stale"].is_null()))
        .collect()
}

fn without_effect(stage: &Stage) -> Vec<String> {
    let stale = listed(stage)
        .into_iter()
        .filter(|(_, has_effect)| !has_effect);
    stale.map(|(name, _)| name).collect()
}

#[test]
fn changes_outlive_the_agent_and_are_listed() {
    let mut stage = Stage::start("changes", 3);
    stage.agent.write_config(&file(&stage));
    change(&stage, "reload");
    change(&stage, "backend add web 10.80.1.12:8081 --weight 3");
    change(&stage, "backend weight web 10.80.1.11:8080 5");
    change(&stage, "backend disable web 10.80.1.12:8080");
    change(&stage, "backend drain web 10.80.1.13:8080");
    change(&stage, "service remove echo");
    change(
        &stage,
        "service add more --vip 192.0.2.10 --port 81 --forward dnat --pool spare",
    );
    stage.wait_for_state("10.80.1.12:8081".parse().expect("an address"), "up");
    let all = [
        "backend-add",
        "backend-weight",
        "backend-disable",
        "backend-drain",
        "service-remove",
        "service-add",
    ];
    let in_force = |all: &[&str]| -> Vec<(String, bool)> {
        all.iter().map(|&name| (name.to_owned(), true)).collect()
    };
    assert_eq!(listed(&stage), in_force(&all));
    let table = stage.cli("status").out;
    for name in all {
        assert!(
            table
                .lines()
                .any(|line| line.starts_with(name) && line.ends_with("in force")),
            "{table}"
        );
    }

    // What can't be kept is not done.
    let aside = stage.agent.directory().join("state/changes.new");
    fs::create_dir(&aside).expect("be in the way");
    let before = effects(&stage);
    let refused = stage.cli("backend weight web 10.80.1.11:8080 7");
    refused.refused_with(&["write ", "changes.json"]);
    assert_eq!(effects(&stage), before);
    fs::remove_dir(&aside).expect("get out of the way");

    let kept = stage.agent.directory().join("state/changes.json");
    let mode = fs::metadata(&kept).expect("the file of changes").mode();
    assert_eq!(mode & 0o777, 0o600);
    stage.agent.kill9();
    stage.agent.start_again();
    assert_eq!(effects(&stage), before);
    stage.agent.restart();
    assert_eq!(effects(&stage), before);
    assert_eq!(stage.fetch(MORE), Ok("backend1".to_owned()));
    assert!(stage.fetch(stage::ECHO).is_err());

    at_odds_with_the_file(&mut stage);

    // What is taken back is forgotten.
    for line in [
        "backend remove web 10.80.1.12:8081",
        "backend weight web 10.80.1.11:8080 1",
        "backend enable web 10.80.1.12:8080",
        "backend undrain web 10.80.1.13:8080",
        "service add echo --vip 192.0.2.10 --port 7 --protocol udp --forward dnat --pool echo",
        "service remove more",
    ] {
        change(&stage, line);
    }
    assert_eq!(listed(&stage), []);
    stage.wait_until_well();

    fs::write(&kept, "[{").expect("damage the file");
    stage.agent.stop();
    let refused = stage.start_that_fails();
    refused.refused_with(&["changes.json is damaged: move it away"]);
}

#[test]
fn a_removal_says_what_becomes_of_connections() {
    let mut stage = Stage::prepare("removal", 4, |topology| {
        let drop = format!("{CHECK}\non_remove = \"drop\"");
        stage::usual(topology).replacen(CHECK, &drop, 1)
    });
    stage.agent.start_again();
    stage.wait_until_well();
    // The third backend is one that a command added.
    change(&stage, "backend remove web 10.80.1.13:8080");
    change(&stage, "backend add web 10.80.1.13:8081");
    stage.wait_for_state("10.80.1.13:8081".parse().expect("an address"), "up");
    let clients = stage.keep_connections();
    let on = |backend: &str| kept_on(&clients.snapshot(), backend);

    change(&stage, "backend remove web 10.80.1.13:8081 --drain");
    change(&stage, "backend remove web 10.80.1.12:8080 --drain");
    stage.agent.kill9();
    stage.agent.start_again();
    change(&stage, "backend remove web 10.80.1.11:8080 --drop");
    wait_until("what was dropped is broken", PATIENCE, || {
        on("backend1").iter().all(|goes_on| !goes_on)
    });
    for backend in ["backend2", "backend3"] {
        let kept = on(backend);
        assert!(
            !kept.is_empty() && kept.iter().all(|&goes_on| goes_on),
            "{backend}: {kept:?}"
        );
    }
}

/// The file loses what some changes are about, and gets it back.
fn at_odds_with_the_file(stage: &mut Stage) {
    let all = listed(stage);
    let with = file(stage);
    let without = with.replace("10.80.1.13\", port = 8080", "10.80.1.13\", port = 8079");
    let without = without.replace("\"spare\"", "\"other\"");
    assert_ne!(with, without);
    stage.agent.write_config(&without);
    change(stage, "reload");
    for _ in 0..2 {
        assert_eq!(without_effect(stage), ["backend-drain", "service-add"]);
        let table = stage.cli("status").out;
        assert!(
            table.contains("none: pool `web` has no backend 10.80.1.13:8080"),
            "{table}"
        );
        assert!(stage.fetch(MORE).is_err());
        stage.agent.restart();
    }
    // A change that is taken back moves the places of the others in the list.
    change(stage, "backend weight web 10.80.1.11:8080 1");
    assert_eq!(without_effect(stage), ["backend-drain", "service-add"]);
    change(stage, "backend weight web 10.80.1.11:8080 5");
    let warning = "a change made at run time has no effect any more: there is no pool";
    assert_eq!(
        stage.agent.log().matches(warning).count(),
        3,
        "{}",
        stage.agent.log()
    );
    stage.agent.write_config(&with);
    change(stage, "reload");
    assert_eq!(without_effect(stage), [""; 0]);
    assert_eq!(listed(stage).len(), all.len());
    assert_eq!(stage.fetch(MORE), Ok("backend1".to_owned()));
}
