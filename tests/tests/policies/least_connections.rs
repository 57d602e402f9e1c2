//! Least-connections.

use std::{net::SocketAddr, thread, time::Duration};

use xlb_tests::lab::{Backend, BackendKind, Load, LoadOptions, wait_until};

use crate::stage::{PORT, Stage};

/// The backend that takes two seconds for an answer.
const SLOW: usize = 2;

fn serve(stage: &Stage) -> Vec<Backend> {
    let hosts = stage.topology.backends.iter().enumerate();
    hosts
        .map(|(index, host)| {
            let http = vec![SocketAddr::new(host.v4.into(), PORT)];
            let kind = if index == SLOW {
                BackendKind::SlowNginx { http }
            } else {
                BackendKind::Nginx { http }
            };
            Backend::start(&host.ns, host.name(), kind)
        })
        .collect()
}

/// Connections that are open on the slow backend, as its kernel sees them.
fn open_on_slow(stage: &Stage) -> usize {
    let words = ["ss", "-Htn", "state", "established", "sport"];
    let port = format!("= :{PORT}");
    let sockets = stage.topology.backends[SLOW]
        .ns
        .exec(&[words.as_slice(), &[&port]].concat());
    sockets.lines().count()
}

/// Sends requests for some seconds; connections that the slow backend had in the end.
fn load(stage: &Stage) -> usize {
    let mut options = LoadOptions::new(stage.target());
    options.every = Duration::from_millis(25);
    options.timeout = Duration::from_secs(20);
    let load = Load::start(&stage.topology.client.ns, options);
    wait_until("answers", Duration::from_secs(30), || load.answered() > 120);
    // As it is in the long run: the median of some looks.
    let mut looks: Vec<usize> = (0..9)
        .map(|_| {
            thread::sleep(Duration::from_millis(200));
            open_on_slow(stage)
        })
        .collect();
    looks.sort_unstable();
    let requests = load.stop();
    let failed = requests.iter().filter(|request| request.failed()).count();
    assert_eq!(failed, 0, "of {}", requests.len());
    looks[looks.len() / 2]
}

#[test]
fn a_slow_backend_has_clearly_fewer_open_connections_than_under_round_robin() {
    let stage = Stage::new("least", &[1; 4], "policy = \"round-robin\"");
    let _servers = serve(&stage);
    let in_turn = load(&stage);
    stage.reload(4, "policy = \"least-connections\"");
    let least = load(&stage);
    println!("open on the slow backend: {in_turn} in turn, {least} by least-connections");
    assert!(in_turn >= 8, "{in_turn}: the slow backend is not slow");
    assert!(
        least * 2 <= in_turn,
        "{least} by least-connections, {in_turn} in turn"
    );
    // Every connection has ended, and was counted so.
    wait_until("no connection is open", Duration::from_secs(20), || {
        stage
            .backends("open_connections")
            .iter()
            .all(|open| *open == 0)
    });
}

#[test]
fn connections_that_vanish_are_open_until_they_are_idle() {
    let stage = Stage::new("vanish", &[1; 2], "policy = \"least-connections\"");
    let _servers = stage.serve();
    let open = || -> u64 {
        let open = stage.backends("open_connections");
        open.iter().filter_map(serde_json::Value::as_u64).sum()
    };
    let clients = stage.connect(10);
    assert_eq!(open(), 10);
    let spread = stage.spread(&clients);
    assert!(
        spread.iter().all(|&connections| connections >= 3),
        "{spread:?}"
    );
    // Nobody hears of their end.
    stage.topology.cut(&stage.topology.client);
    drop(clients);
    assert_eq!(open(), 10);
    wait_until("they are forgotten", Duration::from_secs(60), || {
        stage.used("FLOWS") == 0
    });
    wait_until("they are not counted", Duration::from_secs(5), || {
        open() == 0
    });
}
