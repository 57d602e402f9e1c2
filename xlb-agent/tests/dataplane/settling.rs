//! Pools that have changed come to rest, and what nobody needs any more goes.

use std::net::{IpAddr, SocketAddr};

use xlb_agent::{
    dataplane::{Dataplane, Spec},
    engine::{Engine, Pools, goal::World},
    plan::Intent,
};
use xlb_common::{
    collect::{Exchange, table},
    flow::FlowKey,
    maps::{Service, protocol, service_state},
    next_hop::NextHop,
    record::{FlowValue, TOMBSTONE},
    slot::SlotWord,
};
use xlb_control::config::{Config, Pool};

use crate::sandbox::{in_sandbox, spec};

/// Seconds after which a connection may be forgotten.
const IDLE_S: u32 = 60;

/// Every backend is well and reachable.
struct AllWell;

impl World for AllWell {
    fn intent(&self, _: &str, _: SocketAddr) -> Intent {
        Intent::Serve
    }

    fn is_well(&self, _: &Pool, _: SocketAddr) -> bool {
        true
    }

    fn next_hop(&self, _: IpAddr) -> (NextHop, Option<IpAddr>) {
        (NextHop::new([2, 0, 0, 0, 0, 1], 1), None)
    }
}

/// A service in front of backends 10.0.1.1 to 10.0.1.`last`, but for those that are left out.
fn config(last: u8, without: &[u8], protocol: &str) -> Config {
    let backends: Vec<String> = (1..=last)
        .filter(|number| !without.contains(number))
        .map(|number| format!("{{ address = \"10.0.1.{number}\", port = 80 }}"))
        .collect();
    let text = format!(
        r#"
        [dataplane]
        interfaces = ["eth0"]
        [[pool]]
        name = "web"
        ring_slots = 401
        idle_timeout = "{IDLE_S}s"
        backends = [{}]
        [[service]]
        name = "web"
        vip = "192.0.2.10"
        port = 80
        protocol = "{protocol}"
        forward = "dnat"
        pool = "web"
        "#,
        backends.join(", ")
    );
    Config::parse("xlb.toml", &text).expect("sound").config
}

struct Host {
    engine: Engine,
    spec: Spec,
    config: Config,
}

impl Host {
    fn new(pin_dir: &std::path::Path, config: Config, now_s: u32) -> Self {
        let spec = spec(&[]);
        let (dataplane, _) = Dataplane::open(pin_dir, &spec).expect("open");
        let engine = Engine::adopt(dataplane, [7; 16]).expect("adopt");
        let mut host = Self {
            engine,
            spec,
            config: config.clone(),
        };
        host.change(config, now_s);
        host
    }

    fn change(&mut self, config: Config, now_s: u32) {
        let (engine, spec) = (&mut self.engine, &self.spec);
        engine
            .apply(&config, spec, Pools::All, &AllWell, now_s)
            .expect("apply");
        self.config = config;
    }

    /// Runs a round; `false`: there was nothing to do.
    fn round(&mut self, now_s: u32) -> bool {
        let begun = self.engine.begin_round(&self.config, now_s);
        let Some(round) = begun.expect("begin") else {
            return false;
        };
        let found = round.run().expect("read the records");
        self.engine
            .finish_round(Some(found), now_s)
            .expect("finish");
        true
    }

    fn words(&self) -> Vec<SlotWord> {
        self.engine.words(&self.engine.pools["web"])
    }

    fn marked(&self) -> usize {
        self.words().iter().filter(|word| word.is_marked()).count()
    }

    fn service(&self) -> Service {
        let services = &self.engine.dataplane.maps().services;
        services.iter().find(|s| s.family != 0).expect("a service")
    }

    fn number_of(&self, last: u8) -> Option<u16> {
        let endpoint = format!("10.0.1.{last}:80").parse().expect("an endpoint");
        self.engine
            .backend("web", endpoint)
            .map(|(number, _)| number)
    }

    /// The flow of some client whose slot is marked.
    fn flow_that_moves(&self) -> (FlowKey, SlotWord) {
        let words = self.words();
        (1024..u16::MAX)
            .map(flow)
            .map(|key| (key, words[key.slot(self.spec.hash_key, 401) as usize]))
            .find(|(_, word)| word.is_marked())
            .expect("a slot that moves")
    }
}

fn flow(port: u16) -> FlowKey {
    let source = SocketAddr::from(([10, 9, 9, 9], port));
    let vip = SocketAddr::from(([192, 0, 2, 10], 80));
    FlowKey::between(source, vip, protocol::TCP).expect("one family")
}

