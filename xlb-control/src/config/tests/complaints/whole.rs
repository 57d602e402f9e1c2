//! The shape of the file, and rules between its parts.

use super::{Row, expect, files_are_refused};
use crate::config::{
    Severity,
    tests::{HEAD, SOUND, accepted, refused},
};

#[test]
fn tables_and_their_shapes() {
    files_are_refused(&[
        (
            "",
            "the file has no [dataplane]",
            (1, 1),
            "interfaces = [\"eth0\"]",
        ),
        (
            "[dataplane]\n",
            "[dataplane] has no `interfaces`",
            (1, 1),
            "interfaces = [\"eth0\"]",
        ),
        (
            "[[dataplane]]\n",
            "`dataplane` must be a table, not an array",
            (1, 1),
            "`[dataplane]`",
        ),
        (
            "[pool]\n",
            "`pool` must be an array of tables, not a table",
            (1, 1),
            "`[[pool]]`",
        ),
        (
            "service = [1]\n",
            "an element of `service` must be a table, not an integer",
            (1, 12),
            "`[[service]]`",
        ),
        (
            "[[services]]\n",
            "unknown key `services` in the file",
            (1, 3),
            "did you mean `service`?",
        ),
        (
            "interfaces = []\n",
            "unknown key `interfaces` in the file",
            (1, 1),
            "`interfaces` belongs in [dataplane]",
        ),
        (
            "[[pool]]\nweight = 1\n",
            "unknown key `weight` in [[pool]]",
            (2, 1),
            "belongs in a backend",
        ),
        (
            "[[pool]]\n",
            "[[pool]] has no `name`",
            (1, 1),
            "`name = \"web\"`",
        ),
        ("a = 1\na = 2\n", "`a` is set twice", (2, 1), "remove one"),
        (
            "[dataplane]\n[dataplane]\n",
            "`dataplane` is set twice",
            (2, 2),
            "double brackets",
        ),
        (
            "a = \n",
            "a value is missing, or has no quotes",
            (1, 5),
            "double quotes",
        ),
    ]);
}

#[test]
fn rules_between_the_parts() {
    let rows: &[Row<'_>] = &[
        (
            "[[pool]]\nname = \"web\"\n",
            "pool `web` exists already",
            (16, 8),
            "the first is at xlb.toml:6:8",
        ),
        (
            "[[service]]\nname = \"web\"\n",
            "service `web` exists already",
            (16, 8),
            "the first is at xlb.toml:10:8",
        ),
        (
            "[[service]]\nname = \"web\"\nvip = \"192.0.2.10\"\nport = 443\nforward = \"dnat\"\npool = \"web\"\n",
            "services `web` and `web` both have the VIP 192.0.2.10:443/tcp",
            (17, 7),
            "the other is at xlb.toml:11:7",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"192.0.2.10\"\nport = 443\nforward = \"gue\"\npool = \"web\"\n",
            "services `api` and `web` both have the VIP 192.0.2.10:443/tcp",
            (17, 7),
            "the other is at xlb.toml:11:7",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"192.0.2.11\"\nport = 443\nforward = \"dnat\"\npool = \"web\"\n",
            "services `api` and `web` both reach 10.0.1.7:8080/tcp by `dnat`: its replies would not tell which service they belong to",
            (20, 8),
            "or use `full-nat`, which tells replies apart by port; the other is at xlb.toml:14:8",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"192.0.2.11\"\nport = 443\nforward = \"dnat\"\nbackends = [{ address = \"10.0.1.7\", port = 8080 }]\n",
            "services `api` and `web` both reach 10.0.1.7:8080/tcp by `dnat`: its replies would not tell which service they belong to",
            (20, 1),
            "the other is at xlb.toml:14:8",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"192.0.2.11\"\nport = 443\nforward = \"dnat\"\nbackends = [{ address = \"192.0.2.10\", port = 443 }]\n",
            "backend 192.0.2.10:443/tcp of service `api` is the VIP of service `web`: packets would come back to the balancer",
            (20, 13),
            "`pool = \"web\"`",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"192.0.2.11\"\nport = 443\nforward = \"ipip\"\nbackends = [{ address = \"192.0.2.11\", port = 80 }]\n",
            "backend 192.0.2.11:80 has the VIP of service `api` as its address: packets would come back to the balancer",
            (20, 13),
            "for itself",
        ),
        (
            "[[service]]\nname = \"api\"\nvip = \"2001:db8::1\"\nport = 443\nforward = \"l2-dsr\"\npool = \"web\"\n",
            "backend 10.0.1.7 is IPv4, and the VIP 2001:db8::1 of service `api` is IPv6: `l2-dsr` needs both in one family",
            (7, 13),
            "a pool for each family",
        ),
    ];
    for &(more, message, place, help) in rows {
        let text = format!("{HEAD}{SOUND}{more}");
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
}

#[test]
fn modes_without_an_outer_header_need_one_family() {
    let text = |mode: &str| {
        format!("{HEAD}{SOUND}")
            .replace("192.0.2.10", "2001:db8::1")
            .replace("\"dnat\"", &format!("\"{mode}\""))
    };
    for mode in ["dnat", "l2-dsr"] {
        let message = refused(&text(mode)).to_string();
        assert!(message.contains("needs both in one family"), "{message}");
    }
    for mode in ["ipip", "gue"] {
        let loaded = accepted(&text(mode));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn more_backends_than_the_ring_or_the_host_can_hold() {
    let backends = |subnet: usize, n: usize| {
        let list: Vec<String> = (0..n)
            .map(|i| {
                format!(
                    "{{address=\"10.{subnet}.{}.{}\",port=1}}",
                    i / 250,
                    i % 250 + 1
                )
            })
            .collect();
        list.join(",")
    };
    let text = format!(
        "{HEAD}[[pool]]\nname = \"web\"\nring_slots = 251\nbackends = [{}]\n",
        backends(0, 252)
    );
    let message = "pool `web` has 252 backends for 251 slots: some would get no connection";
    let row = (text.as_str(), message, (6, 8), "a hundred times");
    expect(&refused(&text), Severity::Error, row);

    let pools: String = (0..5)
        .map(|i| {
            format!(
                "[[pool]]\nname = \"p{i}\"\nbackends = [{}]\n",
                backends(i, 13_200)
            )
        })
        .collect();
    let text = format!("{HEAD}{pools}");
    let message = "the pools have 66000 backends together, and a host at most 65535";
    expect(
        &refused(&text),
        Severity::Error,
        ("..", message, (1, 1), "share pools"),
    );
}

#[test]
fn a_file_that_is_not_text_has_its_place() {
    let path = std::env::temp_dir().join(format!("xlb-not-utf8-{}.toml", std::process::id()));
    std::fs::write(&path, b"[dataplane]\n# \xe9\n").unwrap();
    let error = crate::config::Config::load(&path).unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    let first = format!(
        "{}:2:3: error: the file is not UTF-8 here\n",
        path.display()
    );
    assert!(error.starts_with(&first), "{error}");
}

#[test]
fn columns_count_characters() {
    let text = "[dataplane]\ninterfaces = [\"é\", 1]\n";
    let message = "an element of `interfaces` must be a string, not an integer";
    let row = (text, message, (2, 20), "`\"1\"`");
    expect(&refused(text), Severity::Error, row);
}
