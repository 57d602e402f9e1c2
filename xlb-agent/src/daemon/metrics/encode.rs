//! The text of metrics: OpenMetrics, which Prometheus asks for.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use xlb_control::health::Tally;

use super::Sample;

/// The text of a sample.
pub(super) fn text(sample: Sample) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Labels of a series.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What a metric is called and what it is.
pub(super) struct Metric<'a> {
    name: &'a str,
    help: &'a str,
    kind: MetricType,
    unit: Option<Unit>,
}

/// A metric that goes up and down.
pub(super) const fn gauge<'a>(name: &'a str, help: &'a str) -> Metric<'a> {
    Metric::of(MetricType::Gauge, name, help)
}

/// A metric that only grows.
pub(super) const fn counter<'a>(name: &'a str, help: &'a str) -> Metric<'a> {
    Metric::of(MetricType::Counter, name, help)
}

/// A metric of values by their size.
pub(super) const fn histogram<'a>(name: &'a str, help: &'a str) -> Metric<'a> {
    Metric::of(MetricType::Histogram, name, help)
}

impl<'a> Metric<'a> {
    const fn of(kind: MetricType, name: &'a str, help: &'a str) -> Self {
        Self {
            name,
            help,
            kind,
            unit: None,
        }
    }

    pub(super) fn in_seconds(mut self) -> Self {
        self.unit = Some(Unit::Seconds);
        self
    }

    pub(super) fn in_bytes(mut self) -> Self {
        self.unit = Some(Unit::Bytes);
        self
    }
}

/// Where metrics are written.
pub(super) struct Out<'a>(pub(super) DescriptorEncoder<'a>);

impl Out<'_> {
    /// Writes a metric with its series.
    pub(super) fn write(
        &mut self,
        metric: Metric<'_>,
        series: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let Metric {
            name,
            help,
            kind,
            unit,
        } = metric;
        let encoder = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        series(&mut Family(encoder))
    }
}

/// Where the series of a metric are written.
pub(super) struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    /// A gauge with labels.
    pub(super) fn one(&mut self, labels: Labels<'_>, value: f64) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }

    /// A gauge without.
    pub(super) fn alone(&mut self, value: f64) -> fmt::Result {
        self.0.encode_gauge(&value)
    }

    pub(super) fn count(&mut self, labels: Labels<'_>, value: u64) -> fmt::Result {
        let mut series = self.0.encode_family(&labels)?;
        series.encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    pub(super) fn count_seconds(&mut self, labels: Labels<'_>, value: f64) -> fmt::Result {
        let mut series = self.0.encode_family(&labels)?;
        series.encode_counter::<NoLabelSet, f64, f64>(&value, None)
    }

    pub(super) fn histogram(&mut self, labels: Labels<'_>, tally: &Tally) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = tally.latencies().collect();
        let count = buckets.iter().map(|&(_, count)| count).sum();
        let sum = tally.latency_sum().as_secs_f64();
        let mut series = self.0.encode_family(&labels)?;
        series.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
