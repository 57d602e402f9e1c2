//! `explain`: what becomes of a packet, a fact a line.

use std::fmt::Write;

use xlb_control::{
    api::{
        ExplainedAction, ExplainedBackend, ExplainedRecord, ExplainedService, ExplainedSlot,
        Explanation,
    },
    config::Protocol,
};

use super::{Style, layout, or_dash};
use crate::cli::units::duration_s;

/// The packet, what is looked at for it, and what becomes of it.
pub(in crate::cli) fn explanation(explanation: &Explanation, style: Style) -> String {
    let mut text = String::new();
    let mut line = |fact: &str, value: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{fact:<9}{value}");
    };
    line("packet", packet(explanation));
    if let Some(found) = &explanation.service {
        line("service", service(found));
    }
    if let Some(slot) = &explanation.slot {
        line("slot", self::slot(explanation, slot));
        line("PENDING", record(explanation, explanation.pending.as_ref()));
        line("FLOWS", record(explanation, explanation.flow.as_ref()));
    }
    line("verdict", verdict(explanation));
    line("why", explanation.verdict.why.clone());
    for note in &explanation.notes {
        line("note", note.clone());
    }
    if !explanation.backends.is_empty() {
        text.push('\n');
        text.push_str(&backends(&explanation.backends, style));
    }
    text
}

fn packet(explanation: &Explanation) -> String {
    let packet = &explanation.packet;
    let kind = match (packet.protocol, packet.syn) {
        (Protocol::Udp, _) => "a datagram",
        (Protocol::Tcp, true) => "a SYN",
        (Protocol::Tcp, false) => "of an established connection",
        (Protocol::Sctp, true) => "an INIT",
        (Protocol::Sctp, false) => "of an established association",
    };
    let sequence = packet
        .sequence
        .map_or_else(String::new, |number| format!(", sequence number {number}"));
    let fragment = if packet.fragment {
        ", the first fragment"
    } else {
        ""
    };
    format!(
        "{} -> {}/{}, {kind}{sequence}{fragment}",
        packet.source, packet.destination, packet.protocol
    )
}

fn service(service: &ExplainedService) -> String {
    let name = service.name.as_deref().unwrap_or("?");
    let forward = service
        .forward
        .map_or_else(|| "?".to_owned(), |forward| forward.to_string());
    let state = match (service.refuses, service.moving) {
        (true, _) => "no backend is well",
        (false, true) => "slots move",
        (false, false) => "at rest",
    };
    let mut text = format!(
        "{name} (number {}): {forward}, pool {}, {state}, {}",
        service.number, service.pool, service.policy
    );
    if let Some(affinity) = service.affinity {
        let _ = write!(text, " by {affinity}");
    }
    if service.tracked {
        text += ", every flow is recorded";
    }
    text
}

fn slot(explanation: &Explanation, slot: &ExplainedSlot) -> String {
    let place = format!("{} of {}", slot.slot, slot.ring_slots);
    let name = |number| backend(explanation, number);
    if !slot.marked {
        return format!("{place}: {}", name(slot.stable));
    }
    let settling = if slot.settling { ", settling" } else { "" };
    let miss = slot.last_miss_age_s.map_or_else(
        || "never".to_owned(),
        |age| format!("{} ago", duration_s(age.into())),
    );
    format!(
        "{place}: moves{settling}; stable {}, target {}; stable last used without a record: {miss}",
        name(slot.stable),
        name(slot.target)
    )
}

fn record(explanation: &Explanation, record: Option<&ExplainedRecord>) -> String {
    let Some(record) = record else {
        return "no record".to_owned();
    };
    let mut text = format!(
        "{}, initial sequence number {}, {} old",
        backend(explanation, record.backend),
        record.initial_sequence,
        duration_s(record.age_s.into())
    );
    for (holds, what) in [
        (record.confirmed, "established"),
        (record.tombstone, "about to be deleted"),
        (record.expired, "too old to count"),
    ] {
        if holds {
            let _ = write!(text, ", {what}");
        }
    }
    text
}

