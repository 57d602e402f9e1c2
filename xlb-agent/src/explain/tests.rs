use std::net::SocketAddr;

use xlb_common::{
    maps::Service,
    record::{CONFIRMED, TOMBSTONE},
    slot::SlotWord,
};

use super::*;

const STABLE: u16 = 3;
const TARGET: u16 = 4;
const NOW_S: u32 = 1_000;

fn endpoint_of(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, number as u8], 8080))
}

/// A packet of a slot that moves from `STABLE` to `TARGET`, without a record.
fn facts() -> Facts {
    let entry = |number: u16| Backend {
        next_hop: NextHop::new([2, 0, 0, 0, 0, number as u8], 1).0,
        flags: backend_flag::USED,
        ..endpoint::blank(1, endpoint_of(number))
    };
    Facts {
        found: Found::Service(Service {
            forward: forward::IPIP,
            state: service_state::MOVING,
            ..Service::default()
        }),
        service_number: 7,
        pool: "web".to_owned(),
        slot: Some(Slot {
            slot: 11,
            ring_slots: 251,
            hash: 12,
            ring: STABLE,
            word: SlotWord::marked(STABLE, TARGET),
            last_miss_s: NOW_S - 5,
        }),
        pending: None,
        flow: None,
        pending_room: true,
        flows_room: true,
        choice: 0,
        backends: BTreeMap::from([(STABLE, entry(STABLE)), (TARGET, entry(TARGET))]),
        now_s: NOW_S,
    }
}

fn packet(protocol: Protocol, syn: bool) -> ExplainRequest {
    ExplainRequest {
        source: "203.0.113.9:51812".parse().unwrap(),
        destination: "192.0.2.10:443".parse().unwrap(),
        protocol,
        syn,
        sequence: None,
        fragment: false,
    }
}

fn told(facts: &Facts, protocol: Protocol, syn: bool) -> Explanation {
    explain(&packet(protocol, syn), facts, |egress| {
        format!("eth{egress}")
    })
}

/// The backend that a SYN, another segment and a datagram go to; 0: none.
fn backends_of(facts: &Facts) -> [u16; 3] {
    let kinds = [
        (Protocol::Tcp, true),
        (Protocol::Tcp, false),
        (Protocol::Udp, false),
    ];
    kinds.map(|(protocol, syn)| {
        let verdict = told(facts, protocol, syn).verdict;
        match verdict.action {
            ExplainedAction::Forward => {
                let backend = verdict.backend.unwrap();
                if backend == endpoint_of(STABLE) {
                    STABLE
                } else {
                    TARGET
                }
            }
            ExplainedAction::Reply | ExplainedAction::Pass | ExplainedAction::Drop => 0,
        }
    })
}

fn with(change: impl FnOnce(&mut Facts, &mut Slot, &mut Service)) -> Facts {
    let mut facts = facts();
    let (Some(mut slot), Found::Service(mut service)) = (facts.slot, facts.found) else {
        panic!("a slot of a service");
    };
    change(&mut facts, &mut slot, &mut service);
    (facts.slot, facts.found) = (Some(slot), Found::Service(service));
    facts
}

#[test]
fn each_kind_of_packet_goes_where_the_rule_says() {
    assert_eq!(backends_of(&facts()), [TARGET, STABLE, TARGET]);
    let at_rest = with(|_, slot, service| {
        service.state = 0;
        slot.word = SlotWord::rest(STABLE);
    });
    assert_eq!(backends_of(&at_rest), [STABLE; 3]);
    assert_eq!(
        told(&at_rest, Protocol::Tcp, true).verdict.why,
        words::AT_REST
    );
    let unmarked = with(|_, slot, _| slot.word = SlotWord::rest(STABLE));
    assert_eq!(backends_of(&unmarked), [STABLE; 3]);
    let dead = with(|facts, _, _| {
        facts.backends.get_mut(&STABLE).unwrap().flags |= backend_flag::DEAD;
    });
    assert_eq!(backends_of(&dead), [TARGET; 3]);
}

#[test]
fn at_rest_the_ring_decides_and_a_word_that_differs_is_noted() {
    let torn = with(|_, slot, service| {
        service.state = 0;
        slot.word = SlotWord::rest(TARGET);
    });
    assert_eq!(backends_of(&torn), [STABLE; 3]);
    let notes = told(&torn, Protocol::Udp, false).notes;
    assert_eq!(notes, [words::RING_DIFFERS]);
}

