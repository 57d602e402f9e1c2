//! Metrics, as Prometheus would scrape them.

use std::collections::BTreeMap;

use xlb_tests::lab::{checked_output, wait_until};

use crate::stage::{PATIENCE, Stage, WEB};

const ADDRESS: &str = "127.0.0.1:9464";

/// Series with their values: a scrape of the control socket.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(stage: &Stage) -> Self {
        let socket = stage.agent.socket_path().display().to_string();
        Self::read(&scrape(
            stage,
            &["--unix-socket", &socket, "http://xlb/metrics"],
        ))
    }

    fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "it is whole: {text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        let mut found = BTreeMap::new();
        for (series, value) in series {
            assert_eq!(found.insert(series.clone(), value), None, "{series} twice");
        }
        Self(found)
    }

    #[track_caller]
    fn get(&self, series: &str) -> f64 {
        let value = self.0.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:#?}", self.0))
    }

    /// Sum of the series of a metric that have a label.
    fn sum(&self, metric: &str, label: &str) -> f64 {
        let of_metric = |series: &str| series.starts_with(metric) && series.contains(label);
        let found = self.0.iter().filter(|(series, _)| of_metric(series));
        found.map(|(_, value)| value).sum()
    }
}

fn scrape(stage: &Stage, arguments: &[&str]) -> String {
    let mut curl = stage.topology.balancer.ns.command("curl");
    checked_output(
        curl.args(["-sS", "--fail", "--max-time", "10"])
            .args(arguments),
    )
}

#[test]
fn metrics_say_what_happens() {
    let mut stage = Stage::prepare("metrics", 2, crate::stage::usual);
    stage.agent.run_with(&["--metrics", ADDRESS]);
    stage.agent.start_again();
    stage.wait_until_well();

    let before = Scrape::of(&stage);
    for _ in 0..20 {
        let _ = stage.fetch(WEB).expect("an answer");
    }
    let after = Scrape::of(&stage);
    let opened = |scrape: &Scrape| scrape.sum("xlb_backend_connections_total{", "service=\"web\"");
    assert!(opened(&after) - opened(&before) >= 20.0);
    for index in 0..2 {
        let labels = format!(
            "service=\"web\",pool=\"web\",backend=\"{}\"",
            stage.web(index)
        );
        assert!(after.get(&format!("xlb_backend_packets_total{{{labels}}}")) > 0.0);
        assert!(after.get(&format!("xlb_backend_reply_bytes_total{{{labels}}}")) > 0.0);
    }

    // Histograms are cumulative, and count what was answered.
    let probed = format!("pool=\"web\",backend=\"{}\"", stage.web(0));
    let duration = "xlb_health_check_duration_seconds";
    let answered = after.get(&format!(
        "xlb_health_checks_total{{{probed},code=\"L4OK\"}}"
    ));
    assert!(answered >= 1.0);
    assert_eq!(
        after.get(&format!("{duration}_count{{{probed}}}")),
        answered
    );
    let last = after.get(&format!("{duration}_bucket{{le=\"+Inf\",{probed}}}"));
    assert_eq!(last, answered);
    assert!(after.get(&format!("{duration}_sum{{{probed}}}")) > 0.0);

    assert_eq!(
        after.get("xlb_service_state{service=\"web\",state=\"up\"}"),
        1.0
    );
    assert_eq!(after.sum("xlb_service_state{", "service=\"web\""), 1.0);
    assert_eq!(
        after.get("xlb_interface_up{interface=\"eth0\",mode=\"native\"}"),
        1.0
    );
    assert!(after.get("xlb_map_memory_bytes{map=\"BACKENDS\"}") > 4096.0);
    assert!(after.get("process_cpu_seconds_total") > 0.0);

    // The address says the same.
    let there = Scrape::read(&scrape(&stage, &[&format!("http://{ADDRESS}/metrics")]));
    assert!(opened(&there) >= opened(&after));
    let series = |scrape: &Scrape| scrape.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(series(&there), series(&after));
}

#[test]
fn metrics_say_what_goes_wrong() {
    let mut stage = Stage::start("metrics-ill", 2);
    let backend = stage.web(0);
    let good = Scrape::of(&stage);
    assert_eq!(good.get("xlb_config_last_reload_successful"), 1.0);
    assert_eq!(good.get("xlb_config_reloads_refused_total"), 0.0);

    stage.agent.write_config("[dataplane]\n");
    assert_ne!(stage.cli("reload").code, 0);
    drop(stage.backends.remove(0));
    let labels = format!("pool=\"web\",backend=\"{backend}\"");
    wait_until("the backend is down", PATIENCE, || {
        let state = format!("xlb_backend_state{{{labels},state=\"down\"}}");
        Scrape::of(&stage).get(&state) > 0.0
    });
    let ill = Scrape::of(&stage);
    assert_eq!(ill.get("xlb_config_last_reload_successful"), 0.0);
    assert_eq!(ill.get("xlb_config_reloads_refused_total"), 1.0);
    let refused = format!("xlb_health_checks_total{{{labels},code=\"L4CON\"}}");
    assert!(ill.get(&refused) >= 2.0);
    assert_eq!(
        ill.get("xlb_service_state{service=\"web\",state=\"degraded\"}"),
        1.0
    );
    assert_eq!(
        ill.get("xlb_service_backends_accepting{service=\"web\"}"),
        1.0
    );
}

#[test]
fn an_address_for_metrics_that_is_taken_is_refused() {
    let mut stage = Stage::prepare("metrics-taken", 1, crate::stage::usual);
    stage.agent.run_with(&["--metrics", "192.0.2.99:9464"]);
    stage.start_that_fails().refused_with(&[
        "listen for scrapes of metrics at 192.0.2.99:9464",
        "--metrics",
    ]);
}
