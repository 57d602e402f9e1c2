//! `second_chance` of a service.

use super::{Row, expect};
use crate::config::{
    Severity,
    tests::{HEAD, SOUND, accepted, refused},
};

/// A file with these lines at the end of its service, which forwards by this mode.
fn file(forward: &str, lines: &str) -> String {
    format!("{HEAD}{SOUND}{lines}\n").replace("\"dnat\"", &format!("\"{forward}\""))
}

#[test]
fn it_is_off_until_it_is_asked_for() {
    let is_on = |lines: &str| accepted(&file("ipip", lines)).config.services["web"].second_chance;
    assert!(!is_on(""));
    assert!(!is_on("second_chance = false"));
    assert!(is_on("second_chance = true"));
    accepted(&file("dnat", "second_chance = false"));
}

#[test]
fn it_is_refused_where_it_cannot_be() {
    let rows: &[(&str, Row<'_>)] = &[
        (
            "l2-dsr",
            (
                "second_chance = true",
                "`second_chance` needs `forward = \"ipip\"` or `\"gue\"`: only an outer header can name another backend",
                (15, 17),
                "remove it",
            ),
        ),
        (
            "ipip",
            (
                "second_chance = true\nprotocol = \"udp\"",
                "`second_chance` is for TCP: a backend can't tell whose a datagram is",
                (15, 17),
                "remove it",
            ),
        ),
        (
            "ipip",
            (
                "second_chance = true\npolicy = \"round-robin\"",
                "`second_chance` is lost on `policy = \"round-robin\"`: a slot of it does not say which backends a connection can be on",
                (15, 17),
                "remove it",
            ),
        ),
        (
            "ipip",
            (
                "second_chance = 1",
                "`second_chance` must be true or false, not an integer",
                (15, 17),
                "without quotes",
            ),
        ),
    ];
    for &(forward, (lines, message, place, help)) in rows {
        let text = file(forward, lines);
        let row = (text.as_str(), message, place, help);
        expect(&refused(&text), Severity::Error, row);
    }
}
