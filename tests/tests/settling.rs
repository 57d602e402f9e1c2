//! A pool that has changed comes to rest by itself, and breaks nothing on the way.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use xlb_tests::lab::{
    Agent, Backend, KeepAlive, KeepAliveOptions, Lab, Topology, VIP_V4, forgetful_config,
    wait_until,
};

const PORT: u16 = 8080;

/// The configuration with the first backends.
fn config(topology: &Topology, backends: usize) -> String {
    forgetful_config(topology, &vec![1; backends], PORT, "")
}

fn moving_slots(agent: &Agent) -> u64 {
    number(
        &agent.cli(&["status", "-o", "json"]),
        "/pools/0/moving_slots",
    )
}

fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{pointer}: {value}"))
}

fn used(agent: &Agent, map: &str) -> u64 {
    let status = agent.cli(&["status", "-o", "json"]);
    let maps = status["maps"].as_array().expect("maps");
    let map = maps
        .iter()
        .find(|entry| entry["name"] == map)
        .expect("the map");
    number(map, "/used")
}

#[test]
fn a_pool_comes_to_rest_after_changes_that_overlap() {
    let topology = Topology::one_link(&Lab::new("settling"), 3);
    let _backends: Vec<Backend> = topology
        .backends
        .iter()
        .map(|host| Backend::on_host(host, PORT, PORT + 1))
        .collect();
    let mut agent = Agent::start(&topology.balancer.ns, &config(&topology, 2));
    let target = SocketAddr::new(VIP_V4.into(), 80);
    let start = || KeepAlive::start(&topology.client.ns, KeepAliveOptions::new(target, 24));
    let answering = |clients: &KeepAlive| {
        wait_until("every connection answers", Duration::from_secs(10), || {
            clients
                .snapshot()
                .iter()
                .all(|connection| connection.answers > 0)
        });
    };
    let old = start();
    answering(&old);
    assert_eq!(moving_slots(&agent), 0);

    // One more, connections that begin now, then one less, and an agent that dies meanwhile.
    agent.write_config(&config(&topology, 3));
    agent.cli(&["reload", "-o", "json"]);
    assert!(moving_slots(&agent) > 500);
    let new = start();
    answering(&new);
    let third = |clients: &KeepAlive| {
        let name = &topology.backends[2].name().to_owned();
        clients
            .snapshot()
            .iter()
            .filter(|connection| connection.backend == *name)
            .count()
    };
    assert!(
        third(&new) > 0 && third(&old) == 0,
        "new ones go there, old ones stay"
    );
    assert!(used(&agent, "FLOWS") > 0);
    agent.write_config(&config(&topology, 2));
    agent.cli(&["reload", "-o", "json"]);
    agent.kill9();
    agent.start_again();

    // Four times the idle time: whoever talks is not forgotten.
    thread::sleep(Duration::from_secs(8));
    assert!(moving_slots(&agent) > 0, "connections hold their slots");
    for clients in [old, new] {
        for connection in clients.stop() {
            assert_eq!(connection.broken, None);
        }
    }
    let begun = Instant::now();
    wait_until("the pool is at rest", Duration::from_secs(60), || {
        moving_slots(&agent) == 0 && used(&agent, "FLOWS") == 0 && used(&agent, "BACKENDS") == 2
    });
    assert!(
        begun.elapsed() > Duration::from_secs(1),
        "not before the idle time"
    );
    let late = start();
    answering(&late);
    assert_eq!(
        used(&agent, "FLOWS") + used(&agent, "PENDING"),
        0,
        "nothing is recorded at rest"
    );
    assert!(
        late.stop()
            .iter()
            .all(|connection| connection.broken.is_none())
    );
}
