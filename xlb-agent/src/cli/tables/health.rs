//! `health`.

use xlb_control::api::HealthStatus;

use super::{Style, layout, or_dash};
use crate::cli::{
    units::{duration_s, latency_us},
    values::name,
};

/// A line for each backend of each service.
pub(in crate::cli) fn table(health: &[HealthStatus], style: Style) -> String {
    let headers = [
        "SERVICE",
        "POOL",
        "BACKEND",
        "STATE",
        "REASON",
        "DETAIL",
        "RISE/FALL",
        "SINCE",
        "LATENCY",
    ];
    layout(
        style,
        headers,
        health.iter().map(|health| {
            [
                health.service.clone(),
                health.pool.clone(),
                health.endpoint.to_string(),
                name(&health.state),
                health.reason.clone(),
                health.detail.clone(),
                format!("{}/{}", health.rise, health.fall),
                duration_s(health.since_s),
                or_dash(health.latency_us.map(latency_us)),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn golden() {
        assert_eq!(
            table(&samples::health(), Style::PLAIN),
            "\
SERVICE   POOL   BACKEND         STATE   REASON   DETAIL            RISE/FALL   SINCE   LATENCY
web       web    10.0.1.7:8080   up      L4OK     connected         14/0        3m12s   412us
web       web    10.0.1.8:8080   down    L4TOUT   no answer in 1s   0/7         3m12s   -
"
        );
    }
}
