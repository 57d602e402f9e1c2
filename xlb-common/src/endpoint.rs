//! Tables from an endpoint (address, port, protocol) to a service: open addressing in an array.
//!
//! A generic hash map of the kernel's takes about 35 ns a lookup, such a table about 3. The program
//! reads it while the agent writes it, so an entry goes through these steps: the key is written
//! while `service` is 0, then `service` in one store; it is removed by `service` = 0, which leaves a
//! grave that lookups step over, and its place is used again for another key only after a grace
//! period.

use core::net::{IpAddr, SocketAddr};

use crate::{flow::words6, limits::ENDPOINT_PROBES};

/// Key of an endpoint with an IPv4 address, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Endpoint4(pub u64);

/// Marks a key as one, so that no key is 0.
const KEY_USED: u64 = 1 << 63;

impl Endpoint4 {
    /// `address` and `port_be` as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(address_be: u32, port_be: u16, protocol: u8) -> Self {
        Self(KEY_USED | (protocol as u64) << 48 | (port_be as u64) << 32 | address_be as u64)
    }

    /// Place at which a lookup begins, before the table's mask.
    #[inline(always)]
    #[must_use]
    pub const fn home(self) -> u32 {
        mix(self.0)
    }
}

/// Key of an endpoint with an IPv6 address; `port_protocol` is never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Endpoint6 {
    /// Address, as it stands in the packet.
    pub address: [u64; 2],
    /// Port, protocol, and a mark that makes it non-zero.
    pub port_protocol: u32,
}

impl Endpoint6 {
    /// `address` and `port_be` as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: [u64; 2], port_be: u16, protocol: u8) -> Self {
        Self {
            address,
            port_protocol: 1 << 31 | (protocol as u32) << 16 | port_be as u32,
        }
    }

    /// Place at which a lookup begins, before the table's mask.
    #[inline(always)]
    #[must_use]
    pub const fn home(self) -> u32 {
        mix(self.address[0] ^ self.address[1].rotate_left(29) ^ ((self.port_protocol as u64) << 20))
    }
}

/// Key of an endpoint of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKey {
    /// Its address is of IPv4.
    V4(Endpoint4),
    /// Its address is of IPv6.
    V6(Endpoint6),
}

impl EndpointKey {
    /// The key of an endpoint of a protocol.
    #[must_use]
    pub fn of(at: SocketAddr, protocol: u8) -> Self {
        let port_be = at.port().to_be();
        match at.ip() {
            IpAddr::V4(address) => {
                let address_be = u32::from_ne_bytes(address.octets());
                Self::V4(Endpoint4::new(address_be, port_be, protocol))
            }
            IpAddr::V6(address) => Self::V6(Endpoint6::new(words6(address), port_be, protocol)),
        }
    }
}

#[inline(always)]
const fn mix(word: u64) -> u32 {
    let word = (word ^ (word >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> 40) as u32
}

/// What an endpoint stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct EndpointTarget {
    /// Number of the service in `SERVICES`, [`EndpointTarget::ADDRESS_ONLY`], or 0: nothing.
    pub service: u32,
    /// Number of the backend, in the tables of replies.
    pub backend: u16,
    /// Zero.
    pub reserved: u16,
}

impl EndpointTarget {
    /// Stands for an address that is a VIP, whatever the port; such an entry has port and
    /// protocol 0.
    pub const ADDRESS_ONLY: u32 = u32::MAX;
}

/// Value of `VIPS4` and `REPLIES4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry4 {
    /// [`Endpoint4`], or 0: the entry was never used, and a lookup ends here.
    pub key: u64,
    /// What it stands for.
    pub target: EndpointTarget,
}

const _: () = assert!(size_of::<Entry4>() == 16);

/// Value of `VIPS6` and `REPLIES6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry6 {
    /// Key; `port_protocol` 0: the entry was never used, and a lookup ends here.
    pub key: Endpoint6,
    /// What it stands for.
    pub target: EndpointTarget,
}

const _: () = assert!(size_of::<Entry6>() == 32 && core::mem::offset_of!(Entry6, target) == 24);

/// What the two kinds of table entries have in common.
pub trait Entry: Copy + Default + PartialEq {
    /// The entry's kind of key.
    type Key: Copy + Eq;
    /// The key's home, before the mask.
    fn home(key: Self::Key) -> u32;
    /// The key, if the entry was ever used.
    fn key(&self) -> Option<Self::Key>;
    /// Whether the entry has this key.
    fn is(&self, key: Self::Key) -> bool;
    /// What the entry stands for.
    fn target(&self) -> EndpointTarget;
    /// An entry of these parts.
    fn new(key: Self::Key, target: EndpointTarget) -> Self;
}

impl Entry for Entry4 {
    type Key = Endpoint4;
    #[inline(always)]
    fn home(key: Endpoint4) -> u32 {
        key.home()
    }
    #[inline(always)]
    fn key(&self) -> Option<Endpoint4> {
        if self.key == 0 {
            None
        } else {
            Some(Endpoint4(self.key))
        }
    }
    #[inline(always)]
    fn is(&self, key: Endpoint4) -> bool {
        self.key == key.0
    }
    #[inline(always)]
    fn target(&self) -> EndpointTarget {
        self.target
    }
    fn new(key: Endpoint4, target: EndpointTarget) -> Self {
        Self { key: key.0, target }
    }
}

impl Entry for Entry6 {
    type Key = Endpoint6;
    #[inline(always)]
    fn home(key: Endpoint6) -> u32 {
        key.home()
    }
    #[inline(always)]
    fn key(&self) -> Option<Endpoint6> {
        if self.key.port_protocol == 0 {
            None
        } else {
            Some(self.key)
        }
    }
    #[inline(always)]
    fn is(&self, key: Endpoint6) -> bool {
        self.key.port_protocol == key.port_protocol
            && self.key.address[0] == key.address[0]
            && self.key.address[1] == key.address[1]
    }
    #[inline(always)]
    fn target(&self) -> EndpointTarget {
        self.target
    }
    fn new(key: Endpoint6, target: EndpointTarget) -> Self {
        Self { key, target }
    }
}

/// Looks a key up. `at` reads the entry at an index, or gives `None` past the table's end; `mask` is
/// the number of entries less one.
#[inline(always)]
pub fn find<'a, E: Entry + 'a>(
    key: E::Key,
    mask: u32,
    at: impl Fn(u32) -> Option<&'a E>,
) -> Option<EndpointTarget> {
    let home = E::home(key);
    let mut probe = 0;
    while probe < ENDPOINT_PROBES {
        let entry = at(home.wrapping_add(probe) & mask)?;
        if entry.is(key) {
            let target = entry.target();
            return if target.service == 0 {
                None
            } else {
                Some(target)
            };
        }
        entry.key()?;
        probe += 1;
    }
    None
}
