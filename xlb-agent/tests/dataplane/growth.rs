//! Larger maps and other programs, under traffic and with crashes in between.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto,
    socket,
};
use xlb_agent::dataplane::{
    Dataplane, Maps, Repair, Spec,
    fault::{self, Step},
};
use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget},
    maps::{AttachmentCounters, FlowKey, Service, feature},
    reason::Reason,
    record::FlowValue,
};

use crate::sandbox::{Sandbox, in_sandbox, larger, program_on, spec};

const FLOW: FlowKey = FlowKey {
    source: [1, 0],
    destination: [2, 0],
    source_port_be: 3,
    destination_port_be: 4,
    protocol: 6,
    family: 4,
    reserved: 0,
};

const TARGET: EndpointTarget = EndpointTarget {
    service: 7,
    backend: 5,
    reserved: 0,
};

const RECORD: FlowValue = FlowValue {
    word: 0xabcd,
    isn: 1,
    seen_s: 2,
};

fn endpoint6() -> Endpoint6 {
    Endpoint6::new([1, 2], 80, 6)
}

/// Writes something into every map that can grow.
fn fill(maps: &mut Maps) {
    for number in 1..=20 {
        maps.vips4
            .insert(Endpoint4::new(number, 80, 6), TARGET)
            .expect("room");
    }
    maps.replies6.insert(endpoint6(), TARGET).expect("room");
    let service = Service {
        ring_slots: 11,
        ..Service::default()
    };
    assert!(maps.services.write(7, service));
    assert!(maps.ring.store(1, 21) && maps.slots.store(2, 22) && maps.last_miss.store(3, 23));
    maps.flows.insert(&FLOW, RECORD).expect("room");
    maps.pending.insert(&FLOW, RECORD).expect("room");
}

/// Checks that all of it is there.
fn check(maps: &Maps) {
    check_early(maps);
    assert_eq!(maps.flows.entries().expect("flows"), [(FLOW, RECORD)]);
    assert_eq!(maps.pending.get(&FLOW).expect("pending"), Some(RECORD));
}

/// Checks what is there before the swap.
fn check_early(maps: &Maps) {
    assert_eq!(maps.vips4.used(), 20);
    for number in 1..=20 {
        assert_eq!(maps.vips4.get(Endpoint4::new(number, 80, 6)), Some(TARGET));
    }
    assert_eq!(maps.replies6.get(endpoint6()), Some(TARGET));
    assert_eq!(maps.services.read(7).map(|s| s.ring_slots), Some(11));
    assert_eq!(
        (
            maps.ring.load(1),
            maps.slots.load(2),
            maps.last_miss.load(3)
        ),
        (Some(21), Some(22), Some(23))
    );
}

