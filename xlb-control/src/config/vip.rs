//! Where a service takes packets in: virtual addresses and ports.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The virtual address of a service, or a prefix of such addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vip(IpNet);

impl Vip {
    /// All addresses of a prefix.
    #[must_use]
    pub fn new(prefix: IpNet) -> Self {
        Self(prefix.trunc())
    }

    /// The address, or the first of them.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.addr()
    }

    /// The address, or the last of them.
    #[must_use]
    pub fn last(self) -> IpAddr {
        self.0.broadcast()
    }

    /// Bits that the addresses have in common.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether it is one address.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.bits() == self.0.max_prefix_len()
    }

    /// Whether it has so few addresses that each can be dealt with: 256 at most.
    #[must_use]
    pub fn is_narrow(self) -> bool {
        self.0.max_prefix_len() - self.bits() <= 8
    }

    /// All addresses, if it is narrow; otherwise the first 256.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let count = if self.is_narrow() {
            1_u16 << (self.0.max_prefix_len() - self.bits())
        } else {
            256
        };
        let first = self.address();
        (0..count).map(move |next| match first {
            IpAddr::V4(it) => IpAddr::V4(Ipv4Addr::from_bits(it.to_bits() + u32::from(next))),
            IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() + u128::from(next))),
        })
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        self.address().is_ipv4()
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub fn is_ipv6(self) -> bool {
        !self.is_ipv4()
    }

    /// Whether an address is it, or one of them.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The same with fewer bits in common.
    #[must_use]
    pub fn within(self, bits: u8) -> Option<Self> {
        IpNet::new(self.address(), bits).ok().map(Self::new)
    }
}

impl From<IpAddr> for Vip {
    fn from(address: IpAddr) -> Self {
        Self(address.into())
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() {
            f.pad(&self.address().to_string())
        } else {
            f.pad(&self.0.to_string())
        }
    }
}

/// A text is neither an address nor a prefix without further bits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is neither an address nor a prefix of addresses, such as `192.0.2.10` or `192.0.2.0/28`"
)]
pub struct NoVip(String);

impl FromStr for Vip {
    type Err = NoVip;

    fn from_str(text: &str) -> Result<Self, NoVip> {
        let no_vip = || NoVip(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let prefix: IpNet = text.parse().map_err(|_| no_vip())?;
        if prefix.trunc() == prefix {
            Ok(Self(prefix))
        } else {
            Err(no_vip())
        }
    }
}

impl Serialize for Vip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Vip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Ports: one, a range, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// How narrowly ports are named: the greater, the more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// All ports.
    All,
    /// A range.
    Range,
    /// One port.
    One,
}

impl Ports {
    /// All of them.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// A range; `None` if it ends before it begins.
    #[must_use]
    pub const fn range(first: u16, last: u16) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The first of them.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last of them.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn one(self) -> Option<u16> {
        if self.first == self.last {
            Some(self.first)
        } else {
            None
        }
    }

    /// How narrowly they are named.
    #[must_use]
    pub fn specificity(self) -> Specificity {
        if self == Self::ALL {
            Specificity::All
        } else if self.first == self.last {
            Specificity::One
        } else {
            Specificity::Range
        }
    }

    /// Whether a port is among them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether both have a port.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The fewest prefixes of 16 bits that have all of them and no other: first port and bits.
    #[must_use]
    pub fn prefixes(self) -> Vec<(u16, u8)> {
        let (mut first, last) = (u32::from(self.first), u32::from(self.last));
        let mut prefixes = Vec::new();
        while first <= last {
            let mut free_bits = first.trailing_zeros().min(16);
            while first + (1 << free_bits) - 1 > last {
                free_bits -= 1;
            }
            if let (Ok(port), Ok(bits)) = (u16::try_from(first), u8::try_from(16 - free_bits)) {
                prefixes.push((port, bits));
            }
            first += 1 << free_bits;
        }
        prefixes
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.specificity() {
            Specificity::All => f.pad("all"),
            Specificity::One => f.pad(&self.first.to_string()),
            Specificity::Range => f.pad(&format!("{}-{}", self.first, self.last)),
        }
    }
}

/// A text names no ports.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no port: write one from 1 to 65535, a range such as `8000-8999`, or `all`")]
pub struct NoPorts(String);

impl FromStr for Ports {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
        let ports = if text == "all" {
            Some(Self::ALL)
        } else if let Some((first, last)) = text.split_once('-') {
            port(first)
                .zip(port(last))
                .and_then(|(first, last)| Self::range(first, last))
        } else {
            port(text).map(Self::from)
        };
        ports.ok_or_else(|| NoPorts(text.to_owned()))
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.one() {
            Some(port) => serializer.serialize_u16(port),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(u16),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::One(port) => Ok(port.into()),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// Addresses and ports together: `192.0.2.10:443`, `192.0.2.0/28:8000-8999`, `[2001:db8::10]:all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// Addresses.
    pub vip: Vip,
    /// Ports.
    pub ports: Ports,
}

impl At {
    /// Whether it is one address and one port.
    #[must_use]
    pub fn is_one(self) -> bool {
        self.vip.is_one() && self.ports.one().is_some()
    }

    /// Whether an endpoint is there.
    #[must_use]
    pub fn contains(self, endpoint: SocketAddr) -> bool {
        self.vip.contains(endpoint.ip()) && self.ports.contains(endpoint.port())
    }

    /// What decides among several that contain an endpoint, the greatest first of all: the longest
    /// prefix of addresses, and among those of one length the narrowest ports.
    #[must_use]
    pub fn specificity(self) -> (u8, Specificity) {
        (self.vip.bits(), self.ports.specificity())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.vip.is_ipv4() {
            f.pad(&format!("{}:{}", self.vip, self.ports))
        } else {
            f.pad(&format!("[{}]:{}", self.vip, self.ports))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(vip: &str, ports: &str) -> At {
        At {
            vip: vip.parse().unwrap(),
            ports: ports.parse().unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for (vip, ports, text) in [
            ("192.0.2.10", "443", "192.0.2.10:443"),
            ("192.0.2.0/28", "8000-8999", "192.0.2.0/28:8000-8999"),
            ("2001:db8::10", "all", "[2001:db8::10]:all"),
            ("2001:db8::/64", "53", "[2001:db8::/64]:53"),
        ] {
            let at = at(vip, ports);
            assert_eq!(at.to_string(), text);
            let json = serde_json::to_string(&(at.vip, at.ports)).unwrap();
            let again: (Vip, Ports) = serde_json::from_str(&json).unwrap();
            assert_eq!(again, (at.vip, at.ports), "{json}");
        }
        assert_eq!(serde_json::to_string(&Ports::from(443)).unwrap(), "443");
        for wrong in ["", "0", "65536", "9-8", "0-9", "1-", "any", "-5"] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
        assert!("192.0.2.1/28".parse::<Vip>().is_err());
    }

    #[test]
    fn prefixes_have_the_ports_of_a_range_and_no_others() {
        assert_eq!(Ports::ALL.prefixes(), [(0, 0)]);
        assert_eq!(Ports::from(443).prefixes(), [(443, 16)]);
        for (first, last) in [
            (1, 65_535),
            (8000, 8999),
            (7, 8),
            (32_768, 65_535),
            (1, 65_534),
        ] {
            let ports = Ports::range(first, last).unwrap();
            let mut next = u32::from(first);
            for (port, bits) in ports.prefixes() {
                assert_eq!(u32::from(port), next);
                next += 1 << (16 - bits);
            }
            assert_eq!(next, u32::from(last) + 1);
            assert!(ports.prefixes().len() <= 30);
        }
    }
}
