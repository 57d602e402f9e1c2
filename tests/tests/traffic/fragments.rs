//! Datagrams in fragments, there and back, through each forwarding mode in both families.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use xlb_tests::lab::Host;

use crate::{
    flows,
    stage::{ECHO, Setting, Stage},
};

/// How long an echo may take.
const ECHO_LIMIT: Duration = Duration::from_secs(5);
/// Sockets of a client.
const SOCKETS: u64 = 8;
/// Bytes of datagrams that take two, three and four fragments.
const LARGE: [usize; 3] = [1_600, 4_000, 5_700];
/// Fragments of all of these.
const FRAGMENTS: u64 = 2 + 3 + 4;

#[test]
fn dnat_over_ipv4() {
    pass("frag-dnat-4", Setting::new("dnat", false));
}

#[test]
fn dnat_over_ipv6() {
    pass("frag-dnat-6", Setting::new("dnat", true));
}

#[test]
fn dnat_on_two_interfaces() {
    let setting = Setting::new("dnat", false);
    pass(
        "frag-two",
        Setting {
            two_interfaces: true,
            ..setting
        },
    );
}

#[test]
fn l2_dsr_over_ipv4() {
    pass("frag-dsr-4", Setting::new("l2-dsr", false));
}

#[test]
fn l2_dsr_over_ipv6() {
    pass("frag-dsr-6", Setting::new("l2-dsr", true));
}

#[test]
fn ipip_over_ipv4() {
    pass("frag-ipip-4", Setting::new("ipip", false));
}

#[test]
fn ipip_over_ipv6() {
    pass("frag-ipip-6", Setting::new("ipip", true));
}

#[test]
fn gue_over_ipv4() {
    pass("frag-gue-4", Setting::new("gue", false));
}

#[test]
fn gue_over_ipv6() {
    pass("frag-gue-6", Setting::new("gue", true));
}

#[test]
fn gue_of_ipv4_over_ipv6() {
    let setting = Setting::new("gue", false);
    pass(
        "frag-across",
        Setting {
            across: true,
            ..setting
        },
    );
}

#[test]
fn by_addresses_over_ipv4() {
    by_addresses("frag-addr-4", Setting::new("dnat", false));
}

#[test]
fn by_addresses_over_ipv6() {
    by_addresses("frag-addr-6", Setting::new("l2-dsr", true));
}

/// All come back as they were sent, and all fragments were sent on.
fn pass(label: &str, setting: Setting) {
    let stage = built(label, setting);
    let before = stage.counters(ECHO).packets;
    for client in stage.clients() {
        echo(client, stage.target(ECHO));
    }
    let sent = stage.counters(ECHO).packets - before;
    assert_eq!(sent, 2 * SOCKETS * FRAGMENTS);
    for host in stage.clients().into_iter().chain(&stage.topology.backends) {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

/// Whatever its ports are, what a client sends in fragments goes to one backend.
fn by_addresses(label: &str, setting: Setting) {
    let setting = Setting {
        fragments_by_address: true,
        ..setting
    };
    let stage = built(label, setting);
    for client in stage.clients() {
        let before = stage.packets_by_backend(ECHO);
        echo(client, stage.target(ECHO));
        let after = stage.packets_by_backend(ECHO);
        let sent = after.iter().zip(&before);
        let sent: Vec<u64> = sent.map(|(after, before)| after - before).collect();
        assert!(sent.contains(&0), "{sent:?} of {}", client.name());
        let got_all = sent.iter().position(|&sent| sent == SOCKETS * FRAGMENTS);
        let got_all = got_all.unwrap_or_else(|| panic!("{sent:?} of {}", client.name()));
        let source = SocketAddr::new(client.address(setting.v6), 1).to_string();
        let destination = format!("{}/udp", stage.target(ECHO));
        let told = stage.agent.cli(&[
            "explain",
            "--fragment",
            "--src",
            &source,
            "--dst",
            &destination,
            "-o",
            "json",
        ]);
        let host = &stage.topology.backends[got_all];
        let said = told["verdict"]["backend"].to_string();
        let address = host.address(setting.v6).to_string();
        assert!(said.contains(&address), "{told}: not {address}");
    }
}

fn built(label: &str, setting: Setting) -> Stage {
    let stage = Stage::build(label, setting);
    if setting.is_tunnelled() {
        answer_in_small_fragments(&stage);
    }
    stage
}

/// Has backends, whose link takes more than that of clients, fragment for the latter.
fn answer_in_small_fragments(stage: &Stage) {
    for client in stage.clients() {
        let to = client.address(stage.setting.v6);
        for backend in &stage.topology.backends {
            let route = backend.ns.ip(&format!("-j route get {to}"));
            let routes: serde_json::Value = serde_json::from_str(&route).expect("JSON of ip");
            let gateway = match routes[0]["gateway"].as_str() {
                Some(gateway) => format!("via {gateway}"),
                None => String::new(),
            };
            backend
                .ns
                .ip(&format!("route replace {to} {gateway} dev eth0 mtu 1500"));
        }
    }
}

/// Sends datagrams that need fragments, and expects each back byte by byte.
fn echo(client: &Host, target: SocketAddr) {
    let any = if target.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    client.ns.run(|| {
        for turn in 0..SOCKETS {
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.set_read_timeout(Some(ECHO_LIMIT)).expect("a limit");
            socket.connect(target).expect("a route");
            for bytes in LARGE {
                let sent: Vec<u8> = (0..bytes).map(|at| (at as u64 * 7 + turn) as u8).collect();
                socket.send(&sent).expect("send a datagram");
                let mut received = vec![0; bytes + 1];
                let length = socket
                    .recv(&mut received)
                    .unwrap_or_else(|error| panic!("no echo of {bytes} bytes: {error}"));
                assert!(received[..length] == sent[..], "an echo of {bytes} bytes");
            }
        }
    });
}
