//! The page: all that it needs is in it.

use std::fmt::Write as _;

use super::{
    Results, names_of,
    plot::{self, Bar, Line, escape},
    text,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em auto;\
padding:0 1em;color:#222;background:#fff}h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}\
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}\
td,th{padding:2px 10px 2px 0;text-align:right;white-space:nowrap;font-weight:normal}\
th{border-bottom:1px solid #999}td:first-child,th:first-child{text-align:left}\
svg{width:100%;font-size:12px}svg .grid{stroke:#ddd}svg .span{stroke:#222;stroke-width:1.5}\
svg .end{text-anchor:end}svg .middle{text-anchor:middle}.broken{color:#b00;font-weight:bold}\
.note{color:#555}";

/// The whole page.
pub(super) fn page(results: &Results) -> String {
    let mut page = format!(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
         <title>xlb benchmark</title><style>{STYLE}</style></head><body>\
         <h1>What xlb costs</h1>"
    );
    for line in results.machine.lines() {
        let _ = write!(page, "<div class='note'>{}</div>", escape(&line));
    }
    if results.quick {
        page.push_str("<p class='broken'>A quick run: too few rounds for claims.</p>");
    }
    for failure in &results.failed {
        let _ = write!(
            page,
            "<p class='broken'>Not measured: {}</p>",
            escape(failure)
        );
    }
    page.push_str(&pictures(results));
    for (title, rows) in text::tables(results) {
        let _ = write!(page, "<h2>{}</h2>{}", escape(&title), table(&rows));
    }
    page.push_str(
        "<p class='note'>Figures are medians, with the smallest and the largest, or with an \
         interval that holds the median with a confidence of 95 % where there were enough \
         loads or rounds. docs/benchmark.md says how they were measured.</p></body></html>\n",
    );
    page
}

fn pictures(results: &Results) -> String {
    let mut pictures = String::new();
    let mut add = |title: &str, picture: String| {
        let _ = write!(pictures, "<h2>{}</h2>{picture}", escape(title));
    };
    let forwarding: Vec<Line<'_>> = cost_lines(results, |name| {
        !name.contains("transition") && !name.starts_with("reference/v6")
    });
    if !forwarding.is_empty() {
        add(
            "Cost of a packet over the number of flows",
            plot::lines(&forwarding, "ns, net of the wrapper"),
        );
        let most = results.cost.iter().map(|entry| entry.flows).max();
        let bars: Vec<Bar> = results
            .cost
            .iter()
            .filter(|entry| Some(entry.flows) == most)
            .map(|entry| Bar {
                name: entry.scenario.clone(),
                value: entry.net_ns.median,
                low: entry.net_ns.min,
                high: entry.net_ns.max,
            })
            .collect();
        let flows = super::grouped(most.unwrap_or(0));
        add(
            &format!("Cost of a packet by scenario, {flows} flows"),
            plot::bars(&bars, "ns, net of the wrapper, over the loads"),
        );
    }
    if !results.live.is_empty() {
        let names = names_of(results.live.iter().map(|entry| entry.scenario.as_str()));
        let lines: Vec<Line<'_>> = names
            .into_iter()
            .map(|name| Line {
                name,
                points: results
                    .live
                    .iter()
                    .filter(|entry| entry.scenario == name)
                    .map(|entry| (entry.flows, entry.cpu_ns.median))
                    .collect(),
            })
            .collect();
        add(
            "Live frames over the number of flows",
            plot::lines(&lines, "processor time, ns a frame, generator included"),
        );
    }
    if !results.peers.is_empty() {
        let bars: Vec<Bar> = results
            .peers
            .iter()
            .map(|entry| Bar {
                name: entry.name.clone(),
                value: entry.cpu_us_per_connection,
                low: entry.cpu_us_per_connection,
                high: entry.cpu_us_per_connection,
            })
            .collect();
        add(
            "A connection with one request",
            plot::bars(
                &bars,
                "processor time, microseconds, of client, balancer and backend",
            ),
        );
    }
    pictures
}

fn cost_lines(results: &Results, wanted: impl Fn(&str) -> bool) -> Vec<Line<'_>> {
    names_of(results.cost.iter().map(|entry| entry.scenario.as_str()))
        .into_iter()
        .filter(|name| wanted(name))
        .map(|name| Line {
            name,
            points: results
                .cost
                .iter()
                .filter(|entry| entry.scenario == name)
                .map(|entry| (entry.flows, entry.net_ns.median))
                .collect(),
        })
        .collect()
}

fn table(rows: &[Vec<String>]) -> String {
    let mut html = String::from("<table>");
    for (index, row) in rows.iter().enumerate() {
        html.push_str("<tr>");
        for cell in row {
            let class = if cell == "DOES NOT HOLD" {
                " class='broken'"
            } else {
                ""
            };
            let element = if index == 0 { "th" } else { "td" };
            let _ = write!(html, "<{element}{class}>{}</{element}>", escape(cell));
        }
        html.push_str("</tr>");
    }
    html + "</table>"
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    #[test]
    fn the_page_asks_no_other_host_for_anything() {
        let mut results = samples::good();
        results.bounds = super::super::bounds(&results);
        let page = page(&results);
        for reference in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!page.contains(reference), "{reference}");
        }
        // The name of SVG's namespace is no address that is asked.
        let addresses = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!addresses.contains("http"), "another address");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<svg").count(), 4);
    }

    #[test]
    fn what_does_not_hold_and_what_failed_stand_out() {
        let mut results = samples::good();
        results.cost[1] = samples::cost("ipip/tcp4/rest", 1, 90.0);
        results.bounds = super::super::bounds(&results);
        results.failed = vec!["live: <no> room".to_owned()];
        let page = page(&results);
        assert!(page.contains("<td class='broken'>DOES NOT HOLD</td>"));
        assert!(page.contains("Not measured: live: &lt;no&gt; room"));
    }
}
