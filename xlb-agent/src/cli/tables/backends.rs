//! `backend list`.

use xlb_control::api::BackendStatus;

use super::{Style, always, layout, or_dash, wide};
use crate::cli::{
    units::{bytes, count, duration_s},
    values::name,
};

/// A line for each backend.
pub(in crate::cli) fn table(backends: &[BackendStatus], style: Style) -> String {
    let headers = [
        always("POOL"),
        always("BACKEND"),
        wide("NUMBER"),
        always("WEIGHT"),
        always("STATE"),
        always("SLOTS"),
        always("LEAVING"),
        always("ENDS-IN"),
        always("NEXT-HOP"),
        always("ORIGIN"),
        wide("RECORDED"),
        always("OPEN"),
        always("CONNS"),
        always("PACKETS"),
        always("BYTES"),
        wide("REPLIES"),
        wide("REPLY-BYTES"),
    ];
    layout(
        style,
        headers,
        backends.iter().map(|backend| {
            [
                backend.pool.clone(),
                backend.endpoint.to_string(),
                backend.number.to_string(),
                backend.weight.to_string(),
                name(&backend.state),
                backend.slots.to_string(),
                backend.leaving_slots.to_string(),
                or_dash(backend.drain_ends_in_s.map(duration_s)),
                or_dash(backend.next_hop.clone()),
                name(&backend.origin),
                count(backend.recorded_flows),
                or_dash(backend.open_connections.map(count)),
                count(backend.counters.connections),
                count(backend.counters.packets),
                bytes(backend.counters.bytes),
                count(backend.counters.reply_packets),
                bytes(backend.counters.reply_bytes),
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
            table(&samples::backends(), Style::PLAIN),
            "\
POOL   BACKEND              WEIGHT   STATE        SLOTS   LEAVING   ENDS-IN   NEXT-HOP                     ORIGIN    OPEN    CONNS   PACKETS   BYTES
web    10.0.1.7:8080        1        up           8191    0         -         52:54:00:00:00:01 dev eth0   file      12.3k   871     12.3k     1.5 MiB
web    10.0.1.8:8080        1        draining     0       5461      4m59s     52:54:00:00:00:01 dev eth0   file      12.3k   871     12.3k     1.5 MiB
web    [2001:db8::7]:8080   1        unresolved   8191    0         -         -                            runtime   -       0       0         0 B
"
        );
    }

    #[test]
    fn golden_wide() {
        assert_eq!(
            table(&samples::backends()[1..2], Style::WIDE),
            "\
POOL   BACKEND         NUMBER   WEIGHT   STATE      SLOTS   LEAVING   ENDS-IN   NEXT-HOP                     ORIGIN   RECORDED   OPEN    CONNS   PACKETS   BYTES     REPLIES   REPLY-BYTES
web    10.0.1.8:8080   2        1        draining   0       5461      4m59s     52:54:00:00:00:01 dev eth0   file     0          12.3k   871     12.3k     1.5 MiB   12.0k     94.4 MiB
"
        );
    }

    #[test]
    fn nothing_to_list_is_a_line_of_headers() {
        assert_eq!(table(&[], Style::PLAIN).lines().count(), 1);
    }
}
