//! `nat list` and `nat sources`.

use xlb_control::api::NatStatus;

use super::{Style, layout, or_dash};
use crate::cli::{units::duration_s, values::name};

/// A line for each connection, with the columns of `ipvsadm -Lc` first.
pub(in crate::cli) fn connections(status: &NatStatus, style: Style) -> String {
    let headers = [
        "PROTOCOL", "EXPIRES", "STATE", "CLIENT", "VIP", "BACKEND", "SOURCE", "SERVICE",
    ];
    let mut text = layout(
        style,
        headers,
        status.connections.iter().map(|connection| {
            [
                name(&connection.protocol),
                duration_s(connection.expires_in_s.into()),
                connection.state.clone(),
                connection.client.to_string(),
                connection.vip.to_string(),
                or_dash(connection.backend.map(|backend| backend.to_string())),
                connection.source.to_string(),
                or_dash(connection.service.clone()),
            ]
        }),
    );
    if status.left_out > 0 {
        text.push_str(&format!(
            "and {} more; `--limit` lists more of them\n",
            status.left_out
        ));
    }
    text
}

/// A line for each source address and protocol.
pub(in crate::cli) fn sources(status: &NatStatus, style: Style) -> String {
    layout(
        style,
        ["SOURCE", "PROTOCOL", "PORTS", "IN-USE", "STATES"],
        status.sources.iter().map(|source| {
            let states: Vec<String> = source
                .by_state
                .iter()
                .map(|(state, count)| format!("{state} {count}"))
                .collect();
            [
                source.source.to_string(),
                name(&source.protocol),
                source.ports.to_string(),
                source.in_use.to_string(),
                or_dash((!states.is_empty()).then(|| states.join(", "))),
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
            connections(&samples::nat(), Style::PLAIN),
            "\
PROTOCOL   EXPIRES   STATE         CLIENT              VIP              BACKEND         SOURCE          SERVICE
tcp        59m58s    established   203.0.113.9:51812   192.0.2.10:443   10.0.1.7:8443   10.0.0.9:1031   legacy
and 2 more; `--limit` lists more of them
"
        );
        assert_eq!(
            sources(&samples::nat(), Style::PLAIN),
            "\
SOURCE     PROTOCOL   PORTS   IN-USE   STATES
10.0.0.9   tcp        64512   3        closed 2, established 1
10.0.0.9   udp        64512   0        -
"
        );
    }
}
