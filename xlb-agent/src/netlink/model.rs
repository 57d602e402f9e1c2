//! What the kernel's tables hold, and the steps that they change by.

use std::net::IpAddr;

use super::NeighbourKey;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it, which a change of name leaves alone.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Up by its administrator and running (RFC 2863).
    pub up: bool,
    /// Largest payload of a frame, in bytes.
    pub mtu: u32,
    /// What it is on top of and with which tag, if it is a VLAN device.
    pub vlan: Option<Vlan>,
}

/// What a VLAN device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// The interface that it is on top of.
    pub parent: u32,
    /// EtherType of its tag: 0x8100 or 0x88a8.
    pub ether_type: u16,
    /// Its VLAN.
    pub id: u16,
}

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface that it is on.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
    /// Whether new packets to other hosts may take it as their source: of global scope, and not
    /// secondary, tentative, deprecated or found to be a duplicate.
    pub preferred: bool,
}

/// The routing tables that are looked at, in the kernel's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Table 255: this host's own addresses, broadcast and multicast.
    Local,
    /// Table 254.
    Main,
}

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Takes it in: the destination is this host.
    Local,
    /// Broadcast, anycast or multicast.
    NotUnicast,
    /// Drops it in silence.
    Blackhole,
    /// Answers that the host is unreachable.
    Unreachable,
    /// Answers that it is prohibited.
    Prohibit,
    /// Ends the lookup in this table.
    Throw,
}

/// One way of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface that it leaves by.
    pub ifindex: u32,
    /// The router's address; none when the destination is on the link. May be IPv6 under an IPv4
    /// route (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The kernel has marked it dead.
    pub dead: bool,
    /// It wraps packets (a light-weight tunnel), which a MAC address alone cannot stand for.
    pub encapsulates: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The table that it stands in.
    pub table: Table,
    /// First address of its prefix.
    pub prefix: IpAddr,
    /// Length of the prefix in bits.
    pub prefix_len: u8,
    /// Its metric; the smallest wins.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// The source address that it names.
    pub prefsrc: Option<IpAddr>,
    /// Its ways; more than one under multipath; none when it only names a next-hop object.
    pub hops: Vec<Hop>,
}

/// State of a neighbour (RFC 4861 section 7.3.2, and the kernel's own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Nothing has been asked yet.
    None,
    /// Asked, and no answer yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Known, not confirmed for a while.
    Stale,
    /// In use, about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    Noarp,
    /// Set by the administrator.
    Permanent,
}

impl NeighbourState {
    /// Whether packets may be sent to the hardware address that the entry holds.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::Permanent
            | Self::Noarp
            | Self::Reachable
            | Self::Stale
            | Self::Delay
            | Self::Probe => true,
            Self::None | Self::Incomplete | Self::Failed => false,
        }
    }
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its state.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The hardware address, if packets may be sent to it.
    #[must_use]
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state.is_usable())
    }
}

/// One step from the kernel's tables of a moment ago to those of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link is new or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new.
    Route {
        /// The route.
        route: Route,
        /// It takes the place of the one with the same prefix and metric.
        replaces: bool,
        /// It comes after those with the same prefix and metric, not before.
        appends: bool,
    },
    /// A route is gone.
    RouteGone(Route),
    /// A neighbour is new or has changed.
    Neighbour(NeighbourKey, Neighbour),
    /// A neighbour is gone.
    NeighbourGone(NeighbourKey),
}

impl Change {
    /// Whether routes may have changed in ways that the kernel does not tell. IPv4 routes of a
    /// link that goes down, or of a source address that goes, vanish without a message; replacing
    /// and appending is told in ways that differ between the families. After such a change the
    /// routes are read again; what [`Tables::apply`](super::Tables::apply) made of it only bridges the time until then.
    #[must_use]
    pub fn leaves_routes_in_doubt(&self) -> bool {
        match self {
            Self::Link(_)
            | Self::LinkGone(_)
            | Self::AddressGone(_)
            | Self::Route { .. }
            | Self::RouteGone(_) => true,
            Self::Address(_) | Self::Neighbour(..) | Self::NeighbourGone(_) => false,
        }
    }
}
