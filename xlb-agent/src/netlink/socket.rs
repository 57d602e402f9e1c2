//! The two kinds of talk with the kernel: notifications that it sends, requests that it answers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{
    NLM_F_APPEND, NLM_F_DUMP_INTR, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

use super::decode::change;
use super::model::Change;
use super::requests::{self, Request};
use super::tables::Tables;
use super::task::NetlinkError;

/// Room for notifications that were not read yet.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Opens a socket that hears of all that [`change`] understands.
pub(super) fn open_notifications() -> io::Result<TokioSocket> {
    let groups = [
        libc::RTNLGRP_LINK,
        libc::RTNLGRP_NEIGH,
        libc::RTNLGRP_IPV4_IFADDR,
        libc::RTNLGRP_IPV6_IFADDR,
        libc::RTNLGRP_IPV4_ROUTE,
        libc::RTNLGRP_IPV6_ROUTE,
    ];
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    // SAFETY: the descriptor is the socket's own, which outlives this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        // Without CAP_NET_ADMIN in the first user namespace the system's limit holds; when it
        // does not suffice the kernel says so (ENOBUFS), and the tables are read again.
        socket
            .socket_ref()
            .set_rx_buf_sz(RECEIVE_BUFFER_BYTES as libc::c_int)?;
    }
    let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
    Ok(socket)
}

/// The changes that a datagram of notifications tells.
pub(super) fn changes(datagram: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut rest = datagram;
    while let Ok(header) = NetlinkBuffer::new_checked(rest) {
        let length = header.length() as usize;
        let flags = header.flags();
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length]) {
            Ok(message) => {
                if let NetlinkPayload::InnerMessage(inner) = message.payload {
                    changes.extend(change(&inner, flags));
                }
            }
            Err(error) => tracing::debug!("netlink message not understood: {error}"),
        }
        // NLMSG_ALIGN: a message begins at a multiple of four bytes.
        let aligned = length.next_multiple_of(4).min(rest.len());
        rest = &rest[aligned..];
    }
    changes
}

/// Reads all tables once; says whether the kernel vouches for their consistency.
pub(super) async fn read_into(
    requests: &rtnetlink::Handle,
    tables: &mut Tables,
) -> Result<bool, NetlinkError> {
    let mut consistent = true;
    for dump in requests::dumps() {
        let mut answers = requests
            .clone()
            .request(dump)
            .map_err(|_| NetlinkError::Closed)?;
        let mut done = false;
        while let Some(answer) = answers.next().await {
            consistent &= answer.header.flags & NLM_F_DUMP_INTR == 0;
            if let NetlinkPayload::InnerMessage(inner) = answer.payload {
                if let Some(change) = change(&inner, NLM_F_APPEND) {
                    tables.apply(change);
                }
            } else if let NetlinkPayload::Error(error) = answer.payload {
                let what = "read the kernel's tables".to_owned();
                return Err(NetlinkError::Refused {
                    what,
                    source: error.to_io(),
                });
            } else if let NetlinkPayload::Done(_) = answer.payload {
                done = true;
            }
        }
        if !done {
            return Err(NetlinkError::Closed);
        }
    }
    Ok(consistent)
}

/// Sends a request and waits for the kernel's answer.
pub(super) async fn acknowledged(requests: &rtnetlink::Handle, request: Request) -> io::Result<()> {
    let closed = || io::Error::other("the netlink connection has ended");
    let mut answers = requests.clone().request(request).map_err(|_| closed())?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}
