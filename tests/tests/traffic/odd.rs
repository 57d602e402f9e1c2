//! Packets with IPv4 options and IPv6 extension headers, through each forwarding mode in both families.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use crate::{
    flows,
    stage::{ECHO, Setting, Stage},
};

/// How long an echo may take.
const ECHO_LIMIT: Duration = Duration::from_secs(5);
/// Sockets of a client, each of which sends once with each option.
const SOCKETS: usize = 8;

/// A kernel's option of a socket that puts something between the headers of all its packets.
type Option = (libc::c_int, libc::c_int, &'static [u8]);

/// A record of the route, and a router alert.
const OPTIONS4: [Option; 2] = [
    (
        libc::IPPROTO_IP,
        libc::IP_OPTIONS,
        &[7, 7, 4, 0, 0, 0, 0, 0],
    ),
    (libc::IPPROTO_IP, libc::IP_OPTIONS, &[0x94, 4, 0, 0]),
];

/// Hop-by-hop options, and with them destination options, both padding.
const OPTIONS6: [Option; 2] = [
    (
        libc::IPPROTO_IPV6,
        libc::IPV6_HOPOPTS,
        &[0, 0, 1, 4, 0, 0, 0, 0],
    ),
    (
        libc::IPPROTO_IPV6,
        libc::IPV6_DSTOPTS,
        &[0, 0, 1, 4, 0, 0, 0, 0],
    ),
];

#[test]
fn dnat_over_ipv4() {
    pass("odd-dnat-4", "dnat", false);
}

#[test]
fn dnat_over_ipv6() {
    pass("odd-dnat-6", "dnat", true);
}

#[test]
fn l2_dsr_over_ipv4() {
    pass("odd-dsr-4", "l2-dsr", false);
}

#[test]
fn l2_dsr_over_ipv6() {
    pass("odd-dsr-6", "l2-dsr", true);
}

#[test]
fn ipip_over_ipv4() {
    pass("odd-ipip-4", "ipip", false);
}

#[test]
fn ipip_over_ipv6() {
    pass("odd-ipip-6", "ipip", true);
}

#[test]
fn gue_over_ipv4() {
    pass("odd-gue-4", "gue", false);
}

#[test]
fn gue_over_ipv6() {
    pass("odd-gue-6", "gue", true);
}

fn pass(label: &str, forward: &'static str, v6: bool) {
    let stage = Stage::build(label, Setting::new(forward, v6));
    let target = stage.target(ECHO);
    let before = stage.counters(ECHO).packets;
    let mut sent = 0;
    for client in stage.clients() {
        client.ns.run(|| {
            for _ in 0..SOCKETS {
                sent += echo_with_options(target, if v6 { &OPTIONS6 } else { &OPTIONS4 });
            }
        });
    }
    assert_eq!(stage.counters(ECHO).packets - before, sent);
    for host in stage.clients().into_iter().chain(&stage.topology.backends) {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

/// Sends a datagram with each option, and expects it back. Returns how many were sent.
fn echo_with_options(target: SocketAddr, options: &[Option]) -> u64 {
    let any = if target.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(ECHO_LIMIT)).expect("a limit");
    socket.connect(target).expect("a route");
    for option in options {
        set(&socket, *option);
        let sent = format!("with {option:?}");
        socket.send(sent.as_bytes()).expect("send a datagram");
        let mut received = [0; 256];
        let length = socket
            .recv(&mut received)
            .unwrap_or_else(|error| panic!("no echo of what was sent {sent}: {error}"));
        assert_eq!(String::from_utf8_lossy(&received[..length]), sent);
    }
    options.len() as u64
}

fn set(socket: &UdpSocket, (level, name, value): Option) {
    // SAFETY: the value is as long as is said, and only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
