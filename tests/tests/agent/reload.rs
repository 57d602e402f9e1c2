//! A new configuration file, by SIGHUP and by `reload`.

use std::{fs, net::SocketAddr, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use xlb_tests::lab::{VIP_V4, wait_until};

use crate::stage::{self, CHECK, PATIENCE, Stage, WEB, at, kept_on, pool, service};

fn hang_up(stage: &Stage) {
    let pid = i32::try_from(stage.agent.pid()).expect("pids fit");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("send a signal");
}

/// What `sha256sum` says of the configuration file.
fn sha256sum(stage: &Stage) -> String {
    let path = stage.agent.config_path();
    let output = Command::new("sha256sum").arg(path).output();
    let output = output.expect("start sha256sum");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace().next().expect("a hash").to_owned()
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), port)
}

/// Packets and connections of the service `web` so far.
fn traffic(stage: &Stage) -> [u64; 2] {
    let counters = &stage.cli("service show web -o json").json()["counters"];
    ["packets", "connections"].map(|key| counters[key].as_u64().expect("a number"))
}

#[test]
fn only_what_differs_is_changed() {
    let mut stage = Stage::prepare("reload", 2, |topology| {
        let both = [0, 1].map(|index: usize| at(&topology.backends[index], 8081));
        stage::usual(topology) + &pool("side", &both, CHECK) + &service("side", vip(81), "side", "")
    });
    stage.agent.start_again();
    stage.wait_until_well();
    let clients = stage.keep_connections();
    let before = traffic(&stage);
    assert!(before[1] >= 32, "{before:?}");

    // One backend leaves a service for another, which is new.
    let usual = stage::usual(&stage.topology);
    let one = |index: usize| [at(&stage.topology.backends[index], 8081)];
    let new = usual + &pool("new", &one(1), CHECK) + &service("new", vip(79), "new", "");
    let side = pool("side", &one(0), CHECK) + &service("side", vip(81), "side", "");
    stage.agent.write_config(&(new.clone() + &side));
    let revision = stage.status()["config_revision"].clone();
    hang_up(&stage);
    wait_until("the file is in force", PATIENCE, || {
        stage.status()["config_revision"] != revision
    });
    stage.wait_until_well();
    for _ in 0..10 {
        assert_eq!(stage.fetch(vip(79)), Ok("backend2".to_owned()));
        assert_eq!(stage.fetch(vip(81)), Ok("backend1".to_owned()));
    }

    // And a service goes.
    stage.agent.write_config(&new);
    let reload = stage.cli("reload");
    assert_eq!(reload.code, 0, "{reload:?}");
    assert!(stage.fetch(vip(81)).is_err());
    assert_eq!(stage.fetch(vip(79)), Ok("backend2".to_owned()));

    // All the while this one was left alone.
    let after = traffic(&stage);
    assert!(
        after[0] > before[0] && after[1] == before[1],
        "{before:?} {after:?}"
    );
    let kept = clients.stop();
    for backend in ["backend1", "backend2"] {
        let kept = kept_on(&kept, backend);
        assert!(
            !kept.is_empty() && kept.iter().all(|&goes_on| goes_on),
            "{backend}: {kept:?}"
        );
    }
}

const BROKEN: &str = r#"[dataplane]
interfaces = ["eth0"]

[[pool]]
name = "web"
backends = [{ address = "10.80.1.11", prot = 8080 }]
check = { type = "tcp", interval = 100 }

[[service]]
name = "web"
vip = "192.0.2.10"
port = 0
forward = "dnta"
pool = "wbe"
"#;

/// What there is to say about it: places, and words that belong to them.
const COMPLAINTS: [(&str, &str); 5] = [
    (":6:39: error: ", "did you mean `port`?"),
    (":7:36: error: ", "unit"),
    (":12:8: error: ", "port"),
    (":13:11: error: ", "did you mean `dnat`?"),
    (":14:8: error: ", "did you mean `web`?"),
];

/// Checks that a text has all the complaints about the broken file.
fn complains(stage: &Stage, text: &str) {
    let file = stage.agent.config_path().display().to_string();
    for (place, words) in COMPLAINTS {
        let place = format!("{file}{place}");
        // Editors look for it at the start of a line, which the status indents.
        let mut lines = text.lines().map(str::trim_start);
        assert!(
            lines.any(|line| line.starts_with(&place)),
            "{place}: {text}"
        );
        assert!(text.contains(words), "{place}: {text}");
    }
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut stage = Stage::start("broken", 1);
    let good = stage::usual(&stage.topology);
    let in_force = |stage: &Stage| {
        let status = stage.status();
        let rows = status["services"].as_array().expect("services are a list");
        let names = rows.iter().map(|row| row["name"].clone());
        let hash = status["config_sha256"].clone();
        (
            status["config_revision"].clone(),
            hash,
            names.collect::<Vec<_>>(),
        )
    };
    let before = in_force(&stage);
    assert_eq!(before.1, sha256sum(&stage));
    let seen = |stage: &Stage, said: &dyn Fn(&str) -> bool| {
        let status = stage.cli("status -o json");
        assert_eq!(status.code, 1, "{status:?}");
        assert_eq!(status.json()["health"], "up");
        assert_eq!(in_force(stage), before);
        assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));
        assert_eq!(status.json()["last_reload"]["accepted"], false);
        let error = &status.json()["last_reload_error"];
        assert!(said(error.as_str().unwrap_or_default()), "{error}");
    };

    stage.agent.write_config(BROKEN);
    for form in ["table", "json"] {
        let reload = stage.cli(&format!("reload -o {form}"));
        reload.refused_with(&[]);
        complains(&stage, &reload.err);
    }
    seen(&stage, &|error| {
        complains(&stage, error);
        true
    });
    complains(&stage, &stage.cli("status").out);
    let check = stage.cli(&format!("check {}", stage.agent.config_path().display()));
    assert_eq!(check.code, 1);
    complains(&stage, &check.err);
    let check = stage.cli(&format!(
        "check {} -o json",
        stage.agent.config_path().display()
    ));
    let found = check.json()["diagnostics"].as_array().map(Vec::len);
    assert_eq!(
        (check.code, found),
        (1, Some(COMPLAINTS.len())),
        "{check:?}"
    );

    // By signal there is nobody to tell, so the status and the log do; also of a file that is empty.
    stage.agent.write_config("");
    hang_up(&stage);
    wait_until("the file was refused", PATIENCE, || {
        stage.status()["last_reload_error"]
            .to_string()
            .contains("interfaces")
    });
    seen(&stage, &|error| error.contains("interfaces"));
    assert!(stage.agent.log().contains("reloading"));

    fs::remove_file(stage.agent.config_path()).expect("remove the file");
    stage.cli("reload").refused_with(&["read ", "No such file"]);
    seen(&stage, &|error| error.contains("No such file"));

    // An agent that starts says the same, and its predecessor's data path goes on.
    stage.agent.write_config(BROKEN);
    stage.agent.stop();
    let start = stage.start_that_fails();
    start.refused_with(&[]);
    complains(&stage, &start.err);
    assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));

    stage.agent.write_config(&good);
    stage.agent.start_again();
    stage.agent.write_config(BROKEN);
    assert_eq!(stage.cli("reload").code, 1);
    stage
        .agent
        .write_config(&format!("{good}# the same but for this line\n"));
    assert_eq!(stage.cli("reload").code, 0);
    assert_eq!(stage.status()["last_reload_error"], Value::Null);
    assert_eq!(stage.status()["last_reload"]["accepted"], true);
    assert_eq!(stage.status()["config_sha256"], sha256sum(&stage));
    stage.wait_until_well();
}
