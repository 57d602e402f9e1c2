//! What stands between an outer IP header and the packet that it carries.

use xlb_common::wire::UdpHeader;

/// A form of encapsulation.
pub trait Tunnel {
    /// Bytes between the outer IP header and the packet.
    const BYTES: usize;
    /// Whether these are a UDP header; otherwise there are none.
    const IS_UDP: bool = Self::BYTES != 0;
}

/// The packet follows the outer IP header (RFC 2003, RFC 2473).
pub struct Ipip;

impl Tunnel for Ipip {
    const BYTES: usize = 0;
}

/// A UDP header stands between: see [`xlb_common::gue`].
pub struct Gue;

impl Tunnel for Gue {
    const BYTES: usize = size_of::<UdpHeader>();
}
