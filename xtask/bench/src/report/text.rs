//! Tables for a terminal.

use std::fmt::Write as _;

use super::{Results, flows_of, grouped, names_of};
use crate::statistics::Summary;

/// The whole report.
pub(super) fn text(results: &Results) -> String {
    let mut out = String::new();
    for line in results.machine.lines() {
        let _ = writeln!(out, "{line}");
    }
    if results.quick {
        out.push_str("quick: too few rounds for claims\n");
    }
    for (title, rows) in tables(results) {
        out.push_str(&table(&title, &rows));
    }
    for failure in &results.failed {
        let _ = writeln!(out, "\nNot measured: {failure}");
    }
    out
}

/// Tables with their titles; the first row is the head.
pub(super) fn tables(results: &Results) -> Vec<(String, Vec<Vec<String>>)> {
    let mut tables = Vec::new();
    let mut add = |title: &str, rows: Vec<Vec<String>>| {
        if rows.len() > 1 {
            tables.push((title.to_owned(), rows));
        }
    };
    add(
        "Cost of a packet, ns net of the wrapper",
        cost(results, false),
    );
    add(
        "The same, as a multiple of a fixed outer header's",
        cost(results, true),
    );
    add(
        "Live frames: processor time ns a frame, rate over XDP_TX's, lost of a thousand",
        live(results),
    );
    add(
        "Real traffic: processor time, microseconds, of client, balancer and backend",
        peers(results),
    );
    add("Control plane by services: ms, MiB", services(results));
    add("Control plane by size of one pool: ms, MiB", pools(results));
    add("The agent", agent(results));
    add("What should hold", bounds(results));
    tables
}

fn head(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn cost(results: &Results, ratio: bool) -> Vec<Vec<String>> {
    let flows = flows_of(results.cost.iter().map(|entry| entry.flows));
    let mut first = vec!["flows".to_owned()];
    first.extend(flows.iter().map(|&flows| grouped(flows)));
    let mut rows = vec![first];
    for name in names_of(results.cost.iter().map(|entry| entry.scenario.as_str())) {
        let mut row = vec![name.to_owned()];
        row.extend(flows.iter().map(|&flows| {
            let mut entries = results.cost.iter();
            let entry = entries.find(|entry| entry.scenario == name && entry.flows == flows);
            entry.map_or_else(String::new, |entry| {
                if ratio {
                    let interval = entry.ratio_interval;
                    format!(
                        "{:.2} ({:.2} to {:.2})",
                        entry.ratio_to_fixed_header, interval.low, interval.high
                    )
                } else {
                    spread(&entry.net_ns, 1)
                }
            })
        }));
        rows.push(row);
    }
    rows
}

fn live(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&["scenario", "flows", "ns", "rate", "lost"])];
    rows.extend(results.live.iter().map(|entry| {
        let interval = entry.ratio_interval;
        vec![
            entry.scenario.clone(),
            grouped(entry.flows),
            spread(&entry.cpu_ns, 0),
            format!(
                "{:.2} ({:.2} to {:.2})",
                entry.ratio_to_xdp_tx, interval.low, interval.high
            ),
            format!("{:.1}", entry.lost_per_mille),
        ]
    }));
    rows
}

fn peers(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&[
        "balancer",
        "connection",
        "request",
        "MiB, no offloads",
        "MiB, defaults",
        "connection over xlb dnat",
    ])];
    rows.extend(results.peers.iter().map(|entry| {
        vec![
            entry.name.clone(),
            format!("{:.1}", entry.cpu_us_per_connection),
            format!("{:.1}", entry.cpu_us_per_request),
            format!("{:.0}", entry.cpu_us_per_mib),
            format!("{:.0}", entry.cpu_us_per_mib_defaults),
            entry
                .relative_to_xlb_dnat
                .map_or_else(String::new, |relative| {
                    let ratio = relative.connection;
                    format!(
                        "{:.2} ({:.2} to {:.2})",
                        ratio.median, ratio.interval.low, ratio.interval.high
                    )
                }),
        ]
    }));
    rows
}

