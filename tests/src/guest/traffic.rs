//! What a client does.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use crate::lab::{self, Load, LoadOptions, NetNs, wait_until};

/// How long an answer may take on a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests, each on a connection of its own: enough to meet both of two backends but once in a million.
const REQUESTS: usize = 20;

/// Sockets that send datagrams.
const SOCKETS: u8 = 8;

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

/// Datagrams, each of which has to come back.
pub(super) fn datagrams(client: &NetNs, target: SocketAddr) {
    lab::echo(client, target, SOCKETS, PATIENCE);
}
