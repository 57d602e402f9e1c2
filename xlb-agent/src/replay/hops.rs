//! Next hops, as they are said rather than asked of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
};

use anyhow::Context;
use xlb_common::next_hop::NextHop;
use xlb_control::config::{Config, Forward, Pool};

use crate::{
    dataplane::{DataplaneError, Maps, RouteKey},
    engine::goal::World,
    plan::Intent,
};

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no MAC address; type six bytes, as in `02:00:0a:00:01:07`");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(wrong)?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if bytes == [0; 6] || bytes[0] & 1 != 0 {
            return Err(format!(
                "{text} is the address of no single host; type that of the next hop"
            ));
        }
        Ok(Self(bytes))
    }
}

/// A next hop as it is typed: of all addresses, or of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaidHop {
    /// The backend or client; `None`: every one that nothing else is said of.
    pub address: Option<IpAddr>,
    /// Where its frames go.
    pub mac: Mac,
}

impl FromStr for SaidHop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, mac) = match text.split_once('=') {
            Some((address, mac)) => {
                let parsed = address.parse().map_err(|_| {
                    format!("`{address}` is no address; type ADDRESS=MAC, as in `10.0.1.7=02:00:0a:00:01:07`")
                })?;
                (Some(parsed), mac)
            }
            None => (None, text),
        };
        Ok(Self {
            address,
            mac: mac.parse()?,
        })
    }
}

/// Next hops by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    others: Option<Mac>,
    by_address: BTreeMap<IpAddr, Mac>,
}

/// All packets leave by one interface, whose index in `EGRESS` this is.
pub(super) const EGRESS: u16 = 1;

impl NextHops {
    /// What is said, on top of what a file says.
    #[must_use]
    pub fn new(said: &[SaidHop], from_file: Self) -> Self {
        let mut hops = from_file;
        for hop in said {
            match hop.address {
                Some(address) => drop(hops.by_address.insert(address, hop.mac)),
                None => hops.others = Some(hop.mac),
            }
        }
        hops
    }

    /// Reads the neighbours of a host in the form of `ip neigh`: an address, and a MAC address that is
    /// the next word or follows `lladdr`. Neighbours without one, which did not answer, are left out.
    ///
    /// # Errors
    ///
    /// When the file can't be read; and names the first line that has another form.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut hops = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(address) = words.next() else {
                continue;
            };
            let place = || format!("{}:{number}", path.display());
            let address: IpAddr = address.parse().ok().with_context(|| {
                format!(
                    "{}: `{address}` is no address; a line is as `ip neigh` prints it, or `10.0.1.7 \
                     02:00:0a:00:01:07`",
                    place()
                )
            })?;
            let rest: Vec<&str> = words.collect();
            let mac = match rest.as_slice() {
                [mac] => mac,
                _ => match rest.iter().skip_while(|word| **word != "lladdr").nth(1) {
                    Some(mac) => mac,
                    None => continue,
                },
            };
            let mac = mac.parse().map_err(anyhow::Error::msg);
            hops.by_address.insert(address, mac.with_context(place)?);
        }
        Ok(hops)
    }

    fn of(&self, address: IpAddr) -> Option<Mac> {
        self.by_address.get(&address).copied().or(self.others)
    }

    /// Fails if a backend that frames are sent to has none.
    pub(super) fn check(&self, config: &Config) -> anyhow::Result<()> {
        let lacking: BTreeSet<IpAddr> = forwarded(config)
            .flat_map(|(_, pool)| &pool.backends)
            .map(|backend| backend.address)
            .filter(|address| self.of(*address).is_none())
            .collect();
        let Some(first) = lacking.first() else {
            return Ok(());
        };
        anyhow::bail!(
            "the next hop of backend {first} is not known{}; say it with --next-hop MAC for all backends, \
             --next-hop {first}=MAC for this one, or --next-hops FILE for those that `ip neigh` knows",
            match lacking.len() {
                1 => String::new(),
                more => format!(", and {} more", more - 1),
            }
        )
    }

    /// Has replies find their clients.
    pub(super) fn set_routes(&self, maps: &mut Maps) -> Result<(), DataplaneError> {
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        let hop = |mac: Mac| NextHop::new(mac.0, EGRESS);
        if let Some(mac) = self.others {
            v4.insert(
                RouteKey {
                    prefix_bits: 0,
                    address: [0; 4],
                },
                hop(mac),
            );
            v6.insert(
                RouteKey {
                    prefix_bits: 0,
                    address: [0; 16],
                },
                hop(mac),
            );
        }
        for (address, mac) in &self.by_address {
            match address {
                IpAddr::V4(address) => v4.insert(
                    RouteKey {
                        prefix_bits: 32,
                        address: address.octets(),
                    },
                    hop(*mac),
                ),
                IpAddr::V6(address) => v6.insert(
                    RouteKey {
                        prefix_bits: 128,
                        address: address.octets(),
                    },
                    hop(*mac),
                ),
            };
        }
        let failed = |error| DataplaneError::Spec(format!("set the routes of replies: {error}"));
        maps.routes4.apply(&v4).map_err(failed)?;
        maps.routes6.apply(&v6).map_err(failed)?;
        Ok(())
    }
}

