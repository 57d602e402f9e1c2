//! `diff` and `reload --dry-run`.

use std::{net::SocketAddr, path::Path, time::Duration};

use serde_json::{Value, json};
use xlb_common::slot::SlotWord;
use xlb_tests::lab::wait_until;

use crate::stage::{RING_SLOTS, Setup, Stage, of_backend};

const NOTHING: i32 = 0;
const CHANGES: i32 = 1;
const TROUBLE: i32 = 2;

/// What the CLI says of a file, and its exit code.
fn diff(stage: &Stage, arguments: &[&str]) -> (Value, i32) {
    let output = stage
        .agent
        .cli_output(&[arguments, &["-o", "json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        let complaints = String::from_utf8_lossy(&output.stderr);
        panic!("read the answer to {arguments:?}: {error}\n{text}{complaints}")
    });
    (value, output.status.code().expect("an exit code"))
}

fn diff_file(stage: &Stage, setup: &Setup) -> (Value, i32) {
    let path = stage.write_other(setup);
    diff(stage, &["diff", &path.display().to_string()])
}

fn service<'a>(diff: &'a Value, name: &str) -> &'a Value {
    let services = diff["services"].as_array().expect("services are a list");
    let mut services = services.iter();
    services
        .find(|service| service["service"] == name)
        .unwrap_or_else(|| panic!("no service {name} in {diff}"))
}

/// Slots of each pool whose new connections go elsewhere than before.
fn moved(before: &[SlotWord], after: &[SlotWord]) -> [usize; 2] {
    [0, RING_SLOTS].map(|from| {
        let ring = from..from + RING_SLOTS;
        before[ring.clone()]
            .iter()
            .zip(&after[ring])
            .filter(|(before, after)| before.target() != after.target())
            .count()
    })
}

#[test]
fn a_reload_moves_as_many_slots_as_diff_said() {
    let first = Setup::new(&[(0, 1), (1, 1), (2, 1)]);
    let stage = Stage::build("diff", 5, &first);
    assert_eq!(diff_file(&stage, &first).1, NOTHING);

    let steps: [(&str, &[(usize, u16)]); 5] = [
        ("added", &[(0, 1), (1, 1), (2, 1), (3, 1)]),
        ("weighted", &[(0, 3), (1, 1), (2, 1), (3, 1)]),
        ("removed", &[(0, 3), (2, 1), (3, 1)]),
        ("all at once", &[(1, 2), (2, 1), (3, 1), (4, 5)]),
        ("back to the first", &first.weights),
    ];
    for (name, weights) in steps {
        let setup = Setup::new(weights);
        let before = stage.words();
        let (diff, code) = diff_file(&stage, &setup);
        assert_eq!(code, CHANGES, "{name}: {diff}");
        let asked = moved(&before, &stage.words());
        assert_eq!(asked, [0, 0], "{name}: asking changes nothing");
        stage.reload(&setup);
        let after = stage.words();
        let said = ["web", "web6"].map(|pool| {
            let service = service(&diff, pool);
            assert_eq!(service["flows_cut"], nothing_cut(), "{name}: {service}");
            let ideal = service["slots"]["ideal"].as_u64().expect("a number");
            let moving = service["slots"]["moving"].as_u64().expect("a number");
            assert!(0 < ideal && ideal <= moving, "{name}: {service}");
            usize::try_from(moving).expect("it fits")
        });
        assert_eq!(moved(&before, &after), said, "{name}: {diff}");
        assert_eq!(diff_file(&stage, &setup).1, NOTHING, "{name}");
    }
}

fn nothing_cut() -> Value {
    json!({ "datagrams": false, "all": null, "backends": [], "slots": 0, "recorded": 0 })
}

