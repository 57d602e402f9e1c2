//! Raw sockets: spoofed packets into the fleet, and a look at which node a flow is sent to.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::lab::{NetNs, VIP_V4};

/// Packets between two pauses, and the pause: the lab shares its cores with what it tests.
const BURST: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Spoofed packets on their way; they end when this is dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends SYNs of `flows` spoofed flows to a port of the VIP, each followed by an ACK if
    /// `with_ack`. Their checksums are wrong, so that backends drop them: a balancer does not look.
    pub(super) fn start(ns: &NetNs, port: u16, flows: u32, with_ack: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = ns.spawn("flood", move || {
            let socket = socket(libc::AF_INET, libc::IPPROTO_RAW);
            for flow in 0..flows {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                send(socket, &spoofed(flow, port, 0, SYN));
                if with_ack {
                    send(socket, &spoofed(flow, port, 1, ACK));
                }
                if flow % BURST == 0 {
                    thread::sleep(PAUSE);
                }
            }
            close(socket);
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until all is sent.
    pub(super) fn finish(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the flood does not panic");
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}

pub(super) const SYN: u8 = 2;
pub(super) const ACK: u8 = 16;

/// IPv4 and TCP headers of a packet from an address and port that follow from `flow`.
pub(super) fn spoofed(flow: u32, port: u16, sequence: u32, flags: u8) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    let host = flow.to_be_bytes();
    packet[12..16].copy_from_slice(&[10, 99, host[2], host[3]]);
    packet[16..20].copy_from_slice(&VIP_V4.octets());
    let source_port = 1024 + (flow >> 16) as u16;
    packet[20..22].copy_from_slice(&source_port.to_be_bytes());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 0x50;
    packet[33] = flags;
    packet[34..36].copy_from_slice(&[0xff, 0xff]);
    packet
}

/// The last byte of the address of the node that the router sends each flow to, by the client's
/// port, as seen over `time` on the router.
pub(super) fn nodes_of_flows(router: &NetNs, port: u16, time: Duration) -> HashMap<u16, u8> {
    router.run(|| {
        const ETH_P_ALL: u16 = 3;
        let socket = socket(libc::AF_PACKET, i32::from(ETH_P_ALL.to_be()));
        let mut nodes = HashMap::new();
        let end = Instant::now() + time;
        let mut frame = [0u8; 256];
        while Instant::now() < end {
            // SAFETY: the kernel writes at most as many bytes as the buffer has.
            let len = unsafe {
                let at = frame.as_mut_ptr().cast();
                libc::recv(socket, at, frame.len(), libc::MSG_DONTWAIT)
            };
            if len < 54 {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let to_node = frame[..5] == [2, 0, 10, 80, 1];
            let to_service = frame[12..14] == [8, 0]
                && frame[30..34] == VIP_V4.octets()
                && frame[36..38] == port.to_be_bytes();
            if to_node && to_service {
                nodes.insert(u16::from_be_bytes([frame[34], frame[35]]), frame[5]);
            }
        }
        close(socket);
        nodes
    })
}

fn socket(family: i32, protocol: i32) -> i32 {
    // SAFETY: socket(2) takes no memory of ours.
    let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    assert!(socket >= 0, "root may open raw sockets");
    socket
}

fn close(socket: i32) {
    // SAFETY: the descriptor is ours, and is not used again.
    unsafe { libc::close(socket) };
}

fn send(socket: i32, packet: &[u8; 40]) {
    // SAFETY: an address of all zeros is valid, and the kernel reads packet and address only, each
    // of the length that it is told. A packet that the queue has no room for counts as lost.
    unsafe {
        let mut to: libc::sockaddr_in = mem::zeroed();
        to.sin_family = libc::AF_INET as u16;
        to.sin_addr.s_addr = u32::from_ne_bytes(VIP_V4.octets());
        libc::sendto(
            socket,
            packet.as_ptr().cast(),
            packet.len(),
            0,
            std::ptr::from_ref(&to).cast(),
            size_of_val(&to) as u32,
        );
    }
}
