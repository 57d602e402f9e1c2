//! What the decapsulation program on a backend and its agent share: names, keys and values of its
//! maps, its reasons, and the rule of ECN. This is its pinned layout; see [`LAYOUT_VERSION`].

pub mod ecn;
mod reason;

pub use reason::Reason;

/// Version of the layout, and the name of its directory below [`DIRECTORY`].
pub const LAYOUT_VERSION: &str = "v1";

/// Directory of the backend's pins below the pin directory.
pub const DIRECTORY: &str = "backend";

/// The program's name in its object.
pub const PROGRAM: &str = "xlb_decap";

/// Names of the maps, as they are in the object and in the pin directory.
pub mod name {
    /// LPM trie: IPv4 prefix of balancers -> 1.
    pub const BALANCERS4: &str = "BALANCERS4";
    /// LPM trie: IPv6 prefix of balancers -> 1.
    pub const BALANCERS6: &str = "BALANCERS6";
    /// Hash: IPv4 address, as it stands in memory -> bits of [`super::vip_flag`].
    pub const LOCAL_VIPS4: &str = "LOCAL_VIPS4";
    /// Hash: IPv6 address, as it stands in memory -> bits of [`super::vip_flag`].
    pub const LOCAL_VIPS6: &str = "LOCAL_VIPS6";
    /// LPM trie: IPv4 prefix of backends that packets may be passed on to -> 1.
    pub const PEERS4: &str = "PEERS4";
    /// LPM trie: IPv6 prefix of backends that packets may be passed on to -> 1.
    pub const PEERS6: &str = "PEERS6";
    /// Hash: IPv4 address of such a backend, as it stands in memory -> [`super::Hop`].
    pub const ALTERNATIVES4: &str = "ALTERNATIVES4";
    /// Hash: IPv6 address of such a backend, as it stands in memory -> [`super::Hop`].
    pub const ALTERNATIVES6: &str = "ALTERNATIVES6";
    /// Ring buffer of [`crate::maps::Event`]: an alternative whose hop is not known.
    pub const DECAP_EVENTS: &str = "DECAP_EVENTS";
    /// Per-CPU array: packets by reason.
    pub const DECAP_REASONS: &str = "DECAP_REASONS";
    /// Array, not read by the program: a [`super::Sysctl`] for each of the kernel's parameters that
    /// the agent may set.
    pub const SYSCTLS: &str = "SYSCTLS";
}

/// Bits of the values of `LOCAL_VIPS4` and `LOCAL_VIPS6`. The program only looks whether a VIP is
/// there; these are for the agent.
pub mod vip_flag {
    /// The VIP is one of the configuration's.
    pub const USED: u32 = 1 << 0;
    /// The agent puts the VIP on the loopback interface, and takes it off again.
    pub const ADDED: u32 = 1 << 1;
}

/// The way to another backend: value of `ALTERNATIVES4` and `ALTERNATIVES6`. MAC addresses are
/// split as in [`crate::wire::EthernetHeader`], so that they load at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Hop {
    /// First four bytes of the MAC address that frames are sent to.
    pub destination_high: u32,
    /// First four bytes of the MAC address of the interface.
    pub source_high: u32,
    /// Last two bytes of the MAC address that frames are sent to.
    pub destination_low: u16,
    /// Last two bytes of the MAC address of the interface.
    pub source_low: u16,
    /// The kernel's number of the interface that they leave by.
    pub ifindex: u32,
}

const _: () = assert!(size_of::<Hop>() == 16);

impl Hop {
    /// The way to `destination` by the interface `ifindex`, which has the address `source`.
    #[must_use]
    pub const fn new(destination: [u8; 6], source: [u8; 6], ifindex: u32) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        Self {
            destination_high: u32::from_ne_bytes([a, b, c, d]),
            source_high: u32::from_ne_bytes([g, h, i, j]),
            destination_low: u16::from_ne_bytes([e, f]),
            source_low: u16::from_ne_bytes([k, l]),
            ifindex,
        }
    }

    /// The MAC address that frames are sent to.
    #[must_use]
    pub const fn destination(&self) -> [u8; 6] {
        let [a, b, c, d] = self.destination_high.to_ne_bytes();
        let [e, f] = self.destination_low.to_ne_bytes();
        [a, b, c, d, e, f]
    }
}

/// A parameter of the kernel that the agent may have set: value of `SYSCTLS`. It stands among the
/// pins since it lives as long as they do: a reboot ends both the parameter and this record of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sysctl {
    /// 1: the agent has set it.
    pub is_set: u32,
    /// What it was before.
    pub former: u32,
}

const _: () = assert!(size_of::<Sysctl>() == 8);

/// Entries of `SYSCTLS`.
pub const SYSCTLS_MAX: u32 = 8;
