//! Sockets of a VIP in a network namespace of the thread's own, for a program that looks for them.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
};

use etherparse::{PacketBuilder, TcpHeaderSlice};
use nix::{
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
        connect, listen, recv, sendto, setsockopt, socket, sockopt,
    },
};

use crate::kinds::{client, vip};

/// Gives the thread a namespace where client and VIP are both on the loopback interface.
pub(crate) fn namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace for this thread");
    ip("link set lo up");
    for v6 in [false, true] {
        let bits = if v6 { 128 } else { 32 };
        for address in [client(v6), vip(v6)] {
            ip(&format!("address add {address}/{bits} dev lo"));
        }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("run ip");
    assert!(status.success(), "ip {arguments}");
}

/// Sets a kernel parameter of IPv4 in the namespace.
pub(crate) fn set(parameter: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{parameter}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("set {path}: {error}"));
}

/// Who listens, and does not accept before data comes if `deferring`: until then a connection is but
/// a request.
pub(crate) fn listener(at: SocketAddr, deferring: bool) -> TcpListener {
    let socket = stream_socket(at);
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("an option");
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at)).expect("the VIP");
    if deferring {
        let seconds: libc::c_int = 30;
        // SAFETY: the kernel reads an integer of the length that it is told.
        let answer = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }
    listen(&socket, Backlog::new(8).expect("a backlog")).expect("listen");
    TcpListener::from(socket)
}

/// A connection from a client's address and port.
pub(crate) fn connection(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = stream_socket(from);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from)).expect("the client's address");
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).expect("connect");
    TcpStream::from(socket)
}

/// A connection that the server has accepted, both ends of it.
pub(crate) fn established(listener: &TcpListener, from: SocketAddr) -> (TcpStream, TcpStream) {
    let to = listener.local_addr().expect("an address");
    let mut client = connection(from, to);
    client.write_all(b"x").expect("send");
    let (mut server, _) = listener.accept().expect("accept");
    // What was not read would turn its end into a reset.
    server.read_exact(&mut [0]).expect("receive");
    (client, server)
}

fn stream_socket(of: SocketAddr) -> OwnedFd {
    let family = family(of.ip());
    socket(family, SockType::Stream, SockFlag::empty(), None).expect("a socket")
}

const fn family(of: IpAddr) -> AddressFamily {
    match of {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Opens a connection and stops after the listener's answer, whose sequence number is returned. A
/// listener that sends cookies remembers nothing of it.
pub(crate) fn half_open(from: SocketAddr, to: SocketAddr, sequence: u32) -> u32 {
    let raw = socket(
        family(from.ip()),
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Tcp,
    )
    .expect("a raw socket");
    let at = |address: SocketAddr| SockaddrStorage::from(SocketAddr::new(address.ip(), 0));
    bind(raw.as_raw_fd(), &at(from)).expect("the client's address");
    let sent = syn(from, to, sequence);
    sendto(raw.as_raw_fd(), &sent, &at(to), MsgFlags::empty()).expect("send a SYN");
    let mut buffer = [0; 256];
    loop {
        let length = recv(raw.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("an answer");
        // IPv4 comes with its header, IPv6 without.
        let header = if from.is_ipv4() { 20 } else { 0 };
        let tcp = TcpHeaderSlice::from_slice(&buffer[header..length]).expect("TCP");
        if tcp.syn() && tcp.ack() && tcp.destination_port() == from.port() {
            return tcp.sequence_number();
        }
    }
}

/// A SYN without its IP header.
fn syn(from: SocketAddr, to: SocketAddr, sequence: u32) -> Vec<u8> {
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("from {from} to {to}")
        }
    };
    let mut bytes = Vec::new();
    builder
        .tcp(from.port(), to.port(), sequence, 64_240)
        .syn()
        .write(&mut bytes, &[])
        .expect("a SYN");
    let header = if from.is_ipv4() { 20 } else { 40 };
    bytes.split_off(header)
}
