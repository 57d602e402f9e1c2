//! Where a frame goes next, in one word.

/// The next hop of a packet: its MAC address and the index in `EGRESS` of the interface that leads
/// there. One aligned word, so that the program never sees half of a change. 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct NextHop(pub u64);

impl NextHop {
    /// Not known.
    pub const NONE: Self = Self(0);

    /// In the tables of routes: the address is this host's own, and the packet is for it.
    pub const LOCAL: Self = Self(u64::MAX);

    /// A next hop by its MAC address, through the interface at `egress` (never 0).
    #[must_use]
    pub const fn new(mac: [u8; 6], egress: u16) -> Self {
        let [a, b, c, d, e, f] = mac;
        let [low, high] = egress.to_le_bytes();
        Self(u64::from_le_bytes([a, b, c, d, e, f, low, high]))
    }

    /// Whether it is known.
    #[inline(always)]
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// First four bytes of the MAC address, as they stand in memory.
    #[inline(always)]
    #[must_use]
    pub const fn mac_high(self) -> u32 {
        self.0 as u32
    }

    /// Last two bytes of the MAC address, as they stand in memory.
    #[inline(always)]
    #[must_use]
    pub const fn mac_low(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// MAC address.
    #[inline(always)]
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Index in `EGRESS`.
    #[inline(always)]
    #[must_use]
    pub const fn egress(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// An interface that packets leave by: the value of `EGRESS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Egress {
    /// MAC address, the source of frames that leave.
    pub mac: [u8; 6],
    /// Largest IP packet that it takes, in bytes; 0: not known, and nothing fits in an outer header.
    pub mtu: u16,
    /// The kernel's number of the interface; of a VLAN device that of the one that it is on top of. 0:
    /// the entry is not used.
    pub ifindex: u32,
    /// The VLAN tag that frames leave with, as it stands in memory: see [`vlan_tag`]. 0: none.
    pub tag: u32,
}

const _: () = assert!(size_of::<Egress>() == 16);

/// The tag of a VLAN device, as it stands in memory: its type and its VLAN, of priority 0.
#[must_use]
pub const fn vlan_tag(ether_type: u16, vlan: u16) -> u32 {
    let ([a, b], [c, d]) = (ether_type.to_be_bytes(), vlan.to_be_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// The VLAN of such a tag, if there is one.
#[must_use]
pub const fn vlan_of(tag: u32) -> Option<u16> {
    let [_, _, c, d] = tag.to_ne_bytes();
    match tag {
        0 => None,
        _ => Some(u16::from_be_bytes([c, d]) & 0x0fff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let hop = NextHop::new([2, 0, 0, 1, 2, 3], 7);
        assert_eq!((hop.mac(), hop.egress()), ([2, 0, 0, 1, 2, 3], 7));
        assert_eq!(hop.mac_high().to_le_bytes(), [2, 0, 0, 1]);
        assert_eq!(hop.mac_low().to_le_bytes(), [2, 3]);
        assert!(hop.is_known() && !NextHop::NONE.is_known());
    }

    #[test]
    fn a_tag_stands_as_on_the_wire() {
        let tag = vlan_tag(0x88a8, 0x0abc);
        assert_eq!(tag.to_ne_bytes(), [0x88, 0xa8, 0x0a, 0xbc]);
        assert_eq!((vlan_of(tag), vlan_of(0)), (Some(0x0abc), None));
    }
}
