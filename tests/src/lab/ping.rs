//! Echo requests.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::NetNs;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

const PAYLOAD: &[u8] = b"are you there?";

impl NetNs {
    /// Pings an address, and panics if no answer comes.
    ///
    /// The socket is the kernel's own for echo requests: it fills in identifier and checksum, and
    /// takes in the answer that fits.
    #[track_caller]
    pub fn ping(&self, address: IpAddr) {
        let (family, protocol, request) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
        };
        // Such sockets are for those whose group is in this range.
        self.sysctl("net/ipv4/ping_group_range", "0 0");
        self.run(|| {
            let socket = socket(family, SockType::Datagram, SockFlag::empty(), protocol)
                .expect("open an ICMP socket");
            let socket = UdpSocket::from(socket);
            socket
                .set_read_timeout(Some(ANSWER_LIMIT))
                .expect("set a timeout");
            socket
                .connect(SocketAddr::new(address, 0))
                .expect("connect a socket");
            let message = [&[request, 0, 0, 0, 0, 0, 0, 1], PAYLOAD].concat();
            socket.send(&message).expect("send an echo request");
            let mut received = [0; 64];
            let length = socket
                .recv(&mut received)
                .unwrap_or_else(|error| panic!("no answer from {address}: {error}"));
            assert_eq!(received[8..length], *PAYLOAD);
        });
    }
}
