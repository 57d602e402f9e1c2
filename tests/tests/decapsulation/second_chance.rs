//! Second chance end to end: a connection that the balancer knows nothing of lives on the backend
//! that its first choice passes it on to.
//!
//! The balancer is made to forget its connections, as another node of a fleet would know nothing of
//! them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Host, KeepAlive, KeepAliveConnection,
    KeepAliveOptions, Lab, NetNs, Replies, Topology, VIP_V4, VIP_V6, wait_until,
};

const PORT: u16 = 80;

/// Connections in each test: enough that each of two backends gets some.
const CONNECTIONS: usize = 12;

/// How long a test waits for what packets and their repetitions bring about.
const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer with two backends, of which it knows the first.
struct Stage {
    topology: Topology,
    sides: Vec<Decapsulator>,
    _servers: Vec<Backend>,
    agent: Agent,
    vip: IpAddr,
}

impl Stage {
    fn new(label: &str, vip: IpAddr, second_chance: bool) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 2);
        topology.route_replies(Replies::Direct);
        let sides = topology.backends.iter();
        let sides = sides.map(|host| Decapsulator::start(&host.ns)).collect();
        let servers = topology.backends.iter().map(|host| serve(host, vip));
        let servers = servers.collect();
        let first = topology.backends[0].address(vip.is_ipv6());
        let config = format!(
            "[dataplane]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"{vip}\"\n\
             port = {PORT}\nforward = \"ipip\"\nsecond_chance = {second_chance}\n\
             backends = [{{ address = \"{first}\", port = {PORT} }}]\n"
        );
        let agent = Agent::start(&topology.balancer.ns, &config);
        Self {
            topology,
            sides,
            _servers: servers,
            agent,
            vip,
        }
    }

    /// Adds the second backend, so that slots move, and opens connections.
    fn connect(&self) -> KeepAlive {
        let second = self.topology.backends[1].address(self.vip.is_ipv6());
        let endpoint = SocketAddr::new(second, PORT).to_string();
        let _ = self
            .agent
            .cli(&["backend", "add", "web", &endpoint, "-o", "json"]);
        wait_until("the second backend has slots", PATIENCE, || {
            let backends = self.agent.cli(&["backend", "list", "-o", "json"]);
            let mut backends = backends.as_array().into_iter().flatten();
            backends.any(|it| it["endpoint"] == endpoint && it["slots"].as_u64() > Some(0))
        });
        let options = KeepAliveOptions {
            timeout: Duration::from_secs(10),
            ..KeepAliveOptions::new(SocketAddr::new(self.vip, PORT), CONNECTIONS)
        };
        let client = KeepAlive::start(&self.topology.client.ns, options);
        wait_until("every connection has talked", PATIENCE, || {
            client.snapshot().iter().all(|it| it.answers >= 5)
        });
        for host in &self.topology.backends {
            let some = on(&client.snapshot(), host.name()).len();
            assert!(some > 0, "{} has no connection", host.name());
        }
        client
    }

    /// Has the balancer forget all connections.
    fn forget(&self) {
        let ns = &self.topology.balancer.ns;
        for map in ["PENDING", "FLOWS"] {
            let pin = self.agent.pin_directory().join("v1").join(map);
            clear(ns, &pin);
        }
    }

    fn second_chances(&self) -> u64 {
        let status = self.agent.cli(&["status", "-o", "json"]);
        let mut reasons = status["reasons"].as_array().into_iter().flatten();
        reasons
            .find(|it| it["reason"] == "second-chance")
            .and_then(|it| it["packets"].as_u64())
            .unwrap_or(0)
    }
}

fn serve(host: &Host, vip: IpAddr) -> Backend {
    let kind = BackendKind::BuiltIn {
        http: vec![SocketAddr::new(vip, PORT)],
        udp: Vec::new(),
    };
    Backend::start(&host.ns, host.name(), kind)
}

fn clear(ns: &NetNs, pin: &std::path::Path) {
    ns.run(|| {
        let data = MapData::from_pin(pin).expect("the pinned map");
        let mut map: HashMap<_, [u8; 40], [u8; 16]> =
            HashMap::try_from(Map::HashMap(data)).expect("a hash of records");
        let keys: Vec<[u8; 40]> = map.keys().map(|key| key.expect("a key")).collect();
        for key in keys {
            map.remove(&key).expect("remove a record");
        }
    });
}

/// The connections that a backend has.
fn on(connections: &[KeepAliveConnection], backend: &str) -> Vec<KeepAliveConnection> {
    let of_backend = connections.iter().filter(|it| it.backend == backend);
    of_backend.cloned().collect()
}

fn connections_live_on_the_alternative(label: &str, vip: IpAddr) {
    let stage = Stage::new(label, vip, true);
    let client = stage.connect();
    assert_eq!(stage.second_chances(), 0, "while all are known");
    assert_eq!(stage.sides[0].packets("passed-on"), 0);
    stage.forget();
    let before: Vec<u64> = client.snapshot().iter().map(|it| it.answers).collect();
    wait_until("every connection has talked on", PATIENCE, || {
        let now = client.snapshot();
        now.iter()
            .zip(&before)
            .all(|(it, before)| it.broken.is_some() || it.answers >= before + 20)
    });
    let connections = client.stop();
    for connection in &connections {
        assert!(connection.broken.is_none(), "{connection:?}");
    }
    let passed_on = stage.sides[0].packets("passed-on");
    let moved = on(&connections, stage.topology.backends[1].name()).len() as u64;
    assert!(
        passed_on >= 20 * moved,
        "{passed_on} of {moved} connections"
    );
    assert!(stage.sides[1].packets("delivered") >= passed_on);
    assert_eq!(stage.sides[1].packets("passed-on"), 0, "at most once");
    // Those of moved slots that live on the first choice have their socket there.
    assert!(stage.second_chances() >= passed_on);
    let status = stage.sides[0].status();
    let alternative = &status["alternatives"][0];
    let host = &stage.topology.backends[1];
    assert_eq!(
        alternative["address"],
        host.address(vip.is_ipv6()).to_string()
    );
    let mac = host.mac.map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(alternative["next_hop"], format!("{mac} dev eth0"));
}

#[test]
fn connections_that_the_balancer_forgot_live_on_the_alternative_in_ipv4() {
    connections_live_on_the_alternative("chance4", IpAddr::V4(VIP_V4));
}

#[test]
fn connections_that_the_balancer_forgot_live_on_the_alternative_in_ipv6() {
    connections_live_on_the_alternative("chance6", IpAddr::V6(VIP_V6));
}

#[test]
fn without_second_chance_they_break() {
    let stage = Stage::new("nochance", IpAddr::V4(VIP_V4), false);
    let client = stage.connect();
    stage.forget();
    let second = stage.topology.backends[1].name();
    wait_until("those of the second backend are broken", PATIENCE, || {
        let now = on(&client.snapshot(), second);
        now.iter().all(|it| it.broken.is_some())
    });
    let first = on(&client.stop(), stage.topology.backends[0].name());
    assert!(first.iter().all(|it| it.broken.is_none()), "{first:?}");
    assert_eq!(stage.second_chances(), 0);
    assert_eq!(stage.sides[0].packets("passed-on"), 0);
}
