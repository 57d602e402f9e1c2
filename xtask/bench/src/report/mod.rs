//! All that was measured: as one JSON object, as text, and as a page with pictures.

mod bounds;
mod page;
mod plot;
mod text;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

pub use self::bounds::{Bound, bounds};
use crate::{
    control::Control, cost::CostEntry, live::LiveEntry, machine::Machine, peers::PeerEntry,
};

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: Machine,
    /// Whether little was measured, which is no ground for claims.
    pub quick: bool,
    /// The cost of a packet, by test runs.
    pub cost: Vec<CostEntry>,
    /// With live frames.
    pub live: Vec<LiveEntry>,
    /// Next to others, on real traffic.
    pub peers: Vec<PeerEntry>,
    /// The control plane.
    pub control: Option<Control>,
    /// What should hold, as far as it was measured.
    pub bounds: Vec<Bound>,
    /// Parts that could not be measured, and why.
    pub failed: Vec<String>,
}

impl Results {
    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("results are plain data")
    }

    /// Lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        text::text(self)
    }

    /// Writes the page, which needs nothing besides itself.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn write_page(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("make the directory {}", directory.display()))?;
        }
        fs::write(path, page::page(self)).with_context(|| format!("write {}", path.display()))
    }
}

/// Numbers of flows that occur, in ascending order.
fn flows_of(entries: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut flows: Vec<u32> = entries.collect();
    flows.sort_unstable();
    flows.dedup();
    flows
}

/// Names that occur, in the order of their first occurrence.
fn names_of<'a>(entries: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in entries {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A number with commas.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod samples {
    //! Results such as a run gives them.

    use super::*;
    use crate::{
        control::{Memory, PoolTimes, RingBuild, Services},
        peers::{Ratio, Relative},
        statistics::{Interval, Summary},
    };

    pub(super) fn summary(median: f64) -> Summary {
        Summary {
            min: median * 0.9,
            median,
            max: median * 1.1,
        }
    }

    fn interval(median: f64) -> Interval {
        Interval {
            low: median * 0.95,
            high: median * 1.05,
            confidence: 0.984,
        }
    }

    pub(super) fn cost(scenario: &str, flows: u32, net_ns: f64) -> CostEntry {
        CostEntry {
            scenario: scenario.to_owned(),
            flows,
            net_ns: summary(net_ns),
            ratio_to_fixed_header: net_ns / 13.0,
            ratio_interval: interval(net_ns / 13.0),
            wrapper_ns: 41.0,
        }
    }

    pub(super) fn live(scenario: &str, flows: u32, ratio: f64) -> LiveEntry {
        LiveEntry {
            scenario: scenario.to_owned(),
            flows,
            cpu_ns: summary(250.0 / ratio),
            ratio_to_xdp_tx: ratio,
            ratio_interval: interval(ratio),
            lost_per_mille: 0.0,
        }
    }

    pub(super) fn peer(name: &str, connection: f64) -> PeerEntry {
        let ratio = |median: f64| Ratio {
            median,
            interval: interval(median),
        };
        let relative = connection / 100.0;
        PeerEntry {
            name: name.to_owned(),
            cpu_us_per_connection: connection,
            cpu_us_per_request: connection / 5.0,
            cpu_us_per_mib: connection * 10.0,
            cpu_us_per_mib_defaults: connection * 4.0,
            relative_to_xlb_dnat: Some(Relative {
                connection: ratio(relative),
                request: ratio(relative),
                mib: ratio(relative),
            }),
        }
    }

    fn services(services: u32, apply_ms: f64) -> Services {
        Services {
            services,
            backends_each: 10,
            start_ms: summary(100.0),
            restart_ms: summary(60.0),
            change_api_ms: summary(apply_ms + 1.0),
            change_cli_ms: None,
            change_apply_ms: Some(summary(apply_ms)),
            failover_apply_ms: Some(summary(0.5)),
            memory: Memory {
                agent_mib: 3.0,
                maps_mib: 23.0,
            },
        }
    }

    /// Every bound holds.
    pub(super) fn good() -> Results {
        Results {
            machine: Machine::default(),
            quick: true,
            cost: vec![
                cost("reference/v4/fixed-header", 1, 13.0),
                cost("ipip/tcp4/rest", 1, 30.0),
                cost("ipip/tcp4/rest", 1 << 20, 31.0),
                cost("ipip/tcp6/rest", 1, 36.0),
                cost("ipip/tcp6/rest", 1 << 20, 37.0),
                cost("ipip/tcp4/pass", 1, 20.0),
                cost("ipip/tcp4/pass", 1 << 20, 21.0),
                cost("ipip/tcp4/rest/services-10000", 1, 32.0),
                cost("ipip/tcp4/rest/services-10000", 1 << 20, 36.0),
            ],
            live: vec![
                live("xdp-tx/tcp4", 1 << 20, 1.0),
                live("ipip/tcp4/rest", 1 << 20, 0.9),
            ],
            peers: vec![
                peer("direct", 95.0),
                peer("nftables-jhash", 110.0),
                peer("haproxy-tcp", 180.0),
                peer("nginx-stream", 190.0),
                peer("xlb-dnat", 100.0),
            ],
            control: Some(Control {
                services: vec![services(1, 4.0), services(1_000, 5.0)],
                pools: vec![PoolTimes {
                    backends: 1_000,
                    slots: 65_537,
                    change_apply_ms: Some(summary(4.0)),
                    failover_apply_ms: Some(summary(0.8)),
                    memory: Memory {
                        agent_mib: 5.0,
                        maps_mib: 25.0,
                    },
                }],
                ring: vec![RingBuild {
                    backends: 1_000,
                    slots: 65_537,
                    build_ms: summary(2.0),
                }],
                rest: None,
            }),
            bounds: Vec::new(),
            failed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_have_commas() {
        for (number, text) in [(1, "1"), (1_024, "1,024"), (1_048_576, "1,048,576")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_json_has_the_shape_that_is_promised() {
        let json: serde_json::Value =
            serde_json::from_str(&samples::good().json()).expect("it is JSON");
        let cost = &json["cost"][1];
        assert_eq!(cost["scenario"], "ipip/tcp4/rest");
        assert_eq!(cost["flows"], 1);
        for part in ["min", "median", "max"] {
            assert!(cost["net_ns"][part].is_number(), "{part}");
        }
        assert!(cost["ratio_to_fixed_header"].is_number());
        assert!(json["live"][0]["ratio_to_xdp_tx"].is_number());
        for part in ["connection", "request", "mib"] {
            assert!(json["peers"][0][format!("cpu_us_per_{part}")].is_number());
        }
        assert!(json["control"].is_object());
        assert!(!samples::good().json().contains('\n'));
    }

    #[test]
    fn a_page_is_written_where_there_was_no_directory() {
        let directory = std::env::temp_dir().join(format!("xlb-report-{}", std::process::id()));
        let path = directory.join("deep/report.html");
        samples::good()
            .write_page(&path)
            .expect("it can be written");
        let page = fs::read_to_string(&path).expect("it is there");
        fs::remove_dir_all(&directory).expect("it can be removed");
        assert!(page.starts_with("<!doctype html>"));
    }
}
