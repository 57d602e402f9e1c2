//! Whether this host has the socket of a packet.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_CURRENT_NETNS, BPF_TCP_LISTEN, bpf_sock},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie},
};
use xlb_common::{decap::Reason, maps::protocol, wire::TcpHeader};
use xlb_ebpf::frame::Frame;

use crate::family::{Family, Inner};

/// Whether the packet that begins at `offset` belongs to a connection of TCP that this host does not
/// have. What can't belong to one, or opens one, is the host's.
///
/// A listener alone does not make a connection, unless the packet ends a handshake of which the
/// listener keeps nothing but a cookie.
#[inline(always)]
pub fn is_missing<F: Family>(
    frame: &Frame<'_>,
    offset: usize,
    inner: &Inner,
) -> Result<bool, Reason> {
    if inner.protocol != protocol::TCP || !inner.is_plain {
        return Ok(false);
    }
    let tcp = frame.at::<TcpHeader>(offset + F::HEADER_BYTES)?;
    if TcpHeader::opens(tcp.flags) {
        return Ok(false);
    }
    let mut tuple = F::tuple(frame.at::<F::Header>(offset)?, tcp);
    // SAFETY: the context is the one that the program was called with; the tuple is on our stack,
    // and at least as long as the family's.
    let socket = unsafe {
        bpf_skc_lookup_tcp(
            frame.ctx().as_ptr(),
            (&raw mut tuple).cast(),
            F::TUPLE_BYTES,
            BPF_F_CURRENT_NETNS as u64,
            0,
        )
    };
    if socket.is_null() {
        return Ok(true);
    }
    // SAFETY: the kernel gave the socket, which it keeps until it is released.
    let is_listener = unsafe { (&raw const (*socket).state).read_volatile() } == BPF_TCP_LISTEN;
    let is_missing = is_listener && !is_cookie::<F>(frame, offset, socket);
    // SAFETY: it is released once, and not used after.
    unsafe { bpf_sk_release(socket.cast()) };
    Ok(is_missing)
}

/// Whether a packet has the cookie of a listener.
#[inline(always)]
fn is_cookie<F: Family>(frame: &Frame<'_>, offset: usize, socket: *mut bpf_sock) -> bool {
    let (Ok(ip), Ok(tcp)) = (
        frame.at::<F::Header>(offset),
        frame.at::<TcpHeader>(offset + F::HEADER_BYTES),
    ) else {
        return false;
    };
    // SAFETY: the socket is a listener that was not released; the headers lie within the frame, and
    // the helper only reads them.
    let answer = unsafe {
        bpf_tcp_check_syncookie(
            socket.cast(),
            core::ptr::from_ref(ip).cast_mut().cast(),
            size_of::<F::Header>() as u32,
            core::ptr::from_ref(tcp).cast_mut().cast(),
            size_of::<TcpHeader>() as u32,
        )
    };
    answer == 0
}
