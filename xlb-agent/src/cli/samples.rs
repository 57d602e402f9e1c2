//! Answers of an agent that the tests of the command line share.

use xlb_control::{
    api::{
        BackendState, BackendStatus, Change, ChangeStatus, Counters, Diff, DiffKind,
        ExplainRequest, ExplainedAction, ExplainedBackend, ExplainedRecord, ExplainedService,
        ExplainedSlot, ExplainedVerdict, Explanation, FlowsCut, HealthStatus, InterfaceStatus,
        LastReload, MapStatus, NatConnection, NatSourceStatus, NatStatus, Origin, PoolDiff,
        PoolStatus, ProgramStatus, ReasonCount, RecentDrops, ServiceDiff, ServiceHealth,
        ServiceStatus, SlotsDiff, Status,
    },
    config::{Affinity, AllDown, Forward, Policy, Protocol, Udp},
};

pub(super) fn backends() -> Vec<BackendStatus> {
    let backend = |endpoint: &str, number, state| BackendStatus {
        pool: "web".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        weight: 1,
        state,
        number,
        slots: 8191,
        leaving_slots: 0,
        drain_ends_in_s: None,
        recorded_flows: 0,
        open_connections: Some(12_345),
        next_hop: Some("52:54:00:00:00:01 dev eth0".to_owned()),
        origin: Origin::File,
        counters: Counters {
            packets: 12_345,
            bytes: 1_572_864,
            connections: 871,
            reply_packets: 12_000,
            reply_bytes: 99_000_000,
        },
    };
    let mut leaving = backend("10.0.1.8:8080", 2, BackendState::Draining);
    (leaving.slots, leaving.leaving_slots) = (0, 5461);
    leaving.drain_ends_in_s = Some(299);
    let mut new = backend("[2001:db8::7]:8080", 3, BackendState::Unresolved);
    (new.next_hop, new.origin, new.counters) = (None, Origin::Runtime, Counters::default());
    new.open_connections = None;
    vec![backend("10.0.1.7:8080", 1, BackendState::Up), leaving, new]
}

pub(super) fn services() -> Vec<ServiceStatus> {
    let service = |name: &str, pool: &str, port: u16, protocol, health| ServiceStatus {
        name: name.to_owned(),
        vip: "192.0.2.10".parse().unwrap(),
        port: port.into(),
        protocol,
        forward: Forward::Dnat,
        pool: pool.to_owned(),
        policy: Policy::LeastConnections,
        affinity: None,
        udp: Udp::Stateless,
        all_down: AllDown::Panic,
        health,
        backends: 3,
        accepting: 3,
        origin: Origin::File,
        counters: backends()[0].counters,
    };
    let mut dns = service(
        "dns-front",
        "dns",
        53,
        Protocol::Udp,
        ServiceHealth::Degraded,
    );
    dns.vip = "2001:db8::53".parse().unwrap();
    (dns.forward, dns.accepting) = (Forward::L2Dsr, 2);
    (dns.policy, dns.affinity) = (Policy::Maglev, Some(Affinity::ClientIp));
    vec![
        service("web", "web", 443, Protocol::Tcp, ServiceHealth::Up),
        dns,
    ]
}

pub(super) fn nat() -> NatStatus {
    let source = |protocol, in_use, by_state: &[(&str, u32)]| NatSourceStatus {
        source: "10.0.0.9".parse().unwrap(),
        protocol,
        ports: 64512,
        in_use,
        by_state: by_state
            .iter()
            .map(|&(state, count)| (state.to_owned(), count))
            .collect(),
    };
    NatStatus {
        sources: vec![
            source(Protocol::Tcp, 3, &[("established", 1), ("closed", 2)]),
            source(Protocol::Udp, 0, &[]),
        ],
        connections: vec![NatConnection {
            service: Some("legacy".to_owned()),
            protocol: Protocol::Tcp,
            state: "established".to_owned(),
            expires_in_s: 3598,
            client: "203.0.113.9:51812".parse().unwrap(),
            vip: "192.0.2.10:443".parse().unwrap(),
            source: "10.0.0.9:1031".parse().unwrap(),
            backend: Some("10.0.1.7:8443".parse().unwrap()),
        }],
        left_out: 2,
    }
}

