//! Tells the neighbours on a link that a VIP is here: gratuitous ARP and unsolicited neighbour
//! advertisements.
//!
//! A VIP is announced at once, one second later, and two seconds after that: the first may meet a
//! switch port that does not forward yet, and RFC 5227 section 2.3 asks for two, two seconds apart
//! (RFC 4861 section 7.2.6 allows three). A link that comes up starts this again for all its VIPs.
//! There is no announcing without end: a neighbour that missed all of them asks when its entry
//! expires.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use thiserror::Error;

/// When a VIP is announced, counted from its start.
pub const ANNOUNCE_AT: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];

const BROADCAST: [u8; 6] = [0xff; 6];
/// The Ethernet address of ff02::1 (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Bytes of the advertisement: header, target, and one option.
const ADVERTISEMENT_BYTES: u16 = 32;

/// Why a VIP could not be announced.
#[derive(Debug, Error)]
pub enum AnnounceError {
    /// The capability is missing.
    #[error("announce = \"arp\" needs CAP_NET_RAW, which this process does not have")]
    NotPermitted,
    /// The socket could not be opened.
    #[error("open a packet socket: {0}")]
    Open(#[source] io::Error),
    /// The frame could not be sent.
    #[error("announce {vip} on interface {ifindex}: {source}")]
    Send {
        /// The VIP.
        vip: IpAddr,
        /// The interface.
        ifindex: u32,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An ARP announcement (RFC 5227 section 1.1): a broadcast request whose sender and target are
/// both the VIP. A whole Ethernet frame.
#[must_use]
pub fn gratuitous_arp(mac: [u8; 6], vip: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    // Ethernet, IPv4, six and four bytes of address, request.
    frame[14..22].copy_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&vip.octets());
    // The target's hardware address stays zero: it is what a request does not know.
    frame[38..42].copy_from_slice(&vip.octets());
    frame
}

/// An unsolicited neighbour advertisement (RFC 4861 section 7.2.6) from the VIP to all nodes, with
/// the override flag and the sender's address as option. A whole Ethernet frame. The router flag
/// stays clear: no host has a VIP as its router.
#[must_use]
pub fn unsolicited_na(mac: [u8; 6], vip: Ipv6Addr) -> Vec<u8> {
    let mut message = Vec::with_capacity(usize::from(ADVERTISEMENT_BYTES));
    message.extend([NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0b0010_0000, 0, 0, 0]);
    message.extend(vip.octets());
    // Target link-layer address, in units of eight bytes.
    message.extend([2, 1]);
    message.extend(mac);
    let checksum = icmpv6_checksum(vip, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = Vec::with_capacity(14 + 40 + message.len());
    frame.extend(ALL_NODES_MAC);
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(ADVERTISEMENT_BYTES.to_be_bytes());
    // A hop limit of 255 proves to the receiver that no router has forwarded it.
    frame.extend([ICMPV6, 255]);
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// RFC 4443 section 2.3: the sum over pseudo-header and message, whose checksum field is zero.
fn icmpv6_checksum(source: Ipv6Addr, message: &[u8]) -> u16 {
    let pseudo = [ADVERTISEMENT_BYTES, u16::from(ICMPV6)];
    let addresses = source.segments().into_iter().chain(ALL_NODES.segments());
    let words = message
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut sum: u32 = addresses.chain(pseudo).chain(words).map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends announcements.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
}

impl Announcer {
    /// Opens the socket in the calling thread's network namespace. Needs CAP_NET_RAW, now only.
    ///
    /// # Errors
    ///
    /// [`AnnounceError::NotPermitted`] without the capability.
    pub fn open() -> Result<Self, AnnounceError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Protocol 0: it sends and hears nothing.
        match socket(AddressFamily::Packet, SockType::Raw, flags, None) {
            Ok(socket) => Ok(Self { socket }),
            Err(nix::errno::Errno::EPERM) => Err(AnnounceError::NotPermitted),
            Err(errno) => Err(AnnounceError::Open(errno.into())),
        }
    }

    /// Announces a VIP once on an interface, as being at `mac`.
    ///
    /// # Errors
    ///
    /// [`AnnounceError::Send`], when the link is down for one.
    pub fn announce(&self, ifindex: u32, mac: [u8; 6], vip: IpAddr) -> Result<(), AnnounceError> {
        let sent = match vip {
            IpAddr::V4(v4) => self.send(ifindex, &gratuitous_arp(mac, v4)),
            IpAddr::V6(v6) => self.send(ifindex, &unsolicited_na(mac, v6)),
        };
        sent.map_err(|source| AnnounceError::Send {
            vip,
            ifindex,
            source,
        })
    }

    fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
        let mut to = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ethertype.to_be(),
            sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        to.sll_addr[..6].copy_from_slice(&frame[..6]);
        // SAFETY: pointers and lengths are those of `frame` and `to`, which outlive the call.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// Decides when which VIP is announced on which interface.
#[derive(Debug, Default)]
pub struct AnnounceSchedule {
    /// When the announcing began, and how many have been sent.
    vips: BTreeMap<(u32, IpAddr), (Instant, usize)>,
}

impl AnnounceSchedule {
    /// Begins to announce a VIP; begins anew if it was being announced.
    pub fn start(&mut self, ifindex: u32, vip: IpAddr, now: Instant) {
        self.vips.insert((ifindex, vip), (now, 0));
    }

    /// Forgets a VIP.
    pub fn stop(&mut self, ifindex: u32, vip: IpAddr) {
        self.vips.remove(&(ifindex, vip));
    }

    /// The link has come up: its VIPs are announced anew.
    pub fn link_up(&mut self, ifindex: u32, now: Instant) {
        for ((of, _), progress) in &mut self.vips {
            if *of == ifindex {
                *progress = (now, 0);
            }
        }
    }

    /// When the next announcement is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.vips
            .values()
            .filter_map(|(start, sent)| ANNOUNCE_AT.get(*sent).map(|after| *start + *after))
            .min()
    }

    /// What is to be announced now; it counts as announced.
    pub fn due(&mut self, now: Instant) -> Vec<(u32, IpAddr)> {
        let mut due = Vec::new();
        for (key, (start, sent)) in &mut self.vips {
            if ANNOUNCE_AT
                .get(*sent)
                .is_some_and(|after| *start + *after <= now)
            {
                *sent += 1;
                due.push(*key);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0xaa, 0xbb, 0xcc];

    #[test]
    fn gratuitous_arp_is_the_rfcs_byte_for_byte() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0xaa, 0xbb, 0xcc, 8, 6, 0, 1, 8, 0, 6, 4,
            0, 1, 2, 0, 0, 0xaa, 0xbb, 0xcc, 192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 192, 0, 2, 10,
        ];
        assert_eq!(gratuitous_arp(MAC, Ipv4Addr::new(192, 0, 2, 10)), expected);
    }

    #[test]
    fn unsolicited_advertisement_parses_and_its_checksum_holds() {
        let vip: Ipv6Addr = "2001:db8::10".parse().expect("address");
        let frame = unsolicited_na(MAC, vip);
        assert_eq!(frame.len(), 86);
        assert_eq!(
            frame[..14],
            [
                0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0xaa, 0xbb, 0xcc, 0x86, 0xdd
            ]
        );
        let ip = &frame[14..54];
        assert_eq!(ip[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(ip[8..24], vip.octets());
        assert_eq!(ip[24..40], ALL_NODES.octets());
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[62..78], vip.octets());
        assert_eq!(frame[78..86], [2, 1, 2, 0, 0, 0xaa, 0xbb, 0xcc]);

        let icmp = etherparse::Icmpv6Slice::from_slice(&frame[54..]).expect("ICMPv6");
        let (source, destination) = (vip.octets(), ALL_NODES.octets());
        assert!(icmp.is_checksum_valid(source, destination));
    }

    #[test]
    fn a_vip_is_announced_three_times_and_anew_when_its_link_comes_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let vip: IpAddr = "192.0.2.10".parse().expect("address");
        let mut schedule = AnnounceSchedule::default();
        assert_eq!(schedule.next(), None);
        schedule.start(3, vip, start);
        assert_eq!(schedule.due(at(0)), [(3, vip)]);
        assert_eq!(schedule.due(at(999)), []);
        assert_eq!(schedule.next(), Some(at(1_000)));
        assert_eq!(schedule.due(at(1_000)), [(3, vip)]);
        assert_eq!(schedule.due(at(3_000)), [(3, vip)]);
        assert_eq!(schedule.next(), None);
        schedule.link_up(4, at(5_000));
        assert_eq!(schedule.next(), None);
        schedule.link_up(3, at(5_000));
        assert_eq!(schedule.due(at(5_000)), [(3, vip)]);
        schedule.stop(3, vip);
        assert_eq!(schedule.next(), None);
    }
}
