//! Which service a flow is of.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use xlb_common::flow::FlowKey;
use xlb_control::config::At;

use super::ServiceKey;
use crate::endpoint;

/// Something for each of some services, found by a flow as the data path finds the service.
#[derive(Clone, Debug)]
pub(super) struct Finder<T> {
    exact: HashMap<(IpAddr, u16, u8), T>,
    /// The most specific ones first.
    wide: Vec<(ServiceKey, T)>,
}

impl<T> FromIterator<(ServiceKey, T)> for Finder<T> {
    fn from_iter<I: IntoIterator<Item = (ServiceKey, T)>>(services: I) -> Self {
        let mut finder = Self {
            exact: HashMap::new(),
            wide: Vec::new(),
        };
        for (key, what) in services {
            let At { vip, ports } = key.at;
            match ports.one() {
                Some(port) if vip.is_one() => {
                    finder
                        .exact
                        .insert((vip.address(), port, key.protocol), what);
                }
                Some(_) | None => finder.wide.push((key, what)),
            }
        }
        finder
            .wide
            .sort_by_key(|(key, _)| std::cmp::Reverse(key.at.specificity()));
        finder
    }
}

impl<T> Finder<T> {
    /// That of a flow's service.
    pub(super) fn find(&self, flow: &FlowKey) -> Option<&T> {
        let (vip, port) = destination(flow);
        let exact = self.exact.get(&(vip, port, flow.protocol));
        let to = SocketAddr::new(vip, port);
        let contains = |key: &ServiceKey| key.protocol == flow.protocol && key.at.contains(to);
        exact.or_else(|| {
            let mut wide = self.wide.iter();
            wide.find(|(key, _)| contains(key)).map(|(_, what)| what)
        })
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        let wide = self.wide.iter().map(|(_, what)| what);
        self.exact.values().chain(wide)
    }
}

/// Virtual address and port of a flow.
fn destination(flow: &FlowKey) -> (IpAddr, u16) {
    let mut vip = [0; 16];
    for (to, word) in vip.chunks_exact_mut(8).zip(flow.destination) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    (
        endpoint::address(vip, flow.family),
        u16::from_be(flow.destination_port_be),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_service_has_a_flow() {
        let key = |vip: &str, ports: &str| ServiceKey {
            at: At {
                vip: vip.parse().unwrap(),
                ports: ports.parse().unwrap(),
            },
            protocol: 6,
        };
        let finder: Finder<u32> = [
            (key("192.0.2.0/24", "443"), 1),
            (key("192.0.2.0/28", "all"), 2),
            (key("192.0.2.5", "400-500"), 3),
            (key("192.0.2.5", "443"), 4),
        ]
        .into_iter()
        .collect();
        let find = |to: &str, protocol| {
            let flow = FlowKey::between(
                "198.51.100.1:1".parse().unwrap(),
                to.parse().unwrap(),
                protocol,
            );
            finder.find(&flow.unwrap()).copied()
        };
        assert_eq!(find("192.0.2.5:443", 6), Some(4));
        assert_eq!(find("192.0.2.5:444", 6), Some(3));
        assert_eq!(find("192.0.2.5:80", 6), Some(2));
        assert_eq!(find("192.0.2.99:443", 6), Some(1));
        assert_eq!(find("192.0.2.99:80", 6), None);
        assert_eq!(find("192.0.2.5:443", 17), None);
        assert_eq!(finder.values().count(), 4);
    }
}