pub(super) fn health() -> Vec<HealthStatus> {
    let health = |endpoint: &str, state, reason: &str, detail: &str| HealthStatus {
        service: "web".to_owned(),
        pool: "web".to_owned(),
        endpoint: endpoint.parse().unwrap(),
        state,
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        rise: 14,
        fall: 0,
        since_s: 192,
        latency_us: Some(412),
    };
    let mut down = health(
        "10.0.1.8:8080",
        BackendState::Down,
        "L4TOUT",
        "no answer in 1s",
    );
    (down.rise, down.fall, down.latency_us) = (0, 7, None);
    vec![
        health("10.0.1.7:8080", BackendState::Up, "L4OK", "connected"),
        down,
    ]
}

fn changes() -> Vec<ChangeStatus> {
    let endpoint = "10.0.1.8:8080".parse().unwrap();
    let drain = Change::BackendDrain {
        pool: "web".to_owned(),
        endpoint,
        timeout_s: Some(300),
    };
    let removal = Change::ServiceRemove {
        name: "mail".to_owned(),
    };
    vec![
        ChangeStatus {
            change: drain,
            stale: None,
        },
        ChangeStatus {
            change: removal,
            stale: Some("there is no service `mail`; use one of `dns-front`, `web`".to_owned()),
        },
    ]
}

pub(super) fn status() -> Status {
    let pool = |name: &str, moving_slots, moving_since_s| PoolStatus {
        name: name.to_owned(),
        ring_slots: 16_381,
        ring_hash: "9f3c21d07ab4e655".to_owned(),
        backends: 3,
        accepting: 2,
        moving_slots,
        moving_since_s,
    };
    let map = |name: &str, used, capacity, bytes| MapStatus {
        name: name.to_owned(),
        used,
        capacity,
        bytes,
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 4711,
        uptime_s: 192,
        config: "/etc/xlb/xlb.toml".to_owned(),
        config_revision: 3,
        config_sha256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
            .to_owned(),
        last_reload: Some(LastReload {
            ago_s: 61,
            accepted: false,
        }),
        services_by_health: [(ServiceHealth::Up, 1), (ServiceHealth::Degraded, 1)].into(),
        backends_by_state: [(BackendState::Up, 5), (BackendState::Draining, 1)].into(),
        moving_slots: 5461,
        recent_drops: RecentDrops {
            seconds: 62,
            reasons: vec![ReasonCount {
                reason: "all-down".to_owned(),
                action: "drop".to_owned(),
                packets: 17,
            }],
        },
        last_reload_error: Some("/etc/xlb/xlb.toml:7:1: unknown key `ports`".to_owned()),
        health: ServiceHealth::Degraded,
        program: ProgramStatus {
            id: 42,
            features: vec!["ipv4".to_owned(), "dnat".to_owned()],
            translated_bytes: 12_288,
            jited_bytes: 7_340,
            verified_instructions: 23_456,
        },
        interfaces: vec![InterfaceStatus {
            name: "eth0".to_owned(),
            index: 2,
            mode: "native".to_owned(),
            up: true,
        }],
        pools: vec![pool("web", 5461, Some(61)), pool("dns", 0, None)],
        services: services(),
        changes: changes(),
        maps: vec![
            map("RING", Some(32_762), 65_536, 131_072),
            map("FLOWS", Some(0), 65_536, 8_388_608),
            map("COUNTERS", None, 96, 13_312),
        ],
        reasons: vec![
            ReasonCount {
                reason: "not-ours".to_owned(),
                action: "pass".to_owned(),
                packets: 120,
            },
            ReasonCount {
                reason: "forwarded".to_owned(),
                action: "tx".to_owned(),
                packets: 1_234_567,
            },
        ],
    }
}

