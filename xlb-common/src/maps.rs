//! The maps: their names, keys and values. This is the pinned layout; see [`LAYOUT_VERSION`].

use crate::limits::NAME_BYTES;
pub use crate::{
    endpoint::{Endpoint4, Endpoint6, EndpointTarget, Entry4, Entry6},
    flow::FlowKey,
    next_hop::{Egress, NextHop, vlan_of, vlan_tag},
};

/// Version of the layout, and the name of its directory below the pin directory.
pub const LAYOUT_VERSION: &str = "v1";

/// Names of the maps, as they are in the object and in the pin directory.
pub mod name {
    /// VIPs with an IPv4 address.
    pub const VIPS4: &str = "VIPS4";
    /// VIPs with an IPv6 address.
    pub const VIPS6: &str = "VIPS6";
    /// Endpoints of backends under `dnat`, IPv4.
    pub const REPLIES4: &str = "REPLIES4";
    /// Endpoints of backends under `dnat`, IPv6.
    pub const REPLIES6: &str = "REPLIES6";
    /// Tables of ports by IPv4 address: see [`crate::wide`].
    pub const WIDE4: &str = "WIDE4";
    /// Tables of ports by IPv6 address.
    pub const WIDE6: &str = "WIDE6";
    /// What tables of ports lead to.
    pub const PORTS: &str = "PORTS";
    /// Services by number.
    pub const SERVICES: &str = "SERVICES";
    /// Backends by number.
    pub const BACKENDS: &str = "BACKENDS";
    /// The agent's record of pools.
    pub const POOLS: &str = "POOLS";
    /// The arena of rings.
    pub const RING: &str = "RING";
    /// The arena of slot words.
    pub const SLOTS: &str = "SLOTS";
    /// The arena of last misses.
    pub const LAST_MISS: &str = "LAST_MISS";
    /// Pending handshakes of marked slots.
    pub const PENDING: &str = "PENDING";
    /// Flows of marked slots.
    pub const FLOWS: &str = "FLOWS";
    /// The arena of sequences: whose turn it is under `round-robin`.
    pub const SEQUENCES: &str = "SEQUENCES";
    /// How many turns there were under `round-robin`, by service.
    pub const CURSORS: &str = "CURSORS";
    /// Open connections under `least-connections`, by backend.
    pub const CONNECTIONS: &str = "CONNECTIONS";
    /// Interfaces that packets leave by.
    pub const EGRESS: &str = "EGRESS";
    /// The same, for the kernel's redirect.
    pub const EGRESS_DEVICES: &str = "EGRESS_DEVICES";
    /// Next hops of replies, IPv4.
    pub const ROUTES4: &str = "ROUTES4";
    /// Next hops of replies, IPv6.
    pub const ROUTES6: &str = "ROUTES6";
    /// Traffic by attachment.
    pub const COUNTERS: &str = "COUNTERS";
    /// Packets by reason.
    pub const REASONS: &str = "REASONS";
    /// What the program tells the agent.
    pub const EVENTS: &str = "EVENTS";
    /// Ports of `full-nat`.
    pub const NAT_PORTS: &str = "NAT_PORTS";
    /// Source addresses of `full-nat`.
    pub const NAT_SOURCES: &str = "NAT_SOURCES";
    /// What new connections of `full-nat` get their ports from, by family.
    pub const NAT_POOLS: &str = "NAT_POOLS";
    /// The port that a flow has under `full-nat`.
    pub const NAT_FLOWS: &str = "NAT_FLOWS";
    /// Where the fragments of datagrams go whose first one was seen.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// The programs that a packet's way may go on in. Each load of the programs has its own.
    pub const WAYS: &str = "WAYS";
}

/// The program's name in the object.
pub const PROGRAM: &str = "xlb";

/// The ways of packets that are not plain ones: programs of their own, in `WAYS`.
pub mod way {
    /// Frames whose headers are not where they mostly are.
    pub const ODD: u32 = 0;
    /// ICMP and ICMPv6.
    pub const ICMP: u32 = 1;

    /// Services under `full-nat`, and the replies of their backends.
    pub const NAT: u32 = 2;

    /// Frames with VLAN tags.
    pub const VLAN: u32 = 3;
    /// Fragments.
    pub const FRAGMENT: u32 = 4;

    /// The programs' names in the object, each at its index in `WAYS`.
    pub const PROGRAMS: [&str; 5] = ["xlb_odd", "xlb_icmp", "xlb_nat", "xlb_vlan", "xlb_fragment"];
}

