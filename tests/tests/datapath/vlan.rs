//! Frames with VLAN tags: what comes of them is what comes of the same frames without, with their tags.

use xlb_common::{
    maps::{NextHop, feature, forward, protocol, service_state, vlan_tag},
    reason::Reason,
};

use crate::{
    check::{DROP, Expected, REDIRECT, TX, hex},
    forwarding,
    frame::{Carries, Frame, sum_header, verify_checksums},
    icmp,
    kinds::{ALL_FEATURES, Kind, OTHER, SAME, backend, backend_mac, client, to_vip},
    replies,
    rig::Rig,
    too_big,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// A VLAN; one with a priority; a priority alone; a customer's VLAN within a provider's; and older
/// equipment's way of that.
const TAGS: [&[u8]; 6] = [
    &[0x81, 0x00, 0x00, 0x0a],
    &[0x81, 0x00, 0xaf, 0xfe],
    &[0x81, 0x00, 0xe0, 0x00],
    &[0x88, 0xa8, 0x00, 0x14],
    &[0x88, 0xa8, 0x60, 0x14, 0x81, 0x00, 0x20, 0x0a],
    &[0x81, 0x00, 0x00, 0x14, 0x81, 0x00, 0x00, 0x0a],
];

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

/// A router's word about an answer of a service's backend.
fn error_of(kind: Kind) -> Vec<u8> {
    let answer = icmp::answer(kind);
    let quoted = icmp::quote(&answer, usize::MAX);
    icmp::error(icmp::too_big(kind.v6), &answer, quoted).bytes()
}

/// Without VLAN devices, frames keep their tags.
fn rig() -> Rig {
    rig_with(ALL_FEATURES & !feature::VLAN)
}

fn rig_with(features: u32) -> Rig {
    let mut rig = Rig::new(features);
    for v6 in [false, true] {
        let bits = if v6 { 64 } else { 24 };
        rig.put_route(client(v6), bits, NextHop::new(CLIENT_MAC, SAME));
    }
    rig
}

/// Runs a frame with each of the tags, and without, and holds what comes of it against one another.
pub(crate) fn check(rig: &Rig, name: &str, frame: &[u8]) -> u32 {
    let without = rig.run(frame);
    for tags in TAGS {
        let name = format!("{name} in {tags:02x?}");
        let with = rig.run(&tagged(frame, tags));
        assert_eq!(with.reasons, without.reasons, "{name}: reasons");
        assert_eq!(with.action, without.action, "{name}: action");
        assert_eq!(with.counters, without.counters, "{name}: counters");
        // Of a frame that is dropped, nobody sees what became.
        if with.action != DROP {
            assert_eq!(
                hex(&with.bytes),
                hex(&tagged(&without.bytes, tags)),
                "{name}"
            );
        }
        if with.action == TX {
            verify_checksums(&name, &with.bytes);
        }
    }
    // Nothing of the tags is left behind for a frame without.
    let again = rig.run(frame);
    assert_eq!(hex(&again.bytes), hex(&without.bytes), "{name} again");
    without.action
}

#[test]
fn a_request_leaves_for_its_backend_in_its_vlan() {
    let rig = rig();
    for kind in Kind::all() {
        let request = kind.request();
        let output = forwarding::expected(&rig, kind, &request);
        for tags in TAGS {
            rig.check(
                &format!("{kind:?} in {tags:02x?}"),
                &tagged(&request.bytes(), tags),
                &Expected::forwarded(&request, kind.counter(), tagged(&output, tags)),
            );
        }
    }
}

#[test]
fn what_is_sent_keeps_its_tags() {
    let rig = rig();
    for kind in Kind::all() {
        let name = format!("{kind:?}");
        let segment = kind.request().with(|frame| frame.payload = b"odd".to_vec());
        assert_eq!(check(&rig, &name, &segment.bytes()), TX);
        let echo = to_vip(kind.vip(), Carries::EchoRequest);
        assert_eq!(check(&rig, &format!("echo to {name}"), &echo.bytes()), TX);
        assert_eq!(
            check(&rig, &format!("error about {name}"), &error_of(kind)),
            TX
        );
        if kind.forward == forward::DNAT {
            let reply = replies::reply(kind);
            assert_eq!(check(&rig, &format!("reply of {name}"), &reply.bytes()), TX);
        }
        if !kind.v6 {
            let mut options = kind.request().bytes();
            options.splice(34..34, [1, 1, 1, 0]);
            options[14] = 0x46;
            options[17] += 4;
            sum_header(&mut options);
            assert_eq!(check(&rig, &format!("{name} with options"), &options), TX);
        }
    }
    for kind in too_big::tunnels() {
        let request: Frame = too_big::request(kind, 1500);
        let name = format!("{kind:?}, too big");
        assert_eq!(check(&rig, &name, &request.bytes()), TX);
    }
}

#[test]
fn what_is_for_the_host_gets_there_byte_for_byte() {
    let rig = rig();
    let request = Kind::new(false, protocol::TCP, forward::DNAT).request();
    let elsewhere = request.with(|frame| frame.destination.set_port(9));
    let mut arp = request.bytes();
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut cut = request.bytes();
    cut.truncate(20);
    for (frame, reason) in [
        (elsewhere.bytes(), Reason::NotForService),
        (arp, Reason::NotIp),
        (cut, Reason::BadHeader),
    ] {
        for tags in TAGS {
            let input = tagged(&frame, tags);
            rig.check(
                &format!("{reason:?} in {tags:02x?}"),
                &input,
                &Expected::passed(reason, &input),
            );
        }
    }
    let three = tagged(&request.bytes(), &TAGS[0].repeat(3));
    rig.check(
        "in three",
        &three,
        &Expected::passed(Reason::TooManyTags, &three),
    );
    // As the shortest frames that a test run takes, cut off within the tags.
    for length in 14..22 {
        let mut cut = tagged(&request.bytes(), TAGS[4]);
        cut.truncate(length);
        rig.check("cut off", &cut, &Expected::passed(Reason::NotIp, &cut));
    }
}

#[test]
fn a_tagged_packet_that_is_dropped_leaves_no_tags_to_the_next() {
    let mut rig = rig();
    let kind = Kind::new(false, protocol::UDP, forward::L2_DSR);
    let mut service = kind.service();
    service.state = service_state::REFUSE;
    rig.put_service(kind, &service);
    let refused = tagged(&kind.request().bytes(), TAGS[4]);
    let echo = to_vip(kind.vip(), Carries::EchoRequest).bytes();
    let answer = rig.run(&echo).bytes;
    rig.check("refused", &refused, &Expected::dropped(Reason::AllDown));
    assert_eq!(hex(&rig.run(&echo).bytes), hex(&answer));
}

/// By a VLAN device, a frame leaves with the tag of that, whatever it came with.
#[test]
fn by_a_vlan_device_its_tag_takes_the_place_of_others() {
    let mut rig = rig_with(ALL_FEATURES);
    const DEVICE: [u8; 4] = [0x88, 0xa8, 0x0f, 0xfe];
    for (egress, action) in [(SAME, TX), (OTHER, REDIRECT)] {
        rig.put_egress(egress, |value| value.tag = vlan_tag(0x88a8, 4094));
        for v6 in [false, true] {
            let bits = if v6 { 64 } else { 24 };
            rig.put_route(client(v6), bits, NextHop::new(CLIENT_MAC, egress));
        }
        for kind in Kind::all() {
            let mut value = backend(kind.v6, kind.number());
            value.next_hop = NextHop::new(backend_mac(kind.number()), egress).0;
            let request = kind.request();
            rig.put_egress(egress, |_| {});
            rig.put_backend(kind.number(), &value);
            let output = rig.run(&request.bytes()).bytes;
            let answer = rig.run(&error_of(kind)).bytes;
            let reply = rig.run(&replies::reply(kind).bytes()).bytes;
            rig.put_egress(egress, |value| value.tag = vlan_tag(0x88a8, 4094));
            for tags in [&[][..]].into_iter().chain(TAGS) {
                let name = format!("{kind:?} in {tags:02x?} by {egress}");
                let mut expected =
                    Expected::forwarded(&request, kind.counter(), tagged(&output, &DEVICE));
                expected.action = action;
                rig.check(&name, &tagged(&request.bytes(), tags), &expected);
                let error = rig.run(&tagged(&error_of(kind), tags));
                assert_eq!(error.action, action, "{name}: error");
                assert_eq!(
                    hex(&error.bytes),
                    hex(&tagged(&answer, &DEVICE)),
                    "{name}: error"
                );
                if kind.forward == forward::DNAT {
                    let sent = rig.run(&tagged(&replies::reply(kind).bytes(), tags));
                    assert_eq!(sent.action, action, "{name}: reply");
                    assert_eq!(
                        hex(&sent.bytes),
                        hex(&tagged(&reply, &DEVICE)),
                        "{name}: reply"
                    );
                }
                // What is answered goes back where it came from.
                let echo = to_vip(kind.vip(), Carries::EchoRequest).bytes();
                let answered = rig.run(&tagged(&echo, tags)).bytes;
                assert_eq!(answered[12..12 + tags.len()], *tags, "{name}: echo");
            }
        }
    }
}

/// Without the feature, the word of the interface is not looked at.
#[test]
fn without_vlan_devices_nothing_is_inserted() {
    let mut rig = Rig::new(ALL_FEATURES & !feature::VLAN);
    rig.put_egress(SAME, |value| value.tag = vlan_tag(0x8100, 20));
    let kind = Kind::new(false, protocol::TCP, forward::L2_DSR);
    let request = kind.request();
    let output = kind.forwarded(&request).bytes();
    let expected = Expected::forwarded(&request, kind.counter(), output);
    rig.check("without", &request.bytes(), &expected);
}

/// Where VLAN devices are named, a next hop by the interface itself gets frames without tags.
#[test]
fn by_the_interface_itself_a_frame_leaves_without_tags_where_vlan_devices_are_named() {
    let rig = rig_with(ALL_FEATURES);
    for kind in Kind::all() {
        let request = kind.request();
        let output = forwarding::expected(&rig, kind, &request);
        let reply = replies::reply(kind).bytes();
        let sent = rig.run(&reply).bytes;
        let told = rig.run(&error_of(kind)).bytes;
        for tags in TAGS {
            let name = format!("{kind:?} in {tags:02x?}");
            let expected = Expected::forwarded(&request, kind.counter(), output.clone());
            rig.check(&name, &tagged(&request.bytes(), tags), &expected);
            let error = rig.run(&tagged(&error_of(kind), tags)).bytes;
            assert_eq!(hex(&error), hex(&told), "{name}: error");
            if kind.forward == forward::DNAT {
                let reply = rig.run(&tagged(&reply, tags)).bytes;
                assert_eq!(hex(&reply), hex(&sent), "{name}: reply");
            }
        }
    }
}