#[test]
fn records_are_followed_and_shown() {
    let isn = 77;
    let recorded = with(|facts, _, _| {
        facts.flow = Some(FlowValue::new(TARGET, 0, 1, isn, NOW_S - 3));
    });
    assert_eq!(backends_of(&recorded), [TARGET, TARGET, TARGET]);
    let flow = told(&recorded, Protocol::Tcp, false).flow.unwrap();
    assert_eq!((flow.backend, flow.age_s, flow.expired), (TARGET, 3, false));
    assert_eq!(
        told(&recorded, Protocol::Tcp, true).notes,
        [words::ANOTHER_SYN]
    );

    // A handshake that is pending, and its first acknowledgement.
    let mut pending = with(|facts, _, _| {
        facts.pending = Some(FlowValue::new(TARGET, 0, 1, isn, NOW_S - 3));
    });
    assert_eq!(backends_of(&pending)[1], TARGET);
    let mut far = packet(Protocol::Tcp, false);
    far.sequence = Some(isn.wrapping_sub(1_000_000));
    let verdict = explain(&far, &pending, |_| String::new()).verdict;
    assert_eq!(verdict.backend, Some(endpoint_of(STABLE)));
    let mut again = packet(Protocol::Tcp, true);
    again.sequence = Some(isn);
    let verdict = explain(&again, &pending, |_| String::new()).verdict;
    assert!(verdict.why.contains("seen before"), "{verdict:?}");

    pending.now_s = NOW_S + PENDING_TTL_S;
    assert_eq!(backends_of(&pending)[1], STABLE, "it has expired");
    assert!(
        told(&pending, Protocol::Tcp, false)
            .pending
            .unwrap()
            .expired
    );
    pending.pending = Some(FlowValue::new(TARGET, CONFIRMED, 1, isn, NOW_S));
    assert_eq!(backends_of(&pending)[1], TARGET, "it is established");
}

#[test]
fn a_port_that_is_used_again_is_told_from_a_new_one() {
    let reused = with(|facts, slot, _| {
        slot.word = SlotWord::marked(TARGET, TARGET);
        facts.flow = Some(FlowValue::new(STABLE, 0, 1, 77, NOW_S));
    });
    let verdict = told(&reused, Protocol::Tcp, true).verdict;
    assert_eq!(verdict.backend, Some(endpoint_of(STABLE)));
    assert!(verdict.why.contains("same backend"), "{verdict:?}");
}

#[test]
fn without_room_a_new_connection_goes_to_stable_or_nowhere() {
    let mut full = with(|facts, _, _| facts.pending_room = false);
    assert_eq!(backends_of(&full)[0], STABLE);
    let notes = told(&full, Protocol::Tcp, true).notes;
    assert_eq!(notes, ["counted as flow-table-full-to-stable besides"]);
    full.backends.get_mut(&STABLE).unwrap().flags |= backend_flag::DOWN;
    let verdict = told(&full, Protocol::Tcp, true).verdict;
    assert_eq!(verdict.action, ExplainedAction::Drop);
    assert_eq!(verdict.reason.as_deref(), Some("flow-table-full"));
    let buried = with(|facts, _, _| {
        facts.flow = Some(FlowValue::new(TARGET, TOMBSTONE, 1, 77, NOW_S));
    });
    assert_eq!(backends_of(&buried)[0], 0);
}

#[test]
fn each_reason_of_a_refusal_is_named() {
    let nowhere = |is_vip| Facts {
        found: Found::Nothing { is_vip },
        slot: None,
        backends: BTreeMap::new(),
        ..facts()
    };
    let cases = [
        (
            with(|_, _, service| service.state |= service_state::REFUSE),
            ExplainedAction::Drop,
            "all-down",
        ),
        (
            with(|_, slot, _| slot.word = SlotWord::rest(0)),
            ExplainedAction::Drop,
            "no-backend",
        ),
        (
            with(|_, slot, _| slot.word = SlotWord::rest(9)),
            ExplainedAction::Drop,
            "inconsistent",
        ),
        (
            with(|facts, slot, _| {
                slot.word = SlotWord::rest(STABLE);
                facts.backends.get_mut(&STABLE).unwrap().next_hop = 0;
            }),
            ExplainedAction::Drop,
            "backend-unresolved",
        ),
        (nowhere(true), ExplainedAction::Pass, "not-for-service"),
        (nowhere(false), ExplainedAction::Pass, "not-for-service"),
    ];
    for (facts, action, reason) in cases {
        let verdict = told(&facts, Protocol::Tcp, false).verdict;
        assert_eq!(
            (verdict.action, verdict.reason.as_deref()),
            (action, Some(reason))
        );
    }
}

