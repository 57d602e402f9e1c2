//! One probe: a TCP connection that is opened and dropped.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use super::outcome::{Outcome, ProbeResult};

/// Opens a TCP connection to `address`, and resets it as soon as it stands.
///
/// The reset (RFC 9293, section 3.10.4 `ABORT`) spares this host an entry in TIME-WAIT for each
/// probe, which at a thousand probes a second would use up its ports.
pub async fn connect(address: SocketAddr, timeout_after: Duration) -> Outcome {
    let start = Instant::now();
    let result = match open(address) {
        Err(error) => ProbeResult::Local(error.to_string()),
        Ok(socket) => match timeout(timeout_after, socket.connect(address)).await {
            Err(_elapsed) => ProbeResult::TimedOut,
            Ok(connected) => judge(connected),
        },
    };
    let latency = if result == ProbeResult::TimedOut {
        timeout_after
    } else {
        start.elapsed()
    };
    Outcome { result, latency }
}

fn open(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    Ok(socket)
}

fn judge(connected: io::Result<TcpStream>) -> ProbeResult {
    match connected {
        Ok(_stream) => ProbeResult::Ok,
        Err(error) => classify(&error),
    }
}

/// What the error of a `connect` says, and about whom.
fn classify(error: &io::Error) -> ProbeResult {
    let detail = || error.to_string();
    let Some(errno) = error.raw_os_error() else {
        return ProbeResult::Other(detail());
    };
    match errno {
        libc::ECONNREFUSED => ProbeResult::Refused,
        libc::ETIMEDOUT => ProbeResult::TimedOut,
        // EACCES is what a `prohibit` route answers, EPERM a filter of this host.
        libc::EHOSTUNREACH
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::ENETDOWN
        | libc::EACCES
        | libc::EPERM => ProbeResult::Unreachable(detail()),
        libc::EMFILE
        | libc::ENFILE
        | libc::ENOBUFS
        | libc::ENOMEM
        | libc::ENOSPC
        | libc::EAGAIN
        | libc::EADDRNOTAVAIL
        | libc::EADDRINUSE => ProbeResult::Local(detail()),
        _ => ProbeResult::Other(detail()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::health::testing::{FullListener, refusing};

    const SHORT: Duration = Duration::from_millis(100);
    const AMPLE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_listener_is_well_and_sees_a_reset() {
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ] {
            let listener = TcpListener::bind(address).await.expect("bind on loopback");
            let address = listener.local_addr().expect("address of a bound socket");
            let outcome = connect(address, AMPLE).await;
            assert_eq!(outcome.result, ProbeResult::Ok);
            let (mut stream, _peer) = listener.accept().await.expect("accept the probe");
            let error = stream.read_u8().await.expect_err("the probe sends nothing");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let (_bound, address) = refusing();
        assert_eq!(connect(address, AMPLE).await.result, ProbeResult::Refused);
    }

    #[tokio::test]
    async fn a_full_backlog_times_out_after_the_timeout() {
        let full = FullListener::start().await;
        let start = Instant::now();
        let outcome = connect(full.address(), SHORT).await;
        assert_eq!(outcome.result, ProbeResult::TimedOut);
        assert_eq!(outcome.latency, SHORT);
        assert!(start.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn no_route_is_unreachable() {
        // TCP to a broadcast address is turned down by the kernel before anything is sent.
        let broadcast = SocketAddr::from((Ipv4Addr::new(127, 255, 255, 255), 80));
        let outcome = connect(broadcast, AMPLE).await;
        assert!(
            matches!(outcome.result, ProbeResult::Unreachable(_)),
            "{outcome:?}"
        );
    }

    #[test]
    fn errors_are_told_apart() {
        let classified = |errno| classify(&io::Error::from_raw_os_error(errno));
        assert_eq!(classified(libc::ECONNREFUSED), ProbeResult::Refused);
        assert_eq!(classified(libc::ETIMEDOUT), ProbeResult::TimedOut);
        for errno in [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EACCES] {
            let result = classified(errno);
            assert!(matches!(result, ProbeResult::Unreachable(_)), "{result:?}");
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL] {
            let result = classified(errno);
            assert!(matches!(result, ProbeResult::Local(_)), "{result:?}");
        }
        let result = classified(libc::ECONNRESET);
        assert!(matches!(result, ProbeResult::Other(_)), "{result:?}");
    }
}