/// Names of the read-only globals that the agent sets when it loads the program.
pub mod global {
    /// `[u64; 2]`: key of the flow hash.
    pub const HASH_KEY: &str = "HASH_KEY";
    /// `u32`: bits of [`super::feature`].
    pub const FEATURES: &str = "FEATURES";
    /// `u32`: entries of `VIPS4` less one.
    pub const VIPS4_MASK: &str = "VIPS4_MASK";
    /// `u32`: entries of `VIPS6` less one.
    pub const VIPS6_MASK: &str = "VIPS6_MASK";
    /// `u32`: entries of `REPLIES4` less one.
    pub const REPLIES4_MASK: &str = "REPLIES4_MASK";
    /// `u32`: entries of `REPLIES6` less one.
    pub const REPLIES6_MASK: &str = "REPLIES6_MASK";
}

/// What a configuration uses. The verifier removes what is left out.
pub mod feature {
    /// Services with an IPv4 VIP.
    pub const IPV4: u32 = 1 << 0;
    /// Services with an IPv6 VIP.
    pub const IPV6: u32 = 1 << 1;
    /// Forwarding by `dnat`, and the way back of its replies.
    pub const DNAT: u32 = 1 << 2;
    /// Forwarding by `l2-dsr`.
    pub const L2_DSR: u32 = 1 << 3;
    /// Forwarding by `ipip`.
    pub const IPIP: u32 = 1 << 4;
    /// Packets may leave by another interface than they came in on.
    pub const REDIRECT: u32 = 1 << 5;
    /// Services that keep a record of every flow.
    pub const TRACKED: u32 = 1 << 6;
    /// Services whose policy decides by connection; with it goes `TRACKED`.
    pub const BY_CONNECTION: u32 = 1 << 7;
    /// Services with an affinity to the client's address.
    pub const CLIENT_IP: u32 = 1 << 8;
    /// Packets may name an alternative backend.
    pub const SECOND_CHANCE: u32 = 1 << 9;
    /// Forwarding by `gue`.
    pub const GUE: u32 = 1 << 10;
    /// Services of this host's own stack.
    pub const LOCAL: u32 = 1 << 11;
    /// Services of SCTP.
    pub const SCTP: u32 = 1 << 12;
    /// Outer headers of another family than the packet within; with it go `IPV4` and `IPV6`.
    pub const MIXED: u32 = 1 << 13;
    /// Forwarding by `full-nat`, and the way back of its replies.
    pub const FULL_NAT: u32 = 1 << 14;
    /// Packets may leave by VLAN devices, with their tag.
    pub const VLAN: u32 = 1 << 15;
    /// Services of several ports or addresses, and backends that take a packet's own port.
    pub const WIDE: u32 = 1 << 16;

    /// Every feature with its name.
    pub const ALL: &[(u32, &str)] = &[
        (IPV4, "ipv4"),
        (IPV6, "ipv6"),
        (DNAT, "dnat"),
        (L2_DSR, "l2-dsr"),
        (IPIP, "ipip"),
        (REDIRECT, "redirect"),
        (TRACKED, "tracked"),
        (BY_CONNECTION, "by-connection"),
        (CLIENT_IP, "client-ip"),
        (SECOND_CHANCE, "second-chance"),
        (GUE, "gue"),
        (LOCAL, "local"),
        (SCTP, "sctp"),
        (MIXED, "mixed"),
        (FULL_NAT, "full-nat"),
        (VLAN, "vlan"),
        (WIDE, "wide"),
    ];

    /// All of them.
    pub const EVERY: u32 = {
        let (mut every, mut rest) = (0, ALL);
        while let [(bit, _), more @ ..] = rest {
            every |= *bit;
            rest = more;
        }
        every
    };
}

/// IP protocol numbers that the program and the agent name (IANA, Assigned Internet Protocol
/// Numbers).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// How a service's packets reach its backends: the byte in [`Service::forward`].
pub mod forward {
    /// Destination rewritten, replies come back.
    pub const DNAT: u8 = 1;
    /// Frame sent to the backend's MAC address.
    pub const L2_DSR: u8 = 2;
    /// Put into an outer IP header of the backend's family.
    pub const IPIP: u8 = 3;
    /// Put into an outer IP header of the backend's family and a UDP header: see [`crate::gue`].
    pub const GUE: u8 = 4;
    /// Passed up to this host's own stack, unchanged; its one backend is the listener here.
    pub const LOCAL: u8 = 5;
    /// Source and destination rewritten, replies come back to the source: see [`crate::nat`].
    pub const FULL_NAT: u8 = 6;
}

/// TTL and hop limit of packets that begin here (RFC 1700).
pub const OWN_TTL: u8 = 64;

