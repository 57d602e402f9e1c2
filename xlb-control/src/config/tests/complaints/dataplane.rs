//! `[dataplane]`.

use super::{Row, expect};
use crate::config::{Severity, tests::refused};

#[test]
fn dataplane() {
    let rows: &[Row<'_>] = &[
        (
            "mode = \"nativ\"",
            "`mode` can't be `nativ`",
            (3, 8),
            "did you mean `native`?",
        ),
        (
            "mode = 1",
            "`mode` must be a string, not an integer",
            (3, 8),
            "`\"1\"`",
        ),
        (
            "max_flows = 10",
            "`max_flows` is 10, out of range",
            (3, 13),
            "from 1,024 to 16,777,216",
        ),
        (
            "max_pending = -1",
            "`max_pending` is -1, out of range",
            (3, 15),
            "from 1,024",
        ),
        (
            "max_pending = 1e6",
            "`max_pending` must be an integer, not a float",
            (3, 15),
            "",
        ),
        (
            "hash_key = \"abc\"",
            "`hash_key` is not 32 hexadecimal digits, but 3 characters",
            (3, 12),
            "openssl rand -hex 16",
        ),
        (
            "hash_key = \"0001020304050607_8090a0b0c0d0e0f\"",
            "`hash_key` is not 32 hexadecimal digits, but 32 characters",
            (3, 12),
            "openssl",
        ),
        (
            "tunnel_source_v4 = \"2001:db8::1\"",
            "`tunnel_source_v4` is an IPv6 address",
            (3, 20),
            "`tunnel_source_v6`",
        ),
        (
            "tunnel_source_v6 = \"192.0.2.1\"",
            "`tunnel_source_v6` is an IPv4 address",
            (3, 20),
            "`tunnel_source_v4`",
        ),
        (
            "tunnel_source_v4 = \"127.0.0.1\"",
            "127.0.0.1 can't be a tunnel's source: it is a loopback address",
            (3, 20),
            "unicast",
        ),
        (
            "interval = \"1s\"",
            "unknown key `interval` in [dataplane]",
            (3, 1),
            "`interval` belongs in a check",
        ),
        (
            "zzz = 1",
            "unknown key `zzz` in [dataplane]",
            (3, 1),
            "use one of `interfaces`, `mode`, `hash_key`",
        ),
    ];
    for &(line, message, place, help) in rows {
        let text = format!("[dataplane]\ninterfaces = [\"eth0\"]\n{line}\n");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
}

#[test]
fn interfaces() {
    let rows: &[Row<'_>] = &[
        (
            "[]",
            "`interfaces` is empty: packets would be taken from nowhere",
            (2, 14),
            "`ip link`",
        ),
        (
            "\"eth0\"",
            "`interfaces` must be an array of names, not a string",
            (2, 14),
            "interfaces = [\"eth0\"]",
        ),
        (
            "[1]",
            "an element of `interfaces` must be a string, not an integer",
            (2, 15),
            "",
        ),
        (
            "[\"\"]",
            "the interface's name is empty",
            (2, 15),
            "`ip link`",
        ),
        (
            "[\"a23456789012345\", \"a234567890123456\"]",
            "`a234567890123456` is 16 bytes long, and an interface's name at most 15",
            (2, 34),
            "`ip link`",
        ),
        (
            "[\"a/b\"]",
            "`a/b` can't be the name of an interface",
            (2, 15),
            "`ip link`",
        ),
        (
            "[\"eth0\", \"eth0\"]",
            "interface `eth0` is named twice",
            (2, 23),
            "the first is at xlb.toml:2:15",
        ),
    ];
    for &(value, message, place, help) in rows {
        let text = format!("[dataplane]\ninterfaces = {value}\n");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
    let many: Vec<String> = (0..64).map(|i| format!("\"eth{i}\"")).collect();
    let text = format!("[dataplane]\ninterfaces = [{}]\n", many.join(", "));
    let row = (
        text.as_str(),
        "`interfaces` has 64 names",
        (2, 14),
        "at most 63",
    );
    expect(&refused(&text), Severity::Error, row);
}

#[test]
fn vlans() {
    let rows: &[Row<'_>] = &[
        (
            "\"eth0.20\"",
            "`vlans` must be an array of names, not a string",
            (3, 9),
            "vlans = [\"eth0.20\"]",
        ),
        (
            "[\"a/b\"]",
            "`a/b` can't be the name of an interface",
            (3, 10),
            "`ip link`",
        ),
        (
            "[\"eth0.20\", \"eth0.20\"]",
            "interface `eth0.20` is named twice",
            (3, 21),
            "the first is at xlb.toml:3:10",
        ),
        (
            "[\"eth0\"]",
            "`eth0` is in `interfaces` too",
            (3, 9),
            "leave it in `vlans` alone",
        ),
    ];
    for &(value, message, place, help) in rows {
        let text = format!("[dataplane]\ninterfaces = [\"eth0\"]\nvlans = {value}\n");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
    let many: Vec<String> = (0..63).map(|i| format!("\"eth0.{i}\"")).collect();
    let text = format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\nvlans = [{}]\n",
        many.join(", ")
    );
    let row = (
        text.as_str(),
        "`interfaces` and `vlans` have 64 names together",
        (3, 9),
        "at most 63",
    );
    expect(&refused(&text), Severity::Error, row);
}
