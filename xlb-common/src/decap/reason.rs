//! Why a packet left the decapsulation program.

crate::reason::reasons! {
    /// Taken out of its outer header, and given to the host.
    Delivered = "delivered", Pass;
    /// Named an alternative, and was given to this host: it has the packet's socket, or there is
    /// nothing to look for.
    FirstChoice = "first-choice", Pass;
    /// Named an alternative, and was passed on to it: this host does not have the packet's socket.
    PassedOn = "passed-on", Tx;
    /// Named an alternative that is none of the peers, and was given to this host.
    UnknownPeer = "unknown-peer", Pass;
    /// To be passed on, but the way to the alternative is not known yet; the agent was told.
    PeerUnresolved = "peer-unresolved", Drop;
    /// To be passed on, but its TTL or hop limit ended here.
    TtlExpired = "ttl-expired", Drop;
    /// Neither IPv4 nor IPv6, or not encapsulated: none of this program's business.
    NotEncapsulated = "not-encapsulated", Pass;
    /// Its IP header is incomplete or of another version; for the host to judge.
    BadHeader = "bad-header", Pass;
    /// Encapsulated by somebody who is not among the configured balancers.
    UnknownSource = "unknown-source", Drop;
    /// Encapsulated, and not for a configured VIP.
    UnknownVip = "unknown-vip", Drop;
    /// Its outer IPv4 header has options, which no balancer writes.
    OuterOptions = "outer-options", Drop;
    /// Fragmented after it was encapsulated: the path between balancer and backend has a smaller
    /// MTU than the balancer thinks.
    OuterFragment = "outer-fragment", Drop;
    /// The checksum of its outer IPv4 header is wrong.
    OuterChecksum = "outer-checksum", Drop;
    /// Encapsulated, and shorter than its headers say.
    Truncated = "truncated", Drop;
    /// What is encapsulated is no packet of the family that the outer header says.
    BadInner = "bad-inner", Drop;
    /// In a tunnel of UDP whose header is not of the variant that balancers send.
    GueVariant = "gue-variant", Drop;
    /// A router marked congestion on the outer header of a packet whose sender does not understand
    /// it, so that a drop has to tell it (RFC 6040, section 4.2).
    CongestionDrop = "congestion-drop", Drop;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index() as usize, index);
            let same = |other: &&Reason| other.name() == reason.name();
            assert_eq!(Reason::ALL.iter().filter(same).count(), 1);
        }
    }
}
