//! curl to nginx, iperf3, an echo of UDP datagrams and pings, through each forwarding mode, in both
//! families, over one interface of the balancer and over two. In each lab, one client is on the
//! link and another behind a router, and the VIP is first foreign to the balancer, then local.

use std::collections::BTreeSet;

use xlb_control::api::Counters;
use xlb_tests::lab::{Host, Replies};

use crate::{
    flows,
    plain::reason_of,
    stage::{ECHO, IPERF, SERVICES, Service, Setting, Stage, WEB},
};

/// Requests of a client: enough to meet both backends but once in ten million times.
const REQUESTS: usize = 24;
/// Sockets of a client that sends datagrams, for the same reason.
const FLOWS: u8 = 24;
/// Bytes of a transfer, one way.
const TRANSFER_BYTES: u64 = 5 << 20;

#[test]
fn dnat_over_ipv4_and_one_interface() {
    pass("dnat-4-1", setting("dnat", false, false));
}

#[test]
fn dnat_over_ipv4_and_two_interfaces() {
    pass("dnat-4-2", setting("dnat", false, true));
}

#[test]
fn dnat_over_ipv6_and_one_interface() {
    pass("dnat-6-1", setting("dnat", true, false));
}

#[test]
fn dnat_over_ipv6_and_two_interfaces() {
    pass("dnat-6-2", setting("dnat", true, true));
}

#[test]
fn l2_dsr_over_ipv4_and_one_interface() {
    pass("dsr-4-1", setting("l2-dsr", false, false));
}

#[test]
fn l2_dsr_over_ipv4_and_two_interfaces() {
    pass("dsr-4-2", setting("l2-dsr", false, true));
}

#[test]
fn l2_dsr_over_ipv6_and_one_interface() {
    pass("dsr-6-1", setting("l2-dsr", true, false));
}

#[test]
fn l2_dsr_over_ipv6_and_two_interfaces() {
    pass("dsr-6-2", setting("l2-dsr", true, true));
}

#[test]
fn ipip_over_ipv4_and_one_interface() {
    pass("ipip-4-1", setting("ipip", false, false));
}

#[test]
fn ipip_over_ipv4_and_two_interfaces() {
    pass("ipip-4-2", setting("ipip", false, true));
}

#[test]
fn ipip_over_ipv6_and_one_interface() {
    pass("ipip-6-1", setting("ipip", true, false));
}

#[test]
fn ipip_over_ipv6_and_two_interfaces() {
    pass("ipip-6-2", setting("ipip", true, true));
}

#[test]
fn gue_over_ipv4_and_one_interface() {
    pass("gue-4-1", setting("gue", false, false));
}

#[test]
fn gue_over_ipv4_and_two_interfaces() {
    pass("gue-4-2", setting("gue", false, true));
}

#[test]
fn gue_over_ipv6_and_one_interface() {
    pass("gue-6-1", setting("gue", true, false));
}

#[test]
fn gue_over_ipv6_and_two_interfaces() {
    pass("gue-6-2", setting("gue", true, true));
}

#[test]
fn ipip_to_ipv6_backends_of_an_ipv4_vip() {
    pass("ipip-4in6", across("ipip", false));
}

#[test]
fn ipip_to_ipv4_backends_of_an_ipv6_vip() {
    pass("ipip-6in4", across("ipip", true));
}

#[test]
fn gue_to_ipv6_backends_of_an_ipv4_vip() {
    pass("gue-4in6", across("gue", false));
}

#[test]
fn gue_to_ipv4_backends_of_an_ipv6_vip() {
    pass("gue-6in4", across("gue", true));
}

#[test]
fn full_nat_over_ipv4_and_one_interface() {
    pass("fnat-4-1", setting("full-nat", false, false));
}

#[test]
fn full_nat_over_ipv4_and_two_interfaces() {
    pass("fnat-4-2", setting("full-nat", false, true));
}

#[test]
fn full_nat_over_ipv6_and_one_interface() {
    pass("fnat-6-1", setting("full-nat", true, false));
}

#[test]
fn full_nat_over_ipv6_and_two_interfaces() {
    pass("fnat-6-2", setting("full-nat", true, true));
}

const fn setting(forward: &'static str, v6: bool, two_interfaces: bool) -> Setting {
    Setting {
        two_interfaces,
        ..Setting::new(forward, v6)
    }
}

/// The same with backends of the other family.
const fn across(forward: &'static str, v6: bool) -> Setting {
    Setting {
        across: true,
        ..Setting::new(forward, v6)
    }
}