#[test]
fn changes_of_run_time_count_on_both_sides() {
    let first = Setup::new(&[(0, 1), (1, 1), (2, 1)]);
    let stage = Stage::build("overrides", 4, &first);
    let endpoint = |place| stage.endpoint(place, false).to_string();
    for change in [
        vec!["backend", "weight", "web", &endpoint(0), "4"],
        vec!["backend", "disable", "web", &endpoint(1)],
    ] {
        stage
            .agent
            .cli(&[change.as_slice(), &["-o", "json"]].concat());
    }
    assert_eq!(diff_file(&stage, &first).1, NOTHING);
    let setup = Setup::new(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
    let before = stage.words();
    let (diff, code) = diff_file(&stage, &setup);
    assert_eq!(code, CHANGES);
    stage.reload(&setup);
    let moved = moved(&before, &stage.words());
    for (pool, moved) in ["web", "web6"].into_iter().zip(moved) {
        assert_eq!(service(&diff, pool)["slots"]["moving"], moved, "{diff}");
    }
    // With the weight of run time the newcomer gets a sixth, with the file's it would be a quarter.
    let ideal = service(&diff, "web")["slots"]["ideal"]
        .as_u64()
        .expect("a number");
    assert!((160..=180).contains(&ideal), "{diff}");

    // A file without the backend makes the change of its weight void, which is said.
    let without = Setup::new(&[(1, 1), (2, 1), (3, 1)]);
    let (diff, _) = diff_file(&stage, &without);
    let warnings = diff["warnings"].to_string();
    assert!(warnings.contains("would no longer fit"), "{diff}");
}

#[test]
fn a_backend_that_is_dropped_loses_its_connections_as_diff_said() {
    let setup = |weights: &[(usize, u16)]| {
        let mut setup = Setup::new(weights);
        setup.pool += "on_remove = \"drop\"\n";
        setup
    };
    let three = [(0, 1), (1, 1), (2, 1)];
    let stage = Stage::build("drop", 4, &setup(&three));
    let older = stage.connect(false, 24);
    stage.reload(&setup(&[(0, 1), (1, 1), (2, 1), (3, 1)]));
    let newer = stage.connect(false, 32);

    // All that the newcomer has is recorded, since all of its slots move; its slots' flows without
    // a record are others'.
    let (on_newcomer, _) = of_backend(&newer.snapshot(), stage.host(3));
    assert!(!on_newcomer.is_empty(), "32 connections, a quarter of them");
    let (diff, _) = diff_file(&stage, &setup(&three));
    let cut = json!({
        "datagrams": false, "all": null, "backends": [stage.endpoint(3, false)], "slots": 0,
        "recorded": on_newcomer.len(),
    });
    assert_eq!(service(&diff, "web")["flows_cut"], cut, "{diff}");
    stage.reload(&setup(&three));
    wait_for_breaks(&newer, &stage, 3);
    assert!(older.snapshot().iter().all(|one| one.broken.is_none()));

    // Of one that has been there all along, hardly any is.
    let own = stage.words();
    let (cut, _) = diff_file(&stage, &setup(&[(0, 1), (1, 1)]));
    let cut = &service(&cut, "web")["flows_cut"];
    assert_eq!(cut["backends"], json!([stage.endpoint(2, false)]));
    stage.reload(&setup(&[(0, 1), (1, 1)]));
    let left = stage.words();
    let lost = own[..RING_SLOTS]
        .iter()
        .zip(&left)
        .filter(|(a, b)| a.stable() != b.stable());
    assert_eq!(cut["slots"], lost.count());
    wait_for_breaks(&older, &stage, 2);
    wait_for_breaks(&newer, &stage, 2);
}

/// Waits until the connections of a backend have broken, and checks that others have not, unless
/// they had before.
fn wait_for_breaks(client: &xlb_tests::lab::KeepAlive, stage: &Stage, place: usize) {
    wait_until("its connections break", Duration::from_secs(10), || {
        let (own, _) = of_backend(&client.snapshot(), stage.host(place));
        own.iter().all(|connection| connection.broken.is_some())
    });
    let gone = [3, 2].map(|place| stage.host(place).name().to_owned());
    for connection in client.snapshot() {
        let may_break = gone.contains(&connection.backend);
        assert!(may_break || connection.broken.is_none(), "{connection:?}");
    }
}

#[test]
fn a_slow_start_ends_where_diff_said() {
    let slow = |weights: &[(usize, u16)]| {
        let mut setup = Setup::new(weights);
        setup.pool += "slow_start = \"10s\"\n";
        setup
    };
    let stage = Stage::build("slow-start", 4, &slow(&[(0, 1), (1, 1), (2, 1)]));
    let four = slow(&[(0, 1), (1, 1), (2, 1), (3, 1)]);
    let before = stage.words();
    let (diff, _) = diff_file(&stage, &four);
    let said = service(&diff, "web")["slots"]["moving"].as_u64();
    let said = usize::try_from(said.expect("a number")).expect("it fits");
    stage.reload(&four);
    let first = moved(&before, &stage.words())[0];
    assert!(0 < first && first < said, "{first} of {said} at first");
    // That the newcomer comes to its share is no change that the file makes.
    assert_eq!(diff_file(&stage, &four).1, NOTHING);
    wait_until("its share is whole", Duration::from_secs(40), || {
        moved(&before, &stage.words())[0] == said
    });
    assert_eq!(diff_file(&stage, &four).1, NOTHING);
}

#[test]
fn another_size_of_the_ring_moves_everything_as_diff_said() {
    let first = Setup::new(&[(0, 1), (1, 1), (2, 1)]);
    let stage = Stage::build("ring-size", 3, &first);
    let client = stage.connect(true, 24);
    let mut larger = first.clone();
    larger.pool = "ring_slots = 2039\n".to_owned();
    let (diff, code) = diff_file(&stage, &larger);
    assert_eq!(code, CHANGES);
    let service = service(&diff, "web6");
    assert_eq!(
        service["flows_cut"]["all"],
        "all connections move: another size of the ring"
    );
    assert_eq!(
        service["slots"],
        json!({ "ring": 2039, "moving": 2039, "ideal": 0 })
    );
    stage.reload(&larger);
    wait_until("some connections break", Duration::from_secs(10), || {
        let snapshot = client.snapshot();
        snapshot.iter().filter(|one| one.broken.is_some()).count() >= 6
    });
}

#[test]
fn a_dry_run_shows_the_agents_own_file() {
    let first = Setup::new(&[(0, 1), (1, 1)]);
    let stage = Stage::build("dry-run", 3, &first);
    assert_eq!(diff(&stage, &["reload", "--dry-run"]).1, NOTHING);
    stage.write_own(&Setup::new(&[(0, 1), (1, 1), (2, 1)]));
    let before = stage.words();
    let (diff, code) = diff(&stage, &["reload", "--dry-run"]);
    assert_eq!(code, CHANGES);
    let path = stage.agent.config_path();
    assert_eq!(diff["file"], path.display().to_string());
    let revision = &stage.agent.cli(&["status", "-o", "json"])["config_revision"];
    assert_eq!(*revision, 1, "nothing was applied");
    assert_eq!(moved(&before, &stage.words()), [0, 0]);

    let output = stage.agent.cli_output(&["reload", "--dry-run"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let added: SocketAddr = stage.endpoint(2, false);
    for part in [
        "service web (192.0.2.10:80/tcp, pool web): changes\n",
        &format!("\n  backend {added} is added, weight 1\n"),
        "\n  flows cut: 0\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn trouble_has_its_own_exit_code() {
    let first = Setup::new(&[(0, 1)]);
    let mut stage = Stage::build("trouble", 1, &first);
    let complaints = |stage: &Stage, path: &Path| {
        let output = stage
            .agent
            .cli_output(&["diff", &path.display().to_string()]);
        assert_eq!(output.status.code(), Some(TROUBLE));
        assert!(output.stdout.is_empty());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let broken = stage.topology.lab.write_file(
        "broken.toml",
        "[dataplane]\ninterfaces = [\"eth0\"]\n\n[[pool]]\nnam = \"web\"\n",
    );
    let place = format!("{}:5:1: error: ", broken.display());
    let said = complaints(&stage, &broken);
    assert!(said.contains(&place), "{place} in\n{said}");

    let elsewhere = stage
        .topology
        .lab
        .write_file("elsewhere.toml", "[dataplane]\ninterfaces = [\"eth9\"]\n");
    let said = complaints(&stage, &elsewhere);
    assert!(said.contains("interface eth9 does not exist"), "{said}");
    let missing = stage.topology.lab.directory().join("missing.toml");
    assert!(complaints(&stage, &missing).contains("missing.toml"));

    stage.agent.write_config("nonsense");
    let output = stage.agent.cli_output(&["reload", "--dry-run"]);
    assert_eq!(output.status.code(), Some(TROUBLE));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("xlb.toml:1:"), "{said}");

    stage.agent.stop();
    let other = stage.write_other(&first);
    assert!(complaints(&stage, &other).contains("no agent answers"));
}
