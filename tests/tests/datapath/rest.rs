//! At rest no packet reads or writes a table of flows.

use xlb_common::{
    maps::{forward, name, protocol},
    slot::SlotWord,
};

use crate::{
    check::TX,
    frame::Carries,
    kinds::{ALL_FEATURES, Kind},
    moving::{STABLE, TARGET, moving, packet, reaches},
    rig::Rig,
};

/// Clients' ports, each with this many addresses.
const PORTS: u16 = 1000;
const ADDRESSES: u8 = 100;

#[test]
fn many_flows_leave_nothing_behind() {
    let kind = Kind::new(false, protocol::TCP, forward::DNAT);
    let mut rig = Rig::new(ALL_FEATURES);
    for port in 1..=PORTS {
        for address in 1..=ADDRESSES {
            for carries in [Carries::Syn(1), Carries::Segment(2)] {
                let mut packet = packet(kind, port, carries);
                packet.source.set_ip([198, 51, 100, address].into());
                assert_eq!(rig.action(&packet.bytes()), TX);
            }
        }
    }
    for map in [name::PENDING, name::FLOWS] {
        assert!(rig.records(map).is_empty(), "{map}");
    }
    assert_eq!(rig.last_miss_s(kind.slot()), 0);
    assert_eq!(rig.table_lookups(), 0);
}

/// Records that say otherwise are not asked once the pool is at rest.
#[test]
fn at_rest_no_record_is_read() {
    let kind = Kind::new(false, protocol::TCP, forward::DNAT);
    let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
    let syn = packet(kind, 5, Carries::Syn(7));
    let data = packet(kind, 5, Carries::Segment(8));
    rig.check("recorded", &syn.bytes(), &reaches(kind, &syn, TARGET));
    rig.check("recorded", &data.bytes(), &reaches(kind, &data, TARGET));
    let records = rig.records(name::FLOWS);
    assert_eq!(records.len(), 1);
    assert_eq!(rig.table_lookups(), 2);

    let mut service = kind.service();
    service.state = 0;
    rig.put_service(kind, &service);
    for slot in kind.slot()..kind.slot() + service.ring_slots {
        rig.put_ring(slot, STABLE);
    }
    rig.check("at rest", &data.bytes(), &reaches(kind, &data, STABLE));
    rig.check("at rest", &syn.bytes(), &reaches(kind, &syn, STABLE));
    assert_eq!(rig.records(name::FLOWS), records, "not even its time");
    assert_eq!(rig.table_lookups(), 2);
}