fn services(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&[
        "services",
        "backends each",
        "start",
        "restart",
        "change, API",
        "change, CLI",
        "change, to the last slot",
        "failover, to the last slot",
        "agent MiB",
        "maps MiB",
    ])];
    let control = results.control.iter();
    rows.extend(control.flat_map(|control| &control.services).map(|at| {
        vec![
            grouped(at.services),
            at.backends_each.to_string(),
            spread(&at.start_ms, 0),
            spread(&at.restart_ms, 0),
            spread(&at.change_api_ms, 2),
            maybe(at.change_cli_ms.as_ref(), 1),
            maybe(at.change_apply_ms.as_ref(), 2),
            maybe(at.failover_apply_ms.as_ref(), 2),
            format!("{:.1}", at.memory.agent_mib),
            format!("{:.0}", at.memory.maps_mib),
        ]
    }));
    rows
}

fn pools(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&[
        "backends",
        "slots",
        "change, to the last slot",
        "failover, to the last slot",
        "agent MiB",
        "maps MiB",
    ])];
    let control = results.control.iter();
    rows.extend(control.flat_map(|control| &control.pools).map(|at| {
        vec![
            grouped(at.backends),
            grouped(at.slots),
            maybe(at.change_apply_ms.as_ref(), 2),
            maybe(at.failover_apply_ms.as_ref(), 2),
            format!("{:.1}", at.memory.agent_mib),
            format!("{:.0}", at.memory.maps_mib),
        ]
    }));
    rows
}

fn agent(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&["what", "measured"])];
    if let Some(control) = &results.control {
        rows.extend(control.ring.iter().map(|ring| {
            vec![
                format!(
                    "a ring of {} slots for {} backends, ms",
                    grouped(ring.slots),
                    grouped(ring.backends)
                ),
                spread(&ring.build_ms, 2),
            ]
        }));
        if let Some(rest) = control.rest {
            let backends = grouped(rest.backends);
            rows.push(vec![
                format!("at rest, {backends} backends probed every second, % of a processor"),
                format!("{:.1}", rest.cpu_percent),
            ]);
            rows.push(vec![
                "the same, microseconds a probe".to_owned(),
                format!("{:.0}", rest.cpu_us_per_probe),
            ]);
        }
    }
    rows
}

fn bounds(results: &Results) -> Vec<Vec<String>> {
    let mut rows = vec![head(&["what", "measured", "bound", ""])];
    rows.extend(results.bounds.iter().map(|bound| {
        let side = if bound.at_most { "at most" } else { "at least" };
        vec![
            bound.what.clone(),
            format!("{:.2}", bound.measured),
            format!("{side} {}", bound.bound),
            if bound.holds {
                "holds"
            } else {
                "DOES NOT HOLD"
            }
            .to_owned(),
        ]
    }));
    rows
}

fn maybe(summary: Option<&Summary>, digits: usize) -> String {
    summary.map_or_else(|| "-".to_owned(), |summary| spread(summary, digits))
}

/// The median, and the extremes.
fn spread(summary: &Summary, digits: usize) -> String {
    let Summary { min, median, max } = summary;
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

fn table(title: &str, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut out = format!("\n{title}\n");
    for row in rows {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(line, " {cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [["flows", "1", "1,024"], ["ipip/tcp4/rest", "30.0", "31.0"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table("Cost", &rows),
            "\nCost\n  flows              1  1,024\n  ipip/tcp4/rest  30.0   31.0\n"
        );
    }

    #[test]
    fn every_part_has_its_table_and_no_other() {
        let mut results = samples::good();
        results.bounds = super::super::bounds(&results);
        assert_eq!(tables(&results).len(), 8);
        assert!(text(&results).contains("ipip/tcp4/rest/services-10000"));
        assert_eq!(tables(&Results::default()).len(), 0);
    }
}