/// Passes traffic of every kind, and looks at the counters.
fn pass(label: &str, setting: Setting) {
    let stage = Stage::build(label, setting);
    let unpacked_before = stage.unpacked();
    let forwarded_before = flows::forwarded(&stage.topology.balancer);
    for client in stage.clients() {
        everything(&stage, client);
    }
    stage.topology.put_vips_on_balancer();
    for client in stage.clients() {
        small(&stage, client);
    }
    // Requests are rewritten by XDP, and so are replies, or they never come here.
    let forwarded = flows::forwarded(&stage.topology.balancer) - forwarded_before;
    assert_eq!(forwarded, 0, "packets took the kernel's way");
    if setting.is_tunnelled() {
        let to_backends = SERVICES.map(|service| stage.counters(service).packets);
        let unpacked = stage.unpacked() - unpacked_before;
        assert_eq!(unpacked, to_backends.iter().sum::<u64>());
    }
    if setting.is_direct() && setting.two_interfaces {
        replies_by_the_kernel(&stage);
    }
    for host in stage.clients().into_iter().chain(&stage.topology.backends) {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

/// All that a client can do.
fn everything(stage: &Stage, client: &Host) {
    small(stage, client);
    transfer(stage, client, false);
    transfer(stage, client, true);
}

/// What takes few packets.
fn small(stage: &Stage, client: &Host) {
    requests(stage, client);
    datagrams(stage, client);
    pings(stage, client);
}

fn requests(stage: &Stage, client: &Host) {
    let before = Counted::of(stage, WEB);
    let answers = flows::curl(&client.ns, stage.target(WEB), REQUESTS);
    let backends: BTreeSet<&str> = answers.iter().map(|a| a.backend.as_str()).collect();
    assert_eq!(backends, BTreeSet::from(["backend1", "backend2"]));
    let (address, whose) = if stage.setting.is_full_nat() {
        let balancer = &stage.topology.balancer;
        (balancer.address(stage.setting.v6), "the source address")
    } else {
        (client.address(stage.setting.v6), "the client's own address")
    };
    let seen: BTreeSet<_> = answers.iter().map(|answer| answer.client).collect();
    assert_eq!(seen, BTreeSet::from([address]), "{whose}");
    let counted = Counted::of(stage, WEB).since(&before);
    let requests = REQUESTS as u64;
    assert!(counted.service.connections >= requests, "{counted:?}");
    // SYN, ACK, request and FIN; an answer to SYN, the answer, and FIN.
    assert!(counted.service.packets >= 4 * requests, "{counted:?}");
    counted.expect_replies(stage.setting, 3 * requests, 0);
    assert!(counted.of_backends.iter().all(|&packets| packets > 0));
}

fn datagrams(stage: &Stage, client: &Host) {
    let before = Counted::of(stage, ECHO);
    let sent = flows::echo(&client.ns, stage.target(ECHO), FLOWS);
    let counted = Counted::of(stage, ECHO).since(&before);
    assert_eq!(counted.service.packets, sent, "{counted:?}");
    counted.expect_replies(stage.setting, sent, 0);
    assert!(counted.of_backends.iter().all(|&packets| packets > 0));
}

fn transfer(stage: &Stage, client: &Host, reverse: bool) {
    let before = Counted::of(stage, IPERF);
    let bytes = flows::iperf(&client.ns, stage.target(IPERF), TRANSFER_BYTES, reverse);
    let counted = Counted::of(stage, IPERF).since(&before);
    // One connection is for control, the other for data.
    assert!(counted.service.connections >= 2, "{counted:?}");
    if reverse {
        counted.expect_replies(stage.setting, 1, bytes);
    } else {
        assert!(counted.service.bytes >= bytes, "{counted:?}");
        counted.expect_replies(stage.setting, 1, 1);
    }
}

fn pings(stage: &Stage, client: &Host) {
    let before = reason_of(&stage.agent, "echo-reply");
    client.ns.ping(stage.setting.vip());
    assert_eq!(reason_of(&stage.agent, "echo-reply"), before + 1);
}

/// Direct replies need a router, and the balancer's kernel can be that as well. A kernel forwards
/// nothing that comes from an address of its own, so the VIP may not be local then.
fn replies_by_the_kernel(stage: &Stage) {
    let topology = &stage.topology;
    topology.take_vips_off_balancer();
    topology.route_replies(Replies::ViaBalancer);
    let before = flows::forwarded(&topology.balancer);
    for client in stage.clients() {
        requests(stage, client);
    }
    // Answers to SYNs, answers and FINs.
    let least = 3 * 2 * REQUESTS as u64;
    assert!(flows::forwarded(&topology.balancer) - before >= least);
}

/// What was counted of a service.
#[derive(Debug)]
struct Counted {
    service: Counters,
    /// Packets by backend.
    of_backends: Vec<u64>,
}

impl Counted {
    fn of(stage: &Stage, service: Service) -> Self {
        Self {
            service: stage.counters(service),
            of_backends: stage.packets_by_backend(service),
        }
    }

    fn since(self, before: &Self) -> Self {
        let (now, then) = (self.service, before.service);
        let of_backends = self.of_backends.iter().zip(&before.of_backends);
        Self {
            service: Counters {
                packets: now.packets - then.packets,
                bytes: now.bytes - then.bytes,
                connections: now.connections - then.connections,
                reply_packets: now.reply_packets - then.reply_packets,
                reply_bytes: now.reply_bytes - then.reply_bytes,
            },
            of_backends: of_backends.map(|(now, then)| now - then).collect(),
        }
    }

    /// Expects at least so many replies where they come back through the balancer, and none where
    /// they don't.
    #[track_caller]
    fn expect_replies(&self, setting: Setting, packets: u64, bytes: u64) {
        let replies = (self.service.reply_packets, self.service.reply_bytes);
        if setting.is_direct() {
            assert_eq!(replies, (0, 0), "{self:?}");
        } else {
            assert!(replies.0 >= packets && replies.1 >= bytes, "{self:?}");
        }
    }
}