fn verdict(explanation: &Explanation) -> String {
    let verdict = &explanation.verdict;
    let reason = or_dash(verdict.reason.clone());
    match verdict.action {
        ExplainedAction::Forward => {
            let found = explanation
                .backends
                .iter()
                .find(|backend| backend.endpoint.is_some() && backend.endpoint == verdict.backend);
            let hop = found.and_then(|backend| backend.next_hop.as_deref());
            format!(
                "forwarded to {} by {}",
                or_dash(verdict.backend.map(|backend| backend.to_string())),
                hop.unwrap_or("?")
            )
        }
        ExplainedAction::Reply => format!(
            "sent to the client as a reply of {}",
            or_dash(verdict.backend.map(|backend| backend.to_string()))
        ),
        ExplainedAction::Pass => format!("passed on to the host ({reason})"),
        ExplainedAction::Drop => format!("dropped ({reason})"),
    }
}

/// A backend by its address, or by its number where nobody is behind that.
fn backend(explanation: &Explanation, number: u16) -> String {
    let mut backends = explanation.backends.iter();
    let known = backends.find(|backend| backend.number == number);
    match known.and_then(|backend| backend.endpoint) {
        Some(endpoint) => endpoint.to_string(),
        None if number == 0 => "nobody".to_owned(),
        None => format!("number {number}"),
    }
}

fn backends(backends: &[ExplainedBackend], style: Style) -> String {
    layout(
        style,
        ["NUMBER", "BACKEND", "NAMED BY", "FLAGS", "NEXT HOP"],
        backends.iter().map(|backend| {
            [
                backend.number.to_string(),
                or_dash(backend.endpoint.map(|endpoint| endpoint.to_string())),
                backend.named_by.join(", "),
                flags(backend),
                or_dash(backend.next_hop.clone()),
            ]
        }),
    )
}

fn flags(backend: &ExplainedBackend) -> String {
    let flags: Vec<&str> = [
        (!backend.used, "free"),
        (backend.drain, "drains"),
        (backend.down, "down"),
        (backend.dead, "dead"),
    ]
    .into_iter()
    .filter_map(|(holds, name)| holds.then_some(name))
    .collect();
    if flags.is_empty() {
        return "-".to_owned();
    }
    flags.join(", ")
}

#[cfg(test)]
mod tests {
    use xlb_control::config::Policy;

    use super::*;
    use crate::cli::samples;

    #[test]
    fn golden() {
        assert_eq!(
            explanation(&samples::explanation(), Style::PLAIN),
            "\
packet   203.0.113.9:51812 -> 192.0.2.10:443/tcp, of an established connection
service  web (number 1): dnat, pool web, slots move, maglev
slot     4711 of 16381: moves; stable 10.0.1.7:8080, target 10.0.1.9:8080; stable last used without a record: 1m5s ago
PENDING  no record
FLOWS    10.0.1.9:8080, initial sequence number 1000, 3s old
verdict  forwarded to 10.0.1.9:8080 by 02:00:0a:00:01:09 eth0
why      the flow is recorded, and goes where the record says
note     something else

NUMBER   BACKEND         NAMED BY        FLAGS          NEXT HOP
2        10.0.1.7:8080   ring, stable    drains, down   -
5        10.0.1.9:8080   target, FLOWS   -              02:00:0a:00:01:09 eth0
"
        );
    }

    #[test]
    fn each_end_is_said() {
        let mut told = samples::explanation();
        told.verdict.reason = Some("all-down".to_owned());
        for (action, line) in [
            (ExplainedAction::Drop, "dropped (all-down)"),
            (ExplainedAction::Pass, "passed on to the host (all-down)"),
            (
                ExplainedAction::Reply,
                "sent to the client as a reply of 10.0.1.9:8080",
            ),
        ] {
            told.verdict.action = action;
            let text = explanation(&told, Style::PLAIN);
            assert!(text.contains(&format!("\nverdict  {line}\n")), "{text}");
        }
        let service = told.service.as_mut().unwrap();
        service.policy = Policy::RoundRobin;
        (service.moving, service.tracked) = (false, true);
        let text = explanation(&told, Style::PLAIN);
        let line = "pool web, at rest, round-robin, every flow is recorded\n";
        assert!(text.contains(line), "{text}");
        (told.service, told.slot) = (None, None);
        told.backends.clear();
        assert_eq!(explanation(&told, Style::PLAIN).lines().count(), 4);
    }
}