#[test]
fn maps_grow_with_their_contents_and_without_another_link() {
    in_sandbox(|sandbox| {
        let small = spec(&[sandbox.veth("eth0", "peer0")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
        fill(dataplane.maps_mut());
        send_unknown("peer0", 50);
        let (before, pins) = (dataplane.status().expect("status"), sandbox.pinned());
        assert_eq!(not_ip(&dataplane), 50);

        let mut seen = 0;
        let grown = dataplane
            .reload(&larger(&small), |maps| {
                seen = maps.vips4.capacity();
                check_early(maps);
                Ok(())
            })
            .expect("grow");
        assert_eq!(seen, 256, "the caller sees the table before the swap");
        assert_eq!(grown.len(), 19, "{grown:?}");
        check(dataplane.maps());
        assert_eq!(dataplane.maps().slots.len(), 3 * 4096);
        assert_eq!(dataplane.maps().backends.len(), 200);
        let after = dataplane.status().expect("status");
        assert_eq!(after.interfaces, before.interfaces);
        assert_eq!(program_on("eth0"), Some(u64::from(after.program.id)));
        assert_eq!(sandbox.pinned(), pins, "nothing is left of the change");

        // The program counts where the agent reads.
        send_unknown("peer0", 50);
        assert_eq!(not_ip(&dataplane), 100);

        // Another agent that asks for less keeps what there is.
        drop(dataplane);
        let (dataplane, adopted) = Dataplane::open(&sandbox.pin_dir(), &small).expect("adopt");
        assert_eq!(adopted.grown.len(), 0);
        assert_eq!(dataplane.spec().sizes, larger(&small).sizes);
        check(dataplane.maps());
    });
}

#[test]
fn an_adopted_data_path_grows_and_counters_stay() {
    in_sandbox(|sandbox| {
        let small = spec(&[sandbox.veth("eth0", "peer0")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
        fill(dataplane.maps_mut());
        dataplane
            .maps_mut()
            .counters
            .zero_range(0, 16)
            .expect("counters");
        drop(dataplane);
        let (dataplane, adopted) =
            Dataplane::open(&sandbox.pin_dir(), &larger(&small)).expect("adopt");
        assert_eq!(adopted.grown.len(), 19);
        check(dataplane.maps());
        let counters = &dataplane.maps().counters;
        assert_eq!(
            counters.read(499).expect("read"),
            AttachmentCounters::default()
        );
        assert!(counters.read(500).is_err());
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    in_sandbox(|sandbox| {
        let small = spec(&[sandbox.veth("eth0", "peer0")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
        fill(dataplane.maps_mut());
        let (pins, program) = (sandbox.pinned(), program_on("eth0"));
        let error = dataplane
            .reload(&larger(&small), |_| {
                Err(xlb_agent::dataplane::Full { after_grace: false }.into())
            })
            .expect_err("the caller's error");
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!((sandbox.pinned(), program_on("eth0")), (pins, program));
        check(dataplane.maps());
        assert_eq!(dataplane.maps().vips4.capacity(), 64);
    });
}

#[test]
fn a_crash_at_any_step_is_repaired() {
    for step in Step::ALL {
        in_sandbox(move |sandbox| crash_and_repair(sandbox, step));
    }
}

fn crash_and_repair(sandbox: &Sandbox, step: Step) {
    let small = spec(&[sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1")]);
    let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
    fill(dataplane.maps_mut());
    let (before, pins) = (dataplane.status().expect("status"), sandbox.pinned());

    fault::arm(step);
    catch_unwind(AssertUnwindSafe(|| {
        dataplane.reload(&larger(&small), |_| Ok(()))
    }))
    .expect_err("the agent dies");
    drop(dataplane);
    assert_ne!(sandbox.pinned(), pins, "{step:?} leaves a change half done");
    assert!(program_on("eth0").is_some() && program_on("eth1").is_some());

    // The next agent asks for the smaller maps, so that what is larger is what was finished.
    let (dataplane, adopted) = Dataplane::open(&sandbox.pin_dir(), &small)
        .unwrap_or_else(|error| panic!("{step:?}: {error:?}"));
    let committed = !matches!(step, Step::MapsStaged | Step::ProgramStaged);
    let (repair, sizes) = if committed {
        (Repair::Finished, larger(&small).sizes)
    } else {
        (Repair::Discarded, small.sizes)
    };
    assert_eq!(adopted.repaired, Some(repair), "{step:?}");
    assert_eq!(dataplane.spec().sizes, sizes, "{step:?}");
    check(dataplane.maps());
    assert_eq!(sandbox.pinned(), pins, "{step:?}");
    let after = dataplane.status().expect("status");
    assert_eq!(after.interfaces, before.interfaces, "{step:?}");
    let program = Some(u64::from(after.program.id));
    assert_eq!((program_on("eth0"), program_on("eth1")), (program, program));
    send_unknown("peer1", 10);
    assert_eq!(not_ip(&dataplane), 10, "{step:?}");
}

#[test]
fn what_the_program_writes_until_the_swap_is_brought_over() {
    in_sandbox(|sandbox| {
        let small = spec(&[sandbox.veth("eth0", "peer0")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
        fill(dataplane.maps_mut());
        fault::arm(Step::Committed);
        catch_unwind(AssertUnwindSafe(|| {
            dataplane.reload(&larger(&small), |_| Ok(()))
        }))
        .expect_err("the agent dies");

        // The former program still runs, on the former maps.
        let late = FlowKey {
            source: [99, 0],
            ..FLOW
        };
        let seen_again = FlowValue {
            seen_s: RECORD.seen_s + 1,
            ..RECORD
        };
        let maps = dataplane.maps_mut();
        maps.flows.insert(&late, RECORD).expect("room");
        maps.flows.insert(&FLOW, seen_again).expect("room");
        assert!(maps.last_miss.store(3, 40) && maps.last_miss.store(5, 50));
        drop(dataplane);

        let (dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("adopt");
        let maps = dataplane.maps();
        assert_eq!(maps.flows.get(&late).expect("flows"), Some(RECORD));
        assert_eq!(maps.flows.get(&FLOW).expect("flows"), Some(seen_again));
        assert_eq!(
            maps.last_miss.load(3).zip(maps.last_miss.load(5)),
            Some((40, 50))
        );
    });
}

#[test]
fn swaps_under_traffic_miss_no_packet() {
    swap_under_traffic(0, unknown_frame(), Reason::NotIp);
}

/// What becomes of these packets, only the last of three programs says.
#[test]
fn swaps_under_traffic_leave_no_packet_halfway() {
    swap_under_traffic(feature::IPV4, question_to_vip(), Reason::IcmpOther);
}

fn swap_under_traffic(features: u32, frame: [u8; 64], reason: Reason) {
    in_sandbox(move |sandbox| {
        let small = Spec {
            features,
            ..spec(&[sandbox.veth("eth0", "peer0")])
        };
        let pin_dir = sandbox.pin_dir();
        let (mut dataplane, _) = Dataplane::open(&pin_dir, &small).expect("open");
        let vip = Endpoint4::new(u32::from_ne_bytes(VIP), 0, 0);
        let target = EndpointTarget {
            service: EndpointTarget::ADDRESS_ONLY,
            ..EndpointTarget::default()
        };
        let vips = &mut dataplane.maps_mut().vips4;
        vips.insert(vip, target).expect("room");
        let done = AtomicBool::new(false);
        let (sent, dataplane) = thread::scope(|scope| {
            // A thread that is started here inherits the namespaces.
            let sender = scope.spawn(|| {
                let mut sent = 0;
                while !done.load(Ordering::Relaxed) {
                    send("peer0", &frame, 10);
                    sent += 10;
                    thread::sleep(Duration::from_millis(1));
                }
                sent
            });
            let dataplane = swap_often(dataplane, &pin_dir, &small);
            done.store(true, Ordering::Relaxed);
            (sender.join().expect("the sender"), dataplane)
        });
        thread::sleep(Duration::from_millis(50));
        assert!(sent > 100, "{sent}");
        // Counts made between copying the counters and the swap are lost when they grow, and
        // `REASONS` does not.
        let count = |reason: Reason| dataplane.maps().reasons.read(reason.index());
        assert_eq!(count(Reason::WayMissing).expect("reasons"), 0);
        assert_eq!(count(reason).expect("reasons"), sent);
    });
}

fn swap_often(mut dataplane: Dataplane, pin_dir: &Path, small: &Spec) -> Dataplane {
    for round in 1..=6_u32 {
        let mut changed = larger(small);
        changed.sizes.flows += round;
        if round % 2 == 0 {
            changed.features |= feature::DNAT;
        }
        dataplane.reload(&changed, |_| Ok(())).expect("reload");
        if round % 3 == 0 {
            drop(dataplane);
            dataplane = Dataplane::open(pin_dir, &changed).expect("adopt").0;
        }
    }
    dataplane
}

/// Sends frames of an experimental EtherType, which the program counts and passes.
fn send_unknown(from: &str, count: usize) {
    send(from, &unknown_frame(), count);
}

fn unknown_frame() -> [u8; 64] {
    let mut frame = [0_u8; 64];
    frame[..6].fill(0xff);
    frame[6] = 2;
    // IEEE Std 802, local experimental EtherType 1.
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// An address that is a VIP in [`swap_under_traffic`].
const VIP: [u8; 4] = [192, 0, 2, 2];

/// An ICMP timestamp request to the VIP.
fn question_to_vip() -> [u8; 64] {
    let mut frame = unknown_frame();
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..30].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1]);
    frame[30..34].copy_from_slice(&VIP);
    frame[34] = 13;
    frame
}

fn send(from: &str, frame: &[u8; 64], count: usize) {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        None::<SockProtocol>,
    )
    .expect("a packet socket");
    let address = link_address(from);
    for _ in 0..count {
        sendto(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            frame,
            &address,
            MsgFlags::empty(),
        )
        .expect("send");
    }
    thread::sleep(Duration::from_millis(5));
}

fn link_address(name: &str) -> LinkAddr {
    let index = nix::net::if_::if_nametoindex(name).expect("an interface");
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index).expect("a small number"),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    };
    // SAFETY: the address is a whole `sockaddr_ll`, and its length is given.
    unsafe {
        LinkAddr::from_raw(
            (&raw const raw).cast(),
            Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t),
        )
    }
    .expect("a link address")
}

fn not_ip(dataplane: &Dataplane) -> u64 {
    dataplane
        .maps()
        .reasons
        .read(Reason::NotIp.index())
        .expect("reasons")
}
