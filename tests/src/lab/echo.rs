//! A client that sends datagrams one after the other, each of which has to come back.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::NetNs;

/// Lengths of datagrams. An odd one, since a checksum is a sum of words; the longest fills a frame of
/// 1,500 bytes with the headers of IPv6 and UDP.
const LENGTHS: [usize; 4] = [1, 8, 301, 1452];

/// Sends datagrams of several lengths from each of so many sockets, and expects each to come back within
/// this time. Returns how many there were.
///
/// # Panics
///
/// One did not come back.
#[track_caller]
pub fn echo(client: &NetNs, target: SocketAddr, sockets: u8, limit: Duration) -> u64 {
    client.run(|| {
        for number in 0..sockets {
            let socket = udp_socket(target, limit);
            for length in LENGTHS {
                let sent = vec![number; length];
                let mut received = [0; 2048];
                socket.send(&sent).expect("send a datagram");
                let length = socket
                    .recv(&mut received)
                    .unwrap_or_else(|error| panic!("no echo of {length} bytes: {error}"));
                assert!(received[..length] == sent[..], "an echo of {length} bytes");
            }
        }
    });
    u64::from(sockets) * LENGTHS.len() as u64
}

/// A UDP socket with a port of its own, to a target whose answers may take so long.
///
/// # Panics
///
/// There is none to be had.
#[must_use]
pub fn udp_socket(target: SocketAddr, limit: Duration) -> UdpSocket {
    let any: SocketAddr = if target.is_ipv6() {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).expect("open a UDP socket");
    socket.set_read_timeout(Some(limit)).expect("set a timeout");
    socket.connect(target).expect("connect a socket");
    socket
}
