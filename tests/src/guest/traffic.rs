//! What a client does.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::lab::{Load, LoadOptions, NetNs, wait_until};

/// How long an answer may take on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests, each on a connection of its own: enough to meet both of two backends but once in a million.
const REQUESTS: usize = 20;

/// Sockets that send datagrams.
const FLOWS: u8 = 8;

/// Lengths of datagrams: a sum of an odd one, and the longest that fills a frame of 1,500 bytes with the
/// headers of IPv6 and UDP.
const LENGTHS: [usize; 3] = [1, 301, 1452];

/// Requests over TCP, of which none may fail, and both backends have to answer some.
pub(super) fn requests(client: &NetNs, target: SocketAddr) {
    let options = LoadOptions {
        target,
        every: Duration::from_millis(20),
        timeout: PATIENCE,
    };
    let load = Load::start(client, options);
    wait_until("requests are answered", PATIENCE, || {
        load.answered() >= REQUESTS
    });
    let requests = load.stop();
    let failed: Vec<_> = requests.iter().filter(|request| request.failed()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let backends: BTreeSet<_> = requests
        .iter()
        .filter_map(|request| request.backend())
        .collect();
    assert_eq!(backends, BTreeSet::from(["backend1", "backend2"]));
}

/// Datagrams of several lengths, each of which has to come back.
pub(super) fn datagrams(client: &NetNs, target: SocketAddr) {
    client.run(|| {
        for flow in 0..FLOWS {
            let any: SocketAddr = if target.is_ipv6() {
                (Ipv6Addr::UNSPECIFIED, 0).into()
            } else {
                (Ipv4Addr::UNSPECIFIED, 0).into()
            };
            let socket = UdpSocket::bind(any).expect("open a UDP socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.connect(target).expect("connect a socket");
            for length in LENGTHS {
                let sent = vec![flow; length];
                let mut received = [0; 2048];
                socket.send(&sent).expect("send a datagram");
                let length = socket
                    .recv(&mut received)
                    .unwrap_or_else(|error| panic!("no echo of {length} bytes: {error}"));
                assert!(received[..length] == sent[..], "an echo of {length} bytes");
            }
        }
    });
}
