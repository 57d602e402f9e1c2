//! Which service a packet is for, where services take in several ports or addresses: the plan of the
//! tables by which the data path finds it.
//!
//! The longest prefix of addresses that has a service at the packet's port decides, and among services
//! of one prefix the one whose ports are named most narrowly. So that a look at one prefix suffices,
//! each prefix gets the ports of all that contain it as well, where it has nothing of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{At, Ports, Vip};

/// What takes packets in, and where.
#[derive(Clone, Copy, Debug)]
pub struct Span<T> {
    /// Addresses and ports.
    pub at: At,
    /// IP protocol number.
    pub protocol: u8,
    /// What stands there.
    pub what: T,
}

/// What the ports of a prefix lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<T> {
    /// The prefix.
    pub vip: Vip,
    /// Ports that have something, by protocol number; no two overlap.
    pub ports: BTreeMap<u8, Vec<(Ports, T)>>,
}

impl<T> Table<T> {
    /// Entries that the table takes in the data path.
    #[must_use]
    pub fn entries(&self) -> usize {
        let pieces = self.ports.values().flatten();
        pieces.map(|(ports, _)| ports.prefixes().len()).sum()
    }
}

/// The tables of these, one for each prefix that is named. Later ones of the same specificity win.
#[must_use]
pub fn tables<T: Copy>(spans: &[Span<T>]) -> Vec<Table<T>> {
    let mut by_vip: HashMap<Vip, Vec<&Span<T>>> = HashMap::new();
    for span in spans {
        by_vip.entry(span.at.vip).or_default().push(span);
    }
    for spans in by_vip.values_mut() {
        spans.sort_by_key(|span| span.at.ports.specificity());
    }
    let vips: BTreeSet<Vip> = by_vip.keys().copied().collect();
    vips.into_iter()
        .map(|vip| {
            let mut ports: BTreeMap<u8, Vec<(Ports, T)>> = BTreeMap::new();
            let around = (0..=vip.bits()).filter_map(|bits| vip.within(bits));
            for span in around.filter_map(|vip| by_vip.get(&vip)).flatten() {
                paint(
                    ports.entry(span.protocol).or_default(),
                    span.at.ports,
                    span.what,
                );
            }
            for pieces in ports.values_mut() {
                pieces.sort_by_key(|(ports, _)| *ports);
            }
            Table { vip, ports }
        })
        .collect()
}

/// Has ports lead to something, whatever they led to before.
fn paint<T: Copy>(pieces: &mut Vec<(Ports, T)>, over: Ports, what: T) {
    let mut kept = Vec::with_capacity(pieces.len() + 2);
    for &(ports, what) in pieces.iter() {
        if !ports.overlaps(over) {
            kept.push((ports, what));
            continue;
        }
        let before = over.first().checked_sub(1);
        let after = over.last().checked_add(1);
        let left = before.and_then(|last| Ports::range(ports.first(), last));
        let right = after.and_then(|first| Ports::range(first, ports.last()));
        kept.extend(left.into_iter().chain(right).map(|ports| (ports, what)));
    }
    kept.push((over, what));
    *pieces = kept;
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn span(what: usize, vip: &str, ports: Ports) -> Span<usize> {
        Span {
            at: At {
                vip: vip.parse().unwrap(),
                ports,
            },
            protocol: 6,
            what,
        }
    }

    /// As the data path finds it: the longest prefix that has a table, and what that has at the port.
    fn find(tables: &[Table<usize>], to: SocketAddr) -> Option<usize> {
        let table = tables
            .iter()
            .filter(|table| table.vip.contains(to.ip()))
            .max_by_key(|table| table.vip.bits())?;
        let mut pieces = table.ports.get(&6)?.iter();
        pieces
            .find(|(ports, _)| ports.contains(to.port()))
            .map(|&(_, what)| what)
    }

    #[test]
    fn a_longer_prefix_has_what_the_shorter_one_has_and_its_own_before() {
        let spans = [
            span(0, "192.0.2.0/24", Ports::ALL),
            span(1, "192.0.2.0/28", Ports::range(8000, 8999).unwrap()),
            span(2, "192.0.2.0/28", Ports::from(8080)),
            span(3, "192.0.2.5", Ports::range(1, 8500).unwrap()),
        ];
        let tables = tables(&spans);
        for (to, what) in [
            ("192.0.2.200:8080", 0),
            ("192.0.2.3:8080", 2),
            ("192.0.2.3:8081", 1),
            ("192.0.2.3:9000", 0),
            ("192.0.2.5:8080", 3),
            ("192.0.2.5:8501", 1),
            ("192.0.2.5:65535", 0),
        ] {
            assert_eq!(find(&tables, to.parse().unwrap()), Some(what), "{to}");
        }
        assert_eq!(find(&tables, "192.0.3.1:80".parse().unwrap()), None);
    }

    fn any_span() -> impl Strategy<Value = (At, u16)> {
        (0u32..4, 28u8..=32, 0u16..6, 0u16..6, 0u8..8).prop_map(|(low, bits, a, b, all)| {
            let address = std::net::Ipv4Addr::from(0xc000_0200 + low * 4);
            let prefix = ipnet::IpNet::new(address.into(), bits).unwrap();
            let ports = if all == 0 {
                Ports::ALL
            } else {
                Ports::range(a.min(b), a.max(b)).unwrap()
            };
            (
                At {
                    vip: Vip::new(prefix),
                    ports,
                },
                a,
            )
        })
    }

    proptest! {
        #[test]
        fn tables_find_the_most_specific(spans in proptest::collection::vec(any_span(), 1..12)) {
            let spans: Vec<Span<usize>> = spans
                .iter()
                .enumerate()
                .map(|(what, &(at, _))| Span { at, protocol: 6, what })
                .collect();
            let tables = tables(&spans);
            for low in 0..18u32 {
                for port in 0..8 {
                    let address = std::net::Ipv4Addr::from(0xc000_0200 + low);
                    let to = SocketAddr::new(address.into(), port);
                    let best = spans
                        .iter()
                        .filter(|span| span.at.contains(to))
                        .max_by_key(|span| (span.at.specificity(), span.what))
                        .map(|span| span.what);
                    prop_assert_eq!(find(&tables, to), best);
                }
            }
        }
    }
}