/// A service: value of `SERVICES`, by number from 1. Written whole before a VIP names it; after
/// that only `state`, `counter_base` and `sequence_length` change, a store each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Service {
    /// Virtual address, or the first of several; IPv4 in the first four bytes.
    pub vip: [u8; 16],
    /// Virtual port, or the first of several.
    pub port_be: u16,
    /// Transport protocol.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// One of [`forward`].
    pub forward: u8,
    /// Bits of [`service_option`].
    pub options: u8,
    /// Bits that its virtual addresses have in common.
    pub vip_bits: u8,
    /// Zero.
    pub reserved: u8,
    /// First entry of the pool's ring in the arena.
    pub ring_offset: u32,
    /// Slots of the pool's ring.
    pub ring_slots: u32,
    /// Bits of [`service_state`].
    pub state: u32,
    /// Index in `COUNTERS` of the pool's backend at position 0.
    pub counter_base: u32,
    /// Number of the pool in `POOLS`.
    pub pool: u32,
    /// Counters that lie from `counter_base` on. Not read by the program.
    pub counter_capacity: u32,
    /// Its own number, by which its entry of `CURSORS` is found.
    pub number: u32,
    /// Entries of the pool's sequence, which begins in `SEQUENCES` where the ring does in `RING`;
    /// 0: it has none.
    pub sequence_length: u32,
    /// Under `full-nat`: for how long an open connection may be idle, seconds.
    pub idle_s: u32,
    /// The last virtual port.
    pub last_port_be: u16,
    /// Zero.
    pub reserved_end: u16,
}

const _: () = assert!(size_of::<Service>() == 64);

/// Bits of [`Service::options`].
pub mod service_option {
    /// Packets that the tables know nothing of name the backend of the other meaning of their slot
    /// as an alternative.
    pub const SECOND_CHANCE: u8 = 1 << 0;
    /// Fragments go where the hash of their addresses says.
    pub const FRAGMENTS_BY_ADDRESS: u8 = 1 << 1;
    /// It has several ports: replies keep the one that they come from.
    pub const SEVERAL_PORTS: u8 = 1 << 2;
    /// It has several addresses, which have [`super::Service::vip_bits`] in common.
    pub const SEVERAL_ADDRESSES: u8 = 1 << 3;
}

/// Bits of [`Service::state`].
pub mod service_state {
    /// Slots of the ring move: the slot words are read, not the ring.
    pub const MOVING: u32 = 1 << 0;
    /// No backend is well and the service refuses packets.
    pub const REFUSE: u32 = 1 << 1;
    /// Every flow is recorded, moving or not: to this service, every slot counts as marked.
    pub const TRACKED: u32 = 1 << 2;
    /// Backends take turns; with it goes `TRACKED`.
    pub const ROUND_ROBIN: u32 = 1 << 3;
    /// The less loaded of two backends is picked, and connections are counted; with it goes
    /// `TRACKED`.
    pub const LEAST_CONNECTIONS: u32 = 1 << 4;
    /// Connections of a client go to one backend: the hash takes its address only.
    pub const CLIENT_IP: u32 = 1 << 5;

    /// Any of these, and the ring alone does not say where a packet goes.
    pub const NOT_AT_REST: u32 = MOVING | REFUSE | TRACKED;
    /// The policy decides by connection.
    pub const BY_CONNECTION: u32 = ROUND_ROBIN | LEAST_CONNECTIONS;
    /// What the configuration says of how backends are picked.
    pub const POLICY: u32 = TRACKED | BY_CONNECTION | CLIENT_IP;
}

/// A backend: value of `BACKENDS`, by number from 1. The first 64 bytes are the program's, the rest
/// is what an agent must find again after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Backend {
    /// Where frames to it go: [`NextHop`].
    pub next_hop: u64,
    /// Bits of [`crate::maps::backend_flag`].
    pub flags: u16,
    /// Port; 0: under `dnat`, whichever the packet has.
    pub port_be: u16,
    /// Position among its pool's backends, by which its counters are found.
    pub position: u16,
    /// Sum of the words of the outer header that do not change: [`outer_sum`], [`outer_sum6`].
    pub outer_sum: u16,
    /// Address; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// Source of the outer header under encapsulation.
    pub outer_source: [u8; 16],
    /// 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: [u8; 15],
    /// Number of the pool in `POOLS`.
    pub pool: u32,
    /// Weight.
    pub weight: u16,
    /// Bits of [`backend_cause`].
    pub cause: u16,
    /// When it was found down, in seconds of CLOCK_MONOTONIC.
    pub down_since_s: u32,
    /// When its connections are moved although it drains; 0: never.
    pub drain_deadline_s: u32,
    /// When it began to get new connections, in seconds of CLOCK_MONOTONIC, if it takes them up slowly;
    /// 0: it has its whole share.
    pub serving_since_s: u32,
    /// Zero.
    pub reserved_end: [u32; 11],
}

