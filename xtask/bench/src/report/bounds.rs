//! What should hold of the figures.

use serde::Serialize;

use super::{Results, grouped};
use crate::{
    control::{Control, growth},
    cost::CostEntry,
    peers::{PeerEntry, Relative},
};

/// Something that should hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// What is compared.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// Whether more is worse.
    pub at_most: bool,
    /// The bound.
    pub bound: f64,
    /// Whether it holds.
    pub holds: bool,
}

impl Bound {
    fn at_most(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self {
            what: what.into(),
            measured,
            at_most: true,
            bound,
            holds: measured <= bound,
        }
    }

    fn at_least(what: impl Into<String>, measured: f64, bound: f64) -> Self {
        Self {
            what: what.into(),
            measured,
            at_most: false,
            bound,
            holds: measured >= bound,
        }
    }
}

/// Net cost of a packet at rest, as a multiple of the fixed outer header's.
const FORWARD_RATIO: f64 = 2.7;
/// The same of a packet that is for no service.
const PASS_RATIO: f64 = 2.4;
/// The cost with very many flows over that with one.
const FLAT: f64 = 1.1;
/// IPv6 over IPv4.
const IPV6: f64 = 1.3;
/// Ten thousand services over one.
const SERVICES: f64 = 1.25;
/// The rate with live frames as a part of the bare rate.
const LIVE_RATE: f64 = 0.85;
/// A change of a pool of a thousand backends, in milliseconds.
const POOL_CHANGE_MS: f64 = 5.0;
/// A failover, in milliseconds.
const FAILOVER_MS: f64 = 1.0;
/// A change with a thousand services over one with one: what is the same is rarely the same to the
/// percent.
const GROWTH: f64 = 1.5;

/// Everything that should hold and was measured.
#[must_use]
pub fn bounds(results: &Results) -> Vec<Bound> {
    let mut bounds = of_cost(&results.cost);
    let live = results
        .live
        .iter()
        .filter(|entry| entry.scenario == "ipip/tcp4/rest");
    bounds.extend(live.max_by_key(|entry| entry.flows).map(|entry| {
        let what = format!(
            "live frames, ipip, {} flows: rate over that of XDP_TX alone",
            grouped(entry.flows)
        );
        Bound::at_least(what, entry.ratio_to_xdp_tx, LIVE_RATE)
    }));
    bounds.extend(results.control.iter().flat_map(of_control));
    bounds.extend(of_peers(&results.peers));
    bounds
}