pub(super) fn diff() -> Diff {
    let service = |name: &str, port: u16, protocol, change| ServiceDiff {
        service: name.to_owned(),
        vip: "192.0.2.10".parse().unwrap(),
        port: port.into(),
        protocol,
        change,
        changes: Vec::new(),
        pool: name.to_owned(),
        slots: SlotsDiff::default(),
        flows_cut: FlowsCut::default(),
    };
    let mut dns = service("dns", 53, Protocol::Udp, DiffKind::Removed);
    dns.flows_cut.all = Some("no service answers at 192.0.2.10:53/udp any more".to_owned());
    let mut web = service("web", 443, Protocol::Tcp, DiffKind::Changed);
    web.changes = vec![
        "backend 10.0.1.9:8080 is added, weight 1".to_owned(),
        "backend 10.0.1.7:8080 is removed: its connections move to other backends at once, which \
         cuts them"
            .to_owned(),
    ];
    web.slots = SlotsDiff {
        ring: 16_381,
        moving: 5600,
        ideal: 5461,
    };
    web.flows_cut = FlowsCut {
        datagrams: false,
        all: None,
        backends: vec!["10.0.1.7:8080".parse().unwrap()],
        slots: 5461,
        recorded: 12,
    };
    let spare = PoolDiff {
        pool: "spare".to_owned(),
        change: DiffKind::Changed,
        changes: vec!["backend 10.0.2.1:80: weight 1 -> 0".to_owned()],
        slots: SlotsDiff {
            ring: 251,
            ..SlotsDiff::default()
        },
    };
    Diff {
        file: "new.toml".to_owned(),
        host: vec!["max_flows: 131072 -> 262144".to_owned()],
        services: vec![
            dns,
            web,
            service("www", 80, Protocol::Tcp, DiffKind::Unchanged),
        ],
        pools: vec![spare],
        warnings: Vec::new(),
    }
}

pub(super) fn explanation() -> Explanation {
    let backend = |number, endpoint: &str, named_by: [&str; 2]| ExplainedBackend {
        number,
        endpoint: Some(endpoint.parse().unwrap()),
        named_by: named_by.map(str::to_owned).to_vec(),
        used: true,
        drain: false,
        down: false,
        dead: false,
        next_hop: None,
    };
    let mut leaving = backend(2, "10.0.1.7:8080", ["ring", "stable"]);
    (leaving.drain, leaving.down) = (true, true);
    let mut new = backend(5, "10.0.1.9:8080", ["target", "FLOWS"]);
    new.next_hop = Some("02:00:0a:00:01:09 eth0".to_owned());
    Explanation {
        packet: ExplainRequest {
            source: "203.0.113.9:51812".parse().unwrap(),
            destination: "192.0.2.10:443".parse().unwrap(),
            protocol: Protocol::Tcp,
            syn: false,
            sequence: None,
            fragment: false,
        },
        service: Some(ExplainedService {
            number: 1,
            name: Some("web".to_owned()),
            forward: Some(Forward::Dnat),
            pool: "web".to_owned(),
            policy: Policy::Maglev,
            affinity: None,
            tracked: false,
            moving: true,
            refuses: false,
        }),
        slot: Some(ExplainedSlot {
            slot: 4711,
            ring_slots: 16_381,
            hash: 1_234_567_890,
            ring: 2,
            stable: 2,
            target: 5,
            marked: true,
            settling: false,
            last_miss_age_s: Some(65),
        }),
        pending: None,
        flow: Some(ExplainedRecord {
            backend: 5,
            initial_sequence: 1000,
            age_s: 3,
            confirmed: false,
            tombstone: false,
            expired: false,
        }),
        backends: vec![leaving, new],
        verdict: ExplainedVerdict {
            action: ExplainedAction::Forward,
            backend: Some("10.0.1.9:8080".parse().unwrap()),
            reason: None,
            why: "the flow is recorded, and goes where the record says".to_owned(),
        },
        notes: vec!["something else".to_owned()],
    }
}
