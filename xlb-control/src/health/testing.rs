//! Backends on loopback that misbehave, for tests.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// A port that refuses connections for as long as the socket lives: bound, so that no other test
/// gets it, and not listening.
pub(super) fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("make a socket");
    socket
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .expect("bind on loopback");
    let address = socket.local_addr().expect("address of a bound socket");
    (socket, address)
}

/// A listener whose backlog is full, so that the kernel drops each SYN to it without an answer.
pub(super) struct FullListener {
    listener: TcpListener,
    queued: Vec<TcpStream>,
}

impl FullListener {
    pub(super) async fn start() -> Self {
        let (socket, address) = refusing();
        let listener = socket.listen(0).expect("listen");
        let mut queued = Vec::new();
        while let Ok(connected) =
            timeout(Duration::from_millis(50), TcpStream::connect(address)).await
        {
            queued.push(connected.expect("connect to a listener"));
            assert!(queued.len() < 16, "the backlog never fills");
        }
        Self { listener, queued }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("address of a bound socket")
    }

    /// Empties the backlog, and keeps it empty: the listener is well from now on.
    pub(super) async fn recover(self) {
        drop(self.queued);
        loop {
            // What arrives is dropped at once.
            let _ = self.listener.accept().await;
        }
    }
}