fn of_cost(entries: &[CostEntry]) -> Vec<Bound> {
    let of =
        |name: &str| -> Vec<&CostEntry> { entries.iter().filter(|e| e.scenario == name).collect() };
    let (rest, pass) = (of("ipip/tcp4/rest"), of("ipip/tcp4/pass"));
    let mut bounds = Vec::new();
    for (entries, what, bound) in [
        (&rest, "ipip/tcp4/rest", FORWARD_RATIO),
        (&pass, "ipip/tcp4/pass", PASS_RATIO),
    ] {
        bounds.extend(entries.iter().map(|entry| {
            let what = format!(
                "{what}, {} flows: net cost over a fixed header's",
                grouped(entry.flows)
            );
            Bound::at_most(what, entry.ratio_to_fixed_header, bound)
        }));
    }
    let one = rest.iter().find(|entry| entry.flows == 1);
    let most = rest.iter().max_by_key(|entry| entry.flows);
    if let (Some(one), Some(most)) = (one, most)
        && most.flows > 1
    {
        let what = format!("ipip/tcp4/rest: {} flows over one", grouped(most.flows));
        let measured = most.net_ns.median / one.net_ns.median;
        bounds.push(Bound::at_most(what, measured, FLAT));
    }
    for (name, what, bound) in [
        ("ipip/tcp6/rest", "IPv6 over IPv4", IPV6),
        (
            "ipip/tcp4/rest/services-10000",
            "10,000 services over one",
            SERVICES,
        ),
    ] {
        let worst = of(name)
            .into_iter()
            .filter_map(|entry| {
                let base = rest.iter().find(|base| base.flows == entry.flows)?;
                Some((entry.net_ns.median / base.net_ns.median, entry.flows))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        bounds.extend(worst.map(|(measured, flows)| {
            let what = format!(
                "ipip/tcp4/rest: {what}, at {} flows, the worst",
                grouped(flows)
            );
            Bound::at_most(what, measured, bound)
        }));
    }
    bounds
}

fn of_control(control: &Control) -> Vec<Bound> {
    let mut bounds = Vec::new();
    for pool in control.pools.iter().filter(|pool| pool.backends == 1_000) {
        for (what, measured, bound) in [
            ("a change", pool.change_apply_ms, POOL_CHANGE_MS),
            ("a failover", pool.failover_apply_ms, FAILOVER_MS),
        ] {
            bounds.extend(measured.map(|measured| {
                let what = format!(
                    "{what} of a pool of 1,000 backends and {} slots, to the last slot, ms",
                    grouped(pool.slots)
                );
                Bound::at_most(what, measured.median, bound)
            }));
        }
    }
    let few: Vec<_> = control
        .services
        .iter()
        .filter(|at| at.services <= 1_000)
        .cloned()
        .collect();
    for (what, growth) in [
        (
            "a change by the API",
            growth(&few, |at| Some(at.change_api_ms)),
        ),
        (
            "a failover, to the last slot",
            growth(&few, |at| at.failover_apply_ms),
        ),
    ] {
        let what = format!("{what}: up to 1,000 services over one");
        bounds.extend(growth.map(|growth| Bound::at_most(what, growth, GROWTH)));
    }
    bounds
}

fn of_peers(entries: &[PeerEntry]) -> Vec<Bound> {
    let others = entries
        .iter()
        .filter(|entry| entry.name != "direct" && !entry.name.starts_with("xlb-"));
    let mut bounds = Vec::new();
    for entry in others {
        let Some(Relative {
            connection, mib, ..
        }) = entry.relative_to_xlb_dnat
        else {
            continue;
        };
        for (what, ratio) in [("connection", connection), ("MiB without offloads", mib)] {
            let what = format!("{} over xlb dnat, a {what}", entry.name);
            bounds.push(Bound::at_least(what, ratio.median, 1.0));
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    #[test]
    fn good_results_break_no_bound() {
        let all = bounds(&samples::good());
        let broken: Vec<_> = all.iter().filter(|bound| !bound.holds).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        // Two ratios each, flatness, IPv6, services; live; four of control; three others twice.
        assert_eq!(all.len(), 2 * 2 + 3 + 1 + 4 + 3 * 2);
    }

    fn broken(change: impl FnOnce(&mut Results)) -> Vec<String> {
        let mut results = samples::good();
        change(&mut results);
        let broken = bounds(&results).into_iter().filter(|bound| !bound.holds);
        broken.map(|bound| bound.what).collect()
    }

    #[test]
    fn a_cost_that_grows_with_flows_breaks_the_bounds_of_many_flows() {
        let said =
            broken(|results| results.cost[2] = samples::cost("ipip/tcp4/rest", 1 << 20, 40.0));
        assert_eq!(
            said,
            [
                "ipip/tcp4/rest, 1,048,576 flows: net cost over a fixed header's",
                "ipip/tcp4/rest: 1,048,576 flows over one",
            ]
        );
    }

    #[test]
    fn the_worst_number_of_flows_counts() {
        let said = broken(|results| results.cost[3] = samples::cost("ipip/tcp6/rest", 1, 60.0));
        assert_eq!(
            said,
            ["ipip/tcp4/rest: IPv6 over IPv4, at 1 flows, the worst"]
        );
    }

    #[test]
    fn a_slow_road_and_a_cheap_rival_are_seen() {
        let said =
            broken(|results| results.live[1] = samples::live("ipip/tcp4/rest", 1 << 20, 0.8));
        assert_eq!(said.len(), 1);
        let said = broken(|results| results.peers[1] = samples::peer("nftables-jhash", 90.0));
        assert_eq!(said.len(), 2);
        assert!(
            said[0].starts_with("nftables-jhash over xlb dnat"),
            "{said:?}"
        );
    }

    #[test]
    fn what_was_not_measured_has_no_bound() {
        assert_eq!(bounds(&Results::default()), []);
    }
}
