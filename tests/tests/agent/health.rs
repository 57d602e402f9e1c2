//! What checks find, what is said of it, and what happens when none is well.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::json;
use xlb_tests::lab::{Backend, BackendKind, Load, LoadOptions, VIP_V4, wait_until};

use crate::stage::{self, PATIENCE, Stage, at, dataplane, pool, service};

/// What `health` says of a backend of the service `web`: state, code and words.
fn health(stage: &Stage, backend: SocketAddr) -> [String; 3] {
    let rows = stage.cli("health web -o json").json();
    let rows = rows.as_array().expect("health is a list");
    let row = rows
        .iter()
        .find(|row| row["endpoint"] == backend.to_string())
        .unwrap_or_else(|| panic!("{backend} is not in {rows:?}"));
    ["state", "reason", "detail"].map(|key| row[key].as_str().unwrap_or_default().to_owned())
}

#[test]
fn each_way_to_fail_is_seen_in_health_and_log() {
    let mut stage = Stage::start("health", 4);
    stage.backends[0].kill9();
    stage.topology.cut(&stage.topology.backends[1]);
    stage
        .topology
        .balancer
        .ns
        .ip("route add unreachable 10.80.1.13/32");

    let cases = [
        (0, "L4CON", "connection refused"),
        (1, "L4TOUT", "timed out: no answer within 200ms"),
        (2, "L4CON", "unreachable"),
    ];
    for (index, code, words) in cases {
        let backend = stage.web(index);
        wait_until(&format!("{backend}: {words}"), PATIENCE, || {
            let [state, reason, detail] = health(&stage, backend);
            // Without a route there is no next hop either.
            let state_fits = state == "down" || index == 2 && state == "unresolved";
            state_fits && reason == code && detail.contains(words)
        });
        let log = stage.agent.log();
        let said = log.lines().find(|line| {
            line.contains("backend is down") && line.contains(&format!("backend={backend}"))
        });
        let said = said.unwrap_or_else(|| panic!("no word of {backend} in {log}"));
        assert!(
            said.contains("WARN") && said.contains(&format!("reason={code} detail={words}")),
            "{said}"
        );
    }
    assert_eq!(health(&stage, stage.web(3))[..2], ["up", "L4OK"]);
    let table = stage.cli("health web").out;
    assert!(table.contains("connection refused"), "{table}");
    let shown = stage.cli("service show web -o json").json();
    assert_eq!(
        json!([shown["health"], shown["accepting"]]),
        json!(["degraded", 1])
    );
    for _ in 0..5 {
        assert_eq!(stage.fetch(stage::WEB), Ok("backend4".to_owned()));
    }

    stage.backends[0].start_again();
    stage.topology.mend(&stage.topology.backends[1]);
    stage
        .topology
        .balancer
        .ns
        .ip("route del unreachable 10.80.1.13/32");
    stage.wait_until_well();
}

/// Two services whose backends serve, but whose checks look where nobody answers.
#[test]
fn when_none_is_well_the_service_says_what_happens() {
    const CHECK: &str = r#"check = { type = "tcp", port = 9, interval = "200ms", timeout = "200ms", rise = 2, fall = 2 }"#;
    let vip = |port| SocketAddr::new(VIP_V4.into(), port);
    let (to_all, to_none) = (vip(80), vip(81));
    let mut stage = Stage::prepare("all-down", 2, |topology| {
        let on = |port| [0, 1].map(|index: usize| at(&topology.backends[index], port));
        [
            dataplane(),
            pool("web", &on(8080), CHECK),
            service("web", to_all, "web", "all_down = \"panic\""),
            pool("drop", &on(8081), CHECK),
            service("drop", to_none, "drop", "all_down = \"drop\""),
        ]
        .concat()
    });
    stage.agent.start_again();
    let holds = |stage: &Stage| {
        let status = stage.cli("status -o json");
        let services = status.json();
        let health = |name: &str| {
            let rows = services["services"]
                .as_array()
                .expect("services are a list");
            let found = rows.iter().find(|row| row["name"] == name);
            found.map(|row| row["health"].clone()).unwrap_or_default()
        };
        status.code == 1 && health("web") == "panic" && health("drop") == "down"
    };
    wait_until("every check has failed", PATIENCE, || holds(&stage));

    let load = Load::start(
        &stage.topology.client.ns,
        LoadOptions {
            target: to_all,
            ..stage.load()
        },
    );
    wait_until("answers", PATIENCE, || load.answered() >= 50);
    let requests = load.stop();
    let backends: BTreeSet<_> = requests.iter().map(|request| request.backend()).collect();
    assert_eq!(
        backends,
        BTreeSet::from([Some("backend1"), Some("backend2")])
    );
    assert!(stage.cli("backend list web").out.contains("panic"));
    let states = |service: &str| {
        let rows = stage.cli(&format!("health {service} -o json")).json();
        let rows = rows.as_array().expect("health is a list").clone();
        rows.iter()
            .map(|row| row["state"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(states("web"), ["panic", "panic"]);
    assert_eq!(states("drop"), ["down", "down"]);

    assert!(
        stage
            .fetch(to_none)
            .is_err_and(|error| error.contains("timed out"))
    );
    let dropped = stage.packets("all-down");
    assert!(dropped > 0, "nothing was dropped");

    // The next agent knows at once.
    stage.agent.kill9();
    assert!(stage.fetch(to_all).is_ok() && stage.fetch(to_none).is_err());
    stage.agent.start_again();
    assert!(holds(&stage), "{}", stage.cli("status").out);
    assert!(stage.packets("all-down") > dropped);

    let _answers: Vec<Backend> = stage
        .topology
        .backends
        .iter()
        .map(|host| {
            let kind = BackendKind::BuiltIn {
                http: vec![at(host, 9)],
                udp: Vec::new(),
            };
            Backend::start(&host.ns, host.name(), kind)
        })
        .collect();
    stage.wait_until_well();
    assert!(stage.fetch(to_none).is_ok());
}

/// To send to all of them is no way out where none can be sent to.
#[test]
fn a_service_none_of_whose_backends_can_be_reached_is_down() {
    let mut stage = Stage::prepare("out-of-reach", 1, |_| {
        let absent = ["10.80.1.77:8080".parse().expect("an endpoint")];
        let vip = SocketAddr::new(VIP_V4.into(), 80);
        [
            dataplane(),
            pool("web", &absent, stage::CHECK),
            service("web", vip, "web", ""),
        ]
        .concat()
    });
    stage.agent.start_again();
    let service = || stage.cli("service show web -o json").json();
    let backend = "10.80.1.77:8080".parse().expect("an endpoint");
    stage.wait_for_state(backend, "unresolved");
    assert_eq!(service()["health"], "down");
}