/// Services that send frames to backends, with their pools.
pub(super) fn forwarded(
    config: &Config,
) -> impl Iterator<Item = (&xlb_control::config::Service, &Pool)> {
    let services = config.services.values();
    services
        .filter(|service| service.forward != Forward::Local)
        .filter_map(|service| Some((service, config.pools.get(&service.pool)?)))
}

/// A world in which every backend serves and is well.
pub(super) struct Healthy<'a> {
    pub(super) hops: &'a NextHops,
    /// Addresses at which services of this host's own stack listen.
    pub(super) listeners: BTreeSet<IpAddr>,
    /// Sources of outer headers where the configuration says none.
    pub(super) tunnel_sources: &'a [IpAddr],
}

impl World for Healthy<'_> {
    fn intent(&self, _pool: &str, _endpoint: SocketAddr) -> Intent {
        Intent::Serve
    }

    fn is_well(&self, _pool: &Pool, _endpoint: SocketAddr) -> bool {
        true
    }

    fn next_hop(&self, address: IpAddr) -> (NextHop, Option<IpAddr>) {
        if self.listeners.contains(&address) {
            return (NextHop::LOCAL, None);
        }
        let hop = self.hops.of(address);
        let hop = hop.map_or(NextHop::NONE, |mac| NextHop::new(mac.0, EGRESS));
        let mut sources = self.tunnel_sources.iter().copied();
        (
            hop,
            sources.find(|source| source.is_ipv4() == address.is_ipv4()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<NextHops, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        NextHops::load(file.path()).map_err(|error| {
            format!("{error:#}").replace(&file.path().display().to_string(), "FILE")
        })
    }

    #[test]
    fn neighbours_are_read() {
        let hops = load(
            "10.0.1.7 dev eth0 lladdr 02:00:0a:00:01:07 REACHABLE\n\
             2001:db8::7 dev eth0 lladdr 02:00:0a:00:01:08 router STALE\n\
             10.0.1.9 dev eth0 FAILED\n\n\
             10.0.1.8 02:00:0a:00:01:09 # by hand\n",
        )
        .unwrap();
        let of = |address: &str| hops.of(address.parse().unwrap());
        assert_eq!(of("10.0.1.7"), Some(Mac([2, 0, 10, 0, 1, 7])));
        assert_eq!(of("2001:db8::7"), Some(Mac([2, 0, 10, 0, 1, 8])));
        assert_eq!(of("10.0.1.8"), Some(Mac([2, 0, 10, 0, 1, 9])));
        assert_eq!(of("10.0.1.9"), None);
    }

    #[test]
    fn what_is_no_neighbour_has_its_place() {
        for (text, error) in [
            (
                "10.0.1.7 02:00:0a:00:01:07\nweb-1 02:00:0a:00:01:08\n",
                "FILE:2: `web-1` is no address; a line is as `ip neigh` prints it, or `10.0.1.7 02:00:0a:00:01:07`",
            ),
            (
                "10.0.1.7 020000010107\n",
                "FILE:1: `020000010107` is no MAC address; type six bytes, as in `02:00:0a:00:01:07`",
            ),
            (
                "10.0.1.7 dev eth0 lladdr ff:ff:ff:ff:ff:ff NOARP\n",
                "FILE:1: ff:ff:ff:ff:ff:ff is the address of no single host; type that of the next hop",
            ),
        ] {
            assert_eq!(load(text).unwrap_err(), error);
        }
    }

    #[test]
    fn what_is_typed_goes_before_the_file() {
        let file = load("10.0.1.7 02:00:0a:00:01:07\n").unwrap();
        let said: Vec<SaidHop> = ["10.0.1.7=02:00:00:00:00:01", "02:00:00:00:00:02"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let hops = NextHops::new(&said, file);
        let of = |address: &str| hops.of(address.parse().unwrap()).unwrap().0[5];
        assert_eq!((of("10.0.1.7"), of("10.0.1.8")), (1, 2));
        assert_eq!(
            "web=02:00:00:00:00:01".parse::<SaidHop>().unwrap_err(),
            "`web` is no address; type ADDRESS=MAC, as in `10.0.1.7=02:00:0a:00:01:07`"
        );
    }
}