#[test]
fn a_pool_settles_when_nobody_has_used_what_was() {
    in_sandbox(|sandbox| {
        let mut host = Host::new(&sandbox.pin_dir(), config(2, &[], "tcp"), 100);
        assert!(!host.round(1000), "at rest there is nothing to do");
        assert_eq!(host.service().state, 0);

        host.change(config(3, &[], "tcp"), 1000);
        let moving = host.marked();
        assert!((60..250).contains(&moving), "{moving} of 401 slots");
        assert_eq!(host.service().state, service_state::MOVING);
        assert!(!host.round(1000 + IDLE_S), "too early");

        // A flow that began meanwhile and still talks, one that has ended, and one of a service that
        // is not known.
        let (talks, word) = host.flow_that_moves();
        let maps = host.engine.dataplane.maps_mut();
        let record =
            |key: FlowKey, backend, seen_s| FlowValue::new(backend, 0, key.tag(), 7, seen_s);
        let now_s = 1000 + IDLE_S + 1;
        let value = record(talks, word.stable(), now_s);
        maps.flows.insert(&talks, value).expect("insert");
        let (over, strange) = (
            flow(9),
            FlowKey {
                destination_port_be: 1,
                ..flow(10)
            },
        );
        for key in [over, strange] {
            let value = record(key, word.target(), 1000);
            maps.flows.insert(&key, value).expect("insert");
        }

        assert!(host.round(now_s));
        let words = host.words();
        assert!(
            words
                .iter()
                .all(|word| word.stable() == word.target() && !word.is_settling())
        );
        assert_eq!(host.marked(), moving, "until a look at the records");
        assert_eq!(host.engine.last_count().flows, 3);
        assert!(host.round(now_s + 1));
        assert_eq!(host.marked(), 1, "a record points elsewhere");
        let flows = &host.engine.dataplane.maps().flows;
        assert_eq!(flows.entries().expect("list"), [(talks, value)]);

        // It ends, and its record grows old.
        assert!(host.round(now_s + 100));
        assert_eq!(host.marked(), 1);
        assert!(host.round(now_s + 110));
        assert_eq!((host.marked(), host.service().state), (0, 0));
        assert!(!host.round(now_s + 1000));
        let pool = &host.engine.pools["web"];
        let ring = &host.engine.dataplane.maps().ring;
        for (slot, word) in host.words().into_iter().enumerate() {
            assert_eq!(
                ring.load(pool.ring_offset as usize + slot),
                Some(word.stable())
            );
            assert_eq!(word, SlotWord::rest(word.stable()));
        }
    });
}

#[test]
fn a_change_during_a_round_calls_it_off() {
    in_sandbox(|sandbox| {
        let mut host = Host::new(&sandbox.pin_dir(), config(2, &[], "tcp"), 100);
        host.change(config(3, &[], "tcp"), 1000);
        let now_s = 1000 + IDLE_S + 1;
        let round = host
            .engine
            .begin_round(&host.config, now_s)
            .expect("begin")
            .expect("due");
        assert!(host.words().iter().any(|word| word.is_settling()));
        assert!(
            host.engine
                .begin_round(&host.config, now_s)
                .expect("begin")
                .is_none()
        );
        let found = round.run().expect("read the records");
        host.change(config(4, &[], "tcp"), now_s);
        let before = host.words();
        host.engine
            .finish_round(Some(found), now_s)
            .expect("finish");
        assert_eq!(host.words(), before);
        // Slots that the second change did not touch are as idle as before.
        let moved = |host: &Host| {
            let words = host.words();
            words
                .iter()
                .filter(|word| word.stable() != word.target())
                .count()
        };
        let all = moved(&host);
        assert!(host.round(now_s + 1));
        let left = moved(&host);
        assert!(0 < left && left < all, "{left} of {all}");
        assert!(host.words().iter().all(|word| !word.is_settling()));
    });
}

#[test]
fn a_number_is_given_to_another_only_when_nothing_names_it() {
    in_sandbox(|sandbox| {
        let mut host = Host::new(&sandbox.pin_dir(), config(3, &[], "tcp"), 100);
        let removed = host.number_of(3).expect("a backend");
        host.change(config(3, &[3], "tcp"), 1000);
        let (recorded, _) = host.flow_that_moves();
        let value = FlowValue::new(removed, 0, recorded.tag(), 7, 1090);
        let maps = host.engine.dataplane.maps_mut();
        maps.flows.insert(&recorded, value).expect("insert");
        for now_s in [1061, 1062, 1100] {
            host.round(now_s);
            assert_eq!(
                host.number_of(3),
                Some(removed),
                "a slot or a record names it"
            );
        }
        for now_s in [1151, 1153, 1165, 1180] {
            host.round(now_s);
        }
        assert_eq!(host.number_of(3), None);
        assert_eq!(host.marked(), 0);
        host.change(config(4, &[3], "tcp"), 1200);
        assert_eq!(host.number_of(4), Some(removed));
    });
}

#[test]
fn datagrams_wait_for_nobody() {
    in_sandbox(|sandbox| {
        let mut host = Host::new(&sandbox.pin_dir(), config(2, &[], "udp"), 100);
        host.change(config(3, &[], "udp"), 1000);
        assert!(host.marked() > 0);
        assert!(host.round(1001) && host.round(1002));
        assert_eq!((host.marked(), host.service().state), (0, 0));
    });
}

#[test]
fn a_word_is_exchanged_only_if_it_is_what_it_was() {
    in_sandbox(|sandbox| {
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let records = dataplane.records().expect("records");
        let maps = dataplane.maps_mut();
        let value = FlowValue::new(3, 0, 5, 7, 9);
        maps.pending.insert(&flow(1), value).expect("insert");
        maps.flows.insert(&flow(1), value).expect("insert");
        let buried = value.word_with_tombstone(true);
        let exchange = |table, port, old| Exchange {
            key: flow(port),
            table,
            old,
            new: buried,
        };
        // More than go into one run, and most are of no record.
        let mut exchanges: Vec<Exchange> = (2..100)
            .map(|port| exchange(table::FLOWS, port, value.word))
            .collect();
        exchanges.push(exchange(table::PENDING, 1, value.word + 1));
        exchanges.push(exchange(table::FLOWS, 1, value.word));
        records.exchange(&exchanges).expect("run the program");
        assert_eq!(records.pending.get(&flow(1)).expect("get"), Some(value));
        let found = records
            .flows
            .get(&flow(1))
            .expect("get")
            .expect("it is there");
        assert_eq!((found.flags(), found.isn, found.seen_s), (TOMBSTONE, 7, 9));
        assert_eq!(records.flows.count().expect("count"), 1);
    });
}
