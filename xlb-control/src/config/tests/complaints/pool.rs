//! Pools, their backends and their checks.

use super::{Row, expect};
use crate::config::{
    Severity,
    tests::{HEAD, refused},
};

#[test]
fn pools() {
    let rows: &[Row<'_>] = &[
        (
            "ring_slots = 16384",
            "`ring_slots` must be prime, and 16384 is not",
            (7, 14),
            "the nearest are `16381` and `16411`",
        ),
        (
            "ring_slots = 13",
            "`ring_slots` is 13, out of range",
            (7, 14),
            "from 251 to 1,048,573",
        ),
        (
            "ring_slots = 1048575",
            "`ring_slots` is 1048575, out of range",
            (7, 14),
            "from 251 to 1,048,573",
        ),
        (
            "down_grace = 10",
            "`down_grace` has no unit",
            (7, 14),
            "`\"10s\"`",
        ),
        (
            "down_grace = \"10\"",
            "`down_grace` has no unit",
            (7, 14),
            "`\"10s\"`",
        ),
        (
            "down_grace = \"0\"",
            "`down_grace` has no unit",
            (7, 14),
            "`\"0s\"`",
        ),
        (
            "down_grace = \"never\"",
            "`down_grace` is not a duration: expected number at 0",
            (7, 14),
            "or \"forever\"",
        ),
        (
            "down_grace = \"30d\"",
            "`down_grace` is 30d, out of range",
            (7, 14),
            "from 0s to 7days",
        ),
        (
            "down_grace = true",
            "`down_grace` must be a string, not a boolean",
            (7, 14),
            "",
        ),
        (
            "idle_timeout = \"10ms\"",
            "`idle_timeout` is 10ms, out of range",
            (7, 16),
            "from 1s to 7days",
        ),
        (
            "idle_timeout = \"1 hr 3 x\"",
            "`idle_timeout` is not a duration: unknown time unit \"x\", supported units: ns, us/µs, ms, sec, min, hours, days, weeks, months, years (and few variations)",
            (7, 16),
            "\"1h\"",
        ),
        (
            "on_remove = \"drian\"",
            "`on_remove` can't be `drian`",
            (7, 13),
            "did you mean `drain`?",
        ),
        (
            "backend = []",
            "unknown key `backend` in [[pool]]",
            (7, 1),
            "did you mean `backends`?",
        ),
        (
            "Ring-Slots = 251",
            "unknown key `Ring-Slots` in [[pool]]",
            (7, 1),
            "did you mean `ring_slots`?",
        ),
        (
            "backends = \"10.0.1.7\"",
            "`backends` must be an array of tables, not a string",
            (7, 12),
            "`[{ address",
        ),
        (
            "backends = [\"10.0.1.7\"]",
            "an element of `backends` must be a table, not a string",
            (7, 13),
            "{ address",
        ),
        (
            "check = \"tcp\"",
            "`check` must be a table, not a string",
            (7, 9),
            "check = { type = \"tcp\" }",
        ),
        (
            "check = {}",
            "a check has no `type`",
            (7, 9),
            "`type = \"tcp\"`",
        ),
        (
            "check = { type = \"http\" }",
            "`type` can't be `http`",
            (7, 18),
            "use one of `tcp`",
        ),
        (
            "check = { type = \"tcp\", rise = 0 }",
            "`rise` is 0, out of range",
            (7, 32),
            "from 1 to 100",
        ),
        (
            "check = { type = \"tcp\", fall = 0 }",
            "`fall` is 0, out of range",
            (7, 32),
            "from 1 to 100",
        ),
        (
            "check = { type = \"tcp\", port = 65536 }",
            "`port` is 65536, out of range",
            (7, 32),
            "from 1 to 65,535",
        ),
        (
            "check = { type = \"tcp\", interval = \"1ms\" }",
            "`interval` is 1ms, out of range",
            (7, 36),
            "from 10ms to 1h",
        ),
        (
            "check = { type = \"tcp\", timeout = 1.5 }",
            "`timeout` must be a string, not a float",
            (7, 35),
            "`\"1.5\"`",
        ),
        (
            "check = { type = \"tcp\", address = \"x\" }",
            "unknown key `address` in a check",
            (7, 25),
            "belongs in a backend",
        ),
    ];
    for &(line, message, place, help) in rows {
        let text = format!("{HEAD}[[pool]]\nname = \"web\"\n{line}\n");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
}

#[test]
fn backends() {
    let rows: &[Row<'_>] = &[
        (
            "{ port = 80 }",
            "a backend has no `address`",
            (8, 1),
            "10.0.1.7",
        ),
        (
            "{ address = \"10.0.1.7\", port = 0 }",
            "`port` is 0, out of range",
            (8, 32),
            "from 1 to 65,535",
        ),
        (
            "{ address = \"10.0.1.7\", port = \"80\" }",
            "`port` must be an integer, not a string",
            (8, 32),
            "without quotes: `80`",
        ),
        (
            "{ address = \"10.0.1.7\", port = 80, weight = 65536 }",
            "`weight` is 65536, out of range",
            (8, 45),
            "from 0 to 65,535",
        ),
        (
            "{ address = \"10.0.1.7\", port = 99999999999999999999 }",
            "`port` is 99999999999999999999, out of range",
            (8, 32),
            "from 1",
        ),
        (
            "{ address = \"10.0.1.7:80\", port = 80 }",
            "`10.0.1.7:80` is not an IP address",
            (8, 13),
            "`\"10.0.1.7\"` and `port = 80`",
        ),
        (
            "{ address = \"10.0.1.0/24\", port = 80 }",
            "`10.0.1.0/24` is not an IP address",
            (8, 13),
            "without a prefix length",
        ),
        (
            "{ address = \"fe80::1%eth0\", port = 80 }",
            "`fe80::1%eth0` is not an IP address",
            (8, 13),
            "without a zone",
        ),
        (
            "{ address = \"web.example\", port = 80 }",
            "`web.example` is not an IP address",
            (8, 13),
            "host names are not looked up",
        ),
        (
            "{ address = \"\", port = 80 }",
            "`` is not an IP address",
            (8, 13),
            "\"192.0.2.10\"",
        ),
        (
            "{ address = \"::ffff:10.0.1.7\", port = 80 }",
            "::ffff:10.0.1.7 is an IPv4 address in IPv6 notation",
            (8, 13),
            "write it as `10.0.1.7`",
        ),
        (
            "{ address = \"127.0.0.1\", port = 80 }",
            "127.0.0.1 can't be a backend's address: it is a loopback address",
            (8, 13),
            "unicast",
        ),
        (
            "{ adress = \"10.0.1.7\", port = 80 }",
            "unknown key `adress` in a backend",
            (8, 3),
            "did you mean `address`?",
        ),
        (
            "{ address = \"10.0.1.8\", port = 80 },\n{ address = \"10.0.1.8\", port = 80, weight = 2 }",
            "backend 10.0.1.8:80 stands twice in the pool",
            (9, 1),
            "the first is at xlb.toml:8:1",
        ),
    ];
    for &(line, message, place, help) in rows {
        let text = format!("{HEAD}[[pool]]\nname = \"web\"\nbackends = [\n{line}\n]\n");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
}