const _: () = assert!(size_of::<Backend>() == 128 && core::mem::offset_of!(Backend, pool) == 64);

/// Sum of the words of an outer IPv4 header that are the same for every packet to a backend, folded
/// to 16 bits; addresses as they stand in memory. TTL and protocol are not among them.
#[must_use]
pub const fn outer_sum(source: [u8; 4], destination: [u8; 4]) -> u16 {
    use crate::{checksum, wire::Ipv4Header};
    checksum::fold(
        u16::from_ne_bytes([Ipv4Header::VERSION_IHL, 0]) as u64
            + checksum::sum32(u32::from_ne_bytes(source))
            + checksum::sum32(u32::from_ne_bytes(destination)),
    )
}

/// Sum of the words of the addresses of an outer IPv6 header, folded to 16 bits, for the checksum of
/// what it carries.
#[must_use]
pub const fn outer_sum6(source: [u8; 16], destination: [u8; 16]) -> u16 {
    use crate::checksum;
    let (mut sum, mut at) = (0, 0);
    while at < 16 {
        sum += u16::from_ne_bytes([source[at], source[at + 1]]) as u64
            + u16::from_ne_bytes([destination[at], destination[at + 1]]) as u64;
        at += 2;
    }
    checksum::fold(sum)
}

/// Bits of [`Backend::flags`].
pub mod backend_flag {
    /// The number is taken.
    pub const USED: u16 = 1 << 0;
    /// Gets no new connections, keeps those that it has.
    pub const DRAIN: u16 = 1 << 1;
    /// Failed its checks.
    pub const DOWN: u16 = 1 << 2;
    /// Has been down for longer than its grace: its connections move.
    pub const DEAD: u16 = 1 << 3;
}

/// Bits of [`Backend::cause`]: why a backend drains.
pub mod backend_cause {
    /// By a command.
    pub const DRAINED: u16 = 1 << 0;
    /// It is no longer configured.
    pub const REMOVED: u16 = 1 << 1;
    /// Taken out by a command.
    pub const DISABLED: u16 = 1 << 2;
    /// Its checks fail, which is not all that `DOWN` may come from, and does not set it while every
    /// backend of the pool fails them.
    pub const FAILING: u16 = 1 << 3;
    /// It was removed with the word that its connections are kept, whatever the pool says.
    pub const KEPT: u16 = 1 << 4;
    /// It was removed with the word that its connections move at once, whatever the pool says.
    pub const DROPPED: u16 = 1 << 5;
}

/// The agent's record of a pool: value of `POOLS`, by number from 1. The program does not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pool {
    /// Name in UTF-8, padded with zeros. All zero: the number is free.
    pub name: [u8; NAME_BYTES],
    /// First entry of its ring in the arena.
    pub ring_offset: u32,
    /// Slots of its ring.
    pub ring_slots: u32,
    /// When the first of the slots that move now was marked, in seconds of CLOCK_MONOTONIC; 0: the
    /// pool is at rest.
    pub moving_since_s: u32,
    /// Zero.
    pub reserved: [u32; 13],
}

const _: () = assert!(size_of::<Pool>() == 128);

/// Traffic of an attachment of a backend to a service, on one CPU: value of `COUNTERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AttachmentCounters {
    /// Packets sent to the backend.
    pub packets: u64,
    /// Bytes of their frames as received.
    pub bytes: u64,
    /// Packets among them that open a connection of TCP or an association of SCTP.
    pub connections: u64,
    /// Replies of the backend.
    pub reply_packets: u64,
    /// Bytes of their frames as received.
    pub reply_bytes: u64,
    /// Zero: fills a power of two, so that the program finds an entry by a shift.
    pub reserved: [u64; 3],
}

const _: () = assert!(size_of::<AttachmentCounters>() == 64);

impl AttachmentCounters {
    /// All of them, in the order in which they stand.
    #[must_use]
    pub const fn words(&self) -> [u64; 8] {
        let [a, b, c] = self.reserved;
        [
            self.packets,
            self.bytes,
            self.connections,
            self.reply_packets,
            self.reply_bytes,
            a,
            b,
            c,
        ]
    }
}

/// What the program tells the agent through `EVENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// One of [`event`].
    pub kind: u32,
    /// The kernel's number of the interface that it is about.
    pub ifindex: u32,
    /// Address that it is about; IPv4 in the first four bytes.
    pub address: [u8; 16],
    /// 4 or 6.
    pub family: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Event>() == 32);

/// Kinds of [`Event`].
pub mod event {
    /// A reply's next hop on an interface has no known MAC address.
    pub const NEIGHBOUR_MISSING: u32 = 1;
}
