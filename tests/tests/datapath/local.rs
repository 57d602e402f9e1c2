//! Services of this host's own stack.

use xlb_common::{
    maps::{Service, feature, forward, protocol, service_state},
    reason::Reason,
};

use crate::{
    check::{Expected, PASS},
    frame::Carries,
    icmp::{answer, error, quote, too_big},
    kinds::{ALL_FEATURES, Kind},
    rig::Rig,
};

/// Services of each family and protocol.
fn kinds() -> impl Iterator<Item = Kind> {
    [false, true].into_iter().flat_map(|v6| {
        [protocol::TCP, protocol::UDP].map(|number| Kind::new(v6, number, forward::IPIP))
    })
}

/// The service of a kind, made one of this host.
fn service(kind: Kind) -> Service {
    Service {
        forward: forward::LOCAL,
        ..kind.service()
    }
}

fn rig(features: u32) -> Rig {
    let mut rig = Rig::new(features);
    for kind in kinds() {
        rig.put_service(kind, &service(kind));
    }
    rig
}

#[test]
fn packets_go_up_as_they_are_and_are_counted() {
    let alone = feature::IPV4 | feature::IPV6 | feature::LOCAL;
    for features in [ALL_FEATURES, alone] {
        let rig = rig(features);
        for kind in kinds() {
            let open = kind.request();
            // Its way ends here, so that the TTL is nobody's concern.
            let last = open.with(|frame| frame.ttl = 1);
            let mut requests = vec![open, last];
            if kind.protocol == protocol::TCP {
                requests.push(kind.request().with(|f| f.carries = Carries::Segment(1001)));
            }
            for request in requests {
                let counted = Expected::forwarded(&request, kind.counter(), request.bytes());
                let expected = Expected {
                    action: PASS,
                    reasons: vec![Reason::Local],
                    ..counted
                };
                rig.check(&format!("{kind:?}"), &request.bytes(), &expected);
            }
        }
    }
}

#[test]
fn without_a_listener_packets_are_dropped_rather_than_routed_back() {
    let mut rig = rig(ALL_FEATURES);
    for kind in kinds() {
        let refusing = Service {
            state: service_state::REFUSE,
            ..service(kind)
        };
        rig.put_service(kind, &refusing);
        let request = kind.request().bytes();
        rig.check("refused", &request, &Expected::dropped(Reason::AllDown));
    }
}

#[test]
fn errors_about_its_packets_are_for_the_host() {
    let rig = rig(ALL_FEATURES);
    for kind in kinds() {
        let about = answer(kind);
        let input = error(too_big(kind.v6), &about, quote(&about, 8)).bytes();
        rig.check("an error", &input, &Expected::passed(Reason::Local, &input));
    }
}
