//! Why a packet left the program.

/// What the kernel is told to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes on into the host's network stack, untouched.
    Pass,
    /// Is dropped.
    Drop,
    /// Leaves by the interface that it came in on.
    Tx,
    /// Leaves by another interface.
    Redirect,
}

impl Action {
    /// The name that the CLI and the metrics print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Tx => "tx",
            Self::Redirect => "redirect",
        }
    }
}

/// Entries of the maps that count reasons: more than there are, so that a new one, at the end of its
/// list, is no other layout.
pub const REASONS_MAX: u32 = 128;

/// Makes the enum of a program's reasons: each has a name, the text of it, and an action.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $action:ident;)+) => {
        /// Why a packet left the program. The number is the index of its counter in `REASONS`, the
        /// name is what the CLI and the metrics print.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The name that the CLI and the metrics print.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)+ }
            }

            /// What becomes of the packet.
            #[inline(always)]
            #[must_use]
            pub const fn action(self) -> $crate::reason::Action {
                match self {
                    $(Reason::$name => $crate::reason::Action::$action,)+
                }
            }

            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// Index of the reason's counter.
            #[inline(always)]
            #[must_use]
            pub const fn index(self) -> u32 {
                self as u32
            }
        }

        const _: () = assert!(Reason::COUNT <= $crate::reason::REASONS_MAX as usize);
    };
}

pub(crate) use reasons;

reasons! {
    /// Sent to a backend by the interface that it came in on. Counted by attachment.
    Transmitted = "transmitted", Tx;
    /// Sent to a backend by another interface. Counted by attachment.
    Redirected = "redirected", Redirect;
    /// Neither IPv4 nor IPv6.
    NotIp = "not-ip", Pass;
    /// To an address and port that no service has.
    NotForService = "not-for-service", Pass;
    /// From a backend to this host itself, as the answers to its health checks are.
    ReplyToHost = "reply-to-host", Pass;
    /// An ICMP or ICMPv6 echo request to a VIP, answered here.
    EchoReply = "echo-reply", Tx;
    /// ICMP or ICMPv6 to a VIP other than an echo request and an error about a flow: for the host.
    IcmpOther = "icmp-other", Pass;
    /// Another protocol than TCP, UDP and ICMP.
    OtherProtocol = "other-protocol", Pass;
    /// To a VIP, and shorter than its headers say.
    Truncated = "truncated", Drop;
    /// Its IP header is incomplete or of another version; for the host to judge.
    BadHeader = "bad-header", Pass;
    /// IPv4 to a VIP with options that don't add up.
    BadOptions = "bad-options", Drop;
    /// IPv6 to a VIP with more or longer extension headers than are looked through, or with one that
    /// must not stand where it does.
    ExtensionHeader = "extension-header", Drop;
    /// A fragment to a VIP of a datagram whose first fragment was not seen, or long ago.
    Fragment = "fragment", Drop;
    /// Its TTL or hop limit ended here.
    TtlExpired = "ttl-expired", Drop;
    /// The service's slot names no backend.
    NoBackend = "no-backend", Drop;
    /// Every backend is down and the service says `all_down = "drop"`.
    AllDown = "all-down", Drop;
    /// The backend's next hop has no known MAC address.
    BackendUnresolved = "backend-unresolved", Drop;
    /// A reply whose next hop is not known; the agent was told.
    ClientUnresolved = "client-unresolved", Drop;
    /// A reply whose route leaves by an interface that xlb does not use.
    ClientUnroutable = "client-unroutable", Drop;
    /// With its outer header it is larger than the interface takes, and its sender was not told: it
    /// may be fragmented, or was told of others just now.
    TooBig = "too-big", Drop;
    /// The driver left no room for an outer header.
    NoHeadroom = "no-headroom", Drop;
    /// A new connection for which a full table had no room while its slot moves.
    FlowTableFull = "flow-table-full", Drop;
    /// A map lacks what another map says it has: the agent is in the middle of a change, or wrong.
    Inconsistent = "inconsistent", Drop;
    /// A new connection went to its slot's older backend, since the flow table was full. Counted
    /// besides the packet's own end.
    FlowTableFullToStable = "flow-table-full-to-stable", Pass;
    /// Sent to its slot's older backend with the newer one as the alternative, counted besides the
    /// packet's own end.
    SecondChance = "second-chance", Pass;
    /// A lookup of the kernel's routes for a reply, counted besides the packet's own end.
    FibLookup = "fib-lookup", Pass;
    /// A lookup in the tables of flows, of a packet whose slot is marked or whose service tracks
    /// flows, counted besides the packet's own end. At rest there is none.
    TableLookup = "table-lookup", Pass;
    /// An ICMP error about a flow, sent to where the flow's own packets come from. Counted besides
    /// the packet's own end.
    IcmpError = "icmp-error", Pass;
    /// A packet of a client that is too big for its outer header, answered by what size would fit.
    TooBigAnswered = "too-big-answered", Tx;
    /// A router's word on the way to a backend that an encapsulated packet is too big, passed on to
    /// the client.
    TunnelTooBig = "tunnel-too-big", Tx;
    /// The program that its way goes on in was not there, which is never so while all is well.
    WayMissing = "way-missing", Drop;
    /// To a service of this host's own stack. Counted by attachment as well.
    Local = "local", Pass;
    /// A TCP segment of a connection under `full-nat` that is not known here, and opens none; or a
    /// reply of a backend that the connection has left.
    NatUnknown = "nat-unknown", Drop;
    /// A new connection under `full-nat` for which no source port was found.
    NatExhausted = "nat-exhausted", Drop;
    /// A packet of a flow for which another CPU was finding a source port just then.
    NatRaced = "nat-raced", Drop;
    /// To a VIP with a list of hosts to visit: a source route of IPv4, or a routing header.
    SourceRoute = "source-route", Drop;
    /// In more than two VLAN tags; for the host to judge.
    TooManyTags = "too-many-tags", Pass;
    /// A first fragment to a VIP without the whole transport header (RFC 1858, RFC 7112).
    FragmentTiny = "fragment-tiny", Drop;
    /// A fragment that was seen before, or overlaps with others of its datagram or contradicts their
    /// end; or any other of a datagram that had such a one (RFC 3128, RFC 5722).
    FragmentOverlap = "fragment-overlap", Drop;
    /// A fragment to a VIP that ends where none may end (RFC 8200, section 4.5).
    FragmentLength = "fragment-length", Drop;
    /// A fragment of a datagram of which too many pieces came apart from one another.
    FragmentScattered = "fragment-scattered", Drop;
}

impl Reason {
    /// Whether the reason is an event on a packet's way rather than its end.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(
            self,
            Self::FlowTableFullToStable
                | Self::SecondChance
                | Self::FibLookup
                | Self::TableLookup
                | Self::IcmpError
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index() as usize, index);
            assert_eq!(
                Reason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count(),
                1
            );
        }
    }
}