#[test]
fn what_was_looked_at_is_shown() {
    let told = told(&facts(), Protocol::Tcp, true);
    let service = told.service.unwrap();
    assert_eq!((service.number, service.pool.as_str()), (7, "web"));
    assert_eq!(service.forward, Some(Forward::Ipip));
    assert!(service.moving && !service.refuses);
    assert_eq!(told.slot.unwrap().last_miss_age_s, Some(5));
    let backends: Vec<_> = told
        .backends
        .iter()
        .map(|backend| (backend.number, backend.named_by.join(" ")))
        .collect();
    assert_eq!(
        backends,
        [
            (STABLE, "ring stable".to_owned()),
            (TARGET, "target".to_owned())
        ]
    );
    let hop = told.backends[0].next_hop.as_deref();
    assert_eq!(hop, Some("02:00:00:00:00:03 eth1"));
}

#[test]
fn a_reply_leaves_for_the_client() {
    let mut facts = facts();
    facts.found = Found::Reply {
        service: Service::default(),
        backend: TARGET,
    };
    facts.slot = None;
    let told = told(&facts, Protocol::Tcp, false);
    assert_eq!(told.verdict.action, ExplainedAction::Reply);
    assert_eq!(told.verdict.backend, Some(endpoint_of(TARGET)));
}

#[test]
fn no_packet_is_of_two_families() {
    let mut mixed = packet(Protocol::Tcp, true);
    mixed.destination = "[2001:db8::10]:443".parse().unwrap();
    assert!(
        flow_of(&mixed)
            .unwrap_err()
            .contains("two address families")
    );
}

#[test]
fn a_service_that_records_every_flow_treats_each_slot_as_one_that_moves() {
    let tracked = service_state::TRACKED;
    let chosen = |state: u32, choice: u16| {
        with(|facts, slot, service| {
            service.state = tracked | state;
            slot.word = SlotWord::rest(STABLE);
            facts.choice = choice;
        })
    };
    // Tracked datagrams are picked by the ring.
    assert_eq!(backends_of(&chosen(0, 0)), [STABLE; 3]);
    let verdict = told(&chosen(0, 0), Protocol::Udp, false).verdict;
    assert!(verdict.why.contains("is recorded"), "{verdict:?}");
    for (state, policy) in [
        (service_state::ROUND_ROBIN, Policy::RoundRobin),
        (service_state::LEAST_CONNECTIONS, Policy::LeastConnections),
    ] {
        let mut facts = chosen(state, TARGET);
        assert_eq!(backends_of(&facts), [TARGET, STABLE, TARGET]);
        let told = told(&facts, Protocol::Tcp, true);
        let service = told.service.unwrap();
        assert_eq!((service.policy, service.tracked), (policy, true));
        assert!(told.verdict.why.contains("the policy chooses"));
        let by_policy = told
            .backends
            .iter()
            .find(|backend| backend.number == TARGET);
        assert_eq!(by_policy.unwrap().named_by, ["policy"]);
        // What is recorded stays, whatever the policy would choose.
        facts.flow = Some(FlowValue::new(STABLE, 0, 1, 77, NOW_S));
        assert_eq!(backends_of(&facts), [TARGET, STABLE, STABLE]);
    }
}

#[test]
fn an_alternative_is_told_where_the_outer_header_names_it() {
    let second = with(|_, _, service| service.options |= service_option::SECOND_CHANCE);
    let notes = told(&second, Protocol::Tcp, false).notes;
    assert_eq!(notes, [words::SECOND_CHANCE]);
    assert_eq!(
        told(&second, Protocol::Tcp, true).notes,
        Vec::<String>::new()
    );
}

#[test]
fn a_fragment_has_others_that_go_the_same_way() {
    let fragment = ExplainRequest {
        fragment: true,
        ..packet(Protocol::Udp, false)
    };
    let told = explain(&fragment, &facts(), |_| String::new());
    assert_eq!(told.verdict.backend, Some(endpoint_of(TARGET)));
    assert_eq!(told.notes, [words::FRAGMENTS_FOLLOW]);
    let by_address = with(|_, _, service| service.options = service_option::FRAGMENTS_BY_ADDRESS);
    let told = explain(&fragment, &by_address, |_| String::new());
    assert_eq!(told.notes, [words::FRAGMENTS_BY_ADDRESS]);
    // A whole datagram goes by its ports.
    let whole = explain(&packet(Protocol::Udp, false), &by_address, |_| {
        String::new()
    });
    assert_eq!(whole.notes, [""; 0]);
}
