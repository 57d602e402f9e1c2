//! The maps, one by one.

use std::{collections::BTreeMap, mem::offset_of};

use xlb_agent::dataplane::{Applied, Dataplane, Full, RouteKey, rcu_grace_period};
use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget},
    limits::ENDPOINT_PROBES,
    maps::Service,
    next_hop::NextHop,
};

use crate::sandbox::{in_sandbox, spec};

const fn target(service: u32) -> EndpointTarget {
    EndpointTarget {
        service,
        backend: 0,
        reserved: 0,
    }
}

#[test]
fn a_removed_endpoint_leaves_a_grave_until_a_grace_period() {
    in_sandbox(|sandbox| {
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let maps = dataplane.maps_mut();
        let crowd: Vec<Endpoint4> = (0..100_000)
            .map(|address| Endpoint4::new(address, 80, 6))
            .filter(|key| key.home() & 63 == 60)
            .take(ENDPOINT_PROBES as usize + 1)
            .collect();
        let (last, crowd) = crowd.split_last().expect("keys");
        for key in crowd {
            maps.vips4.insert(*key, target(1)).expect("room");
        }
        assert_eq!(
            maps.vips4.insert(*last, target(9)),
            Err(Full { after_grace: false })
        );

        // The first one's grave: others are still found beyond it, and it takes itself back.
        assert!(maps.vips4.remove(crowd[0]) && !maps.vips4.remove(crowd[0]));
        assert_eq!(maps.vips4.get(crowd[0]), None);
        assert_eq!(maps.vips4.get(crowd[7]), Some(target(1)));
        assert_eq!(
            maps.vips4.insert(*last, target(9)),
            Err(Full { after_grace: true })
        );
        maps.vips4
            .insert(crowd[0], target(3))
            .expect("its own grave");
        assert!(!maps.wants_grace());

        assert!(maps.vips4.remove(crowd[0]) && maps.wants_grace());
        rcu_grace_period();
        maps.after_grace();
        maps.vips4.insert(*last, target(9)).expect("an old grave");
        assert_eq!(maps.vips4.get(*last), Some(target(9)));
        assert_eq!((maps.vips4.used(), maps.vips4.iter().count()), (8, 8));
        assert!(maps.vips4.set(*last, target(4)) && !maps.vips4.set(crowd[0], target(4)));
        assert_eq!(maps.vips4.get(*last), Some(target(4)));

        let key = Endpoint6::new([1, 2], 443, 17);
        maps.vips6.insert(key, target(5)).expect("room");
        assert_eq!(maps.vips6.iter().collect::<Vec<_>>(), [(key, target(5))]);
    });
}

#[test]
fn fields_are_stored_within_their_bounds_only() {
    in_sandbox(|sandbox| {
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let maps = dataplane.maps_mut();
        assert!(maps.services.write(1, Service::default()));
        assert!(maps.services.store_u32(1, offset_of!(Service, state), 5));
        assert_eq!(maps.services.read(1).map(|s| s.state), Some(5));
        assert_eq!(maps.services.read(0).map(|s| s.state), Some(0));

        assert!(!maps.services.write(8, Service::default()));
        assert_eq!(maps.services.read(8), None);
        assert!(!maps.services.store_u32(8, 0, 1));
        assert!(!maps.services.store_u32(1, 62, 1), "runs past the entry");
        assert!(!maps.services.store_u32(1, 2, 1), "not aligned");
        assert!(!maps.ring.store(4096, 1) && maps.ring.load(4096).is_none());
        assert!(maps.ring.store(4095, 1) && maps.slots.store(4095, u64::MAX));
    });
}

#[test]
fn routes_become_what_is_desired() {
    in_sandbox(|sandbox| {
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let routes = &mut dataplane.maps_mut().routes4;
        let hop = |last| NextHop::new([2, 0, 0, 0, 0, last], 1);
        let prefix = |prefix_bits, address| RouteKey {
            prefix_bits,
            address,
        };
        let mut desired: BTreeMap<_, _> = (0..2000_u16)
            .map(|n| {
                let [a, b] = n.to_be_bytes();
                (prefix(24, [10, a, b, 0]), hop(1))
            })
            .collect();
        desired.insert(prefix(0, [0; 4]), hop(2));
        let applied = routes.apply(&desired).expect("apply");
        assert_eq!(applied.added, 2001);
        assert_eq!(routes.apply(&desired).expect("again"), Applied::default());

        desired.remove(&prefix(24, [10, 0, 1, 0]));
        desired.insert(prefix(0, [0; 4]), hop(3));
        desired.insert(prefix(32, [10, 0, 0, 1]), hop(4));
        assert_eq!(
            routes.apply(&desired).expect("apply"),
            Applied {
                added: 1,
                changed: 1,
                removed: 1
            }
        );
        let actual: BTreeMap<_, _> = routes.entries().expect("entries").into_iter().collect();
        assert_eq!(actual.len(), 2001);
        // A lookup takes the longest prefix.
        assert_eq!(
            routes.get(&prefix(32, [10, 0, 1, 9])).expect("get"),
            Some(hop(3).0)
        );
    });
}

#[test]
fn egress_names_an_interface_for_program_and_kernel() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let egress = &mut dataplane.maps_mut().egress;
        egress
            .set(3, eth.ifindex, [2, 0, 0, 0, 0, 9], 1500, 0x1400_0081)
            .expect("set");
        let found = egress.get(3).expect("there");
        assert_eq!(
            (found.ifindex, found.mac, found.mtu, found.tag),
            (eth.ifindex, [2, 0, 0, 0, 0, 9], 1500, 0x1400_0081)
        );
        assert!(
            egress.set(4, 9999, [0; 6], 0, 0).is_err(),
            "no such interface"
        );
        assert!(
            egress.set(64, eth.ifindex, [0; 6], 0, 0).is_err(),
            "past the end"
        );
        egress.clear(3).expect("clear");
        egress.clear(3).expect("clear again");
        assert_eq!(egress.get(3), None);
    });
}
