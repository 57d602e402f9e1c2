//! No text makes the decoder or the printer panic, and no list of changes breaks a configuration.

use proptest::prelude::*;

use super::{HEAD, SOUND};
use crate::config::Config;

/// Decodes, and prints what there is to print.
fn exercise(text: &str) {
    match Config::parse("fuzz\u{1b}.toml", text) {
        Ok(loaded) => {
            assert!(crate::config::check_invariants(&loaded.config).is_empty());
            let _text = loaded.warnings.render(true);
        }
        Err(diagnostics) => {
            assert!(diagnostics.errors() > 0);
            let text = diagnostics.render(false);
            assert!(!text.contains('\u{1b}'), "{text:?}");
            for diagnostic in &diagnostics {
                assert!(diagnostic.line > 0 && diagnostic.column > 0);
            }
        }
    }
}

/// Values of every type, many of them nearly right.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (0_i64..70_000).prop_map(|n| n.to_string()),
        "\\PC{0,12}".prop_map(|s| format!("{s:?}")),
        "[0-9]{1,3}(ms|s|m|h|)".prop_map(|s| format!("{s:?}")),
        Just("\"10.0.1.7\"".to_owned()),
        Just("\"192.0.2.10\"".to_owned()),
        Just("\"::ffff:10.0.0.1\"".to_owned()),
        Just("\"web\"".to_owned()),
        Just("\"dnat\"".to_owned()),
        Just("\"local\"".to_owned()),
        Just("\"127.0.0.1:443\"".to_owned()),
        Just("\"tcp\"".to_owned()),
        Just("\"udp\"".to_owned()),
        Just("\"tracked\"".to_owned()),
        Just("\"round-robin\"".to_owned()),
        Just("\"client-ip\"".to_owned()),
        Just("true".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("nan".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|v| format!("[{}]", v.join(", "))),
            prop::collection::btree_map(key(), inner, 0..4).prop_map(|map| {
                let pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k} = {v}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "name",
        "vip",
        "port",
        "protocol",
        "forward",
        "pool",
        "policy",
        "affinity",
        "udp",
        "udp_idle_timeout",
        "all_down",
        "announce",
        "listener",
        "ring_slots",
        "backends",
        "check",
        "down_grace",
        "idle_timeout",
        "on_remove",
        "slow_start",
        "interfaces",
        "mode",
        "hash_key",
        "settle",
        "max_flows",
        "tunnel_source_v4",
        "address",
        "weight",
        "type",
        "interval",
        "timeout",
        "rise",
        "fall",
        "backend",
        "\"ü\"",
    ])
    .prop_map(str::to_owned)
}

/// A file with the right headers and keys, and any values.
fn file() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec!["[[pool]]", "[[service]]", "[dataplane]"]);
    let table =
        (header, prop::collection::btree_map(key(), value(), 0..8)).prop_map(|(header, keys)| {
            let lines: Vec<_> = keys.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
            format!("{header}\n{}", lines.concat())
        });
    prop::collection::vec(table, 0..6).prop_map(|tables| tables.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        exercise(&text);
    }

    #[test]
    fn no_lines_panic(text in "([\\[\\]{}=\",.#a-z0-9\t\r\n é𝒳-]|pool|service|\\[dataplane\\]\n){0,80}") {
        exercise(&text);
    }

    #[test]
    fn no_values_panic(text in file()) {
        exercise(&text);
        exercise(&format!("{HEAD}{text}"));
    }

    #[test]
    fn no_damage_to_a_sound_file_panics(at in 0_usize..400, cut in 0_usize..40, with in "\\PC{0,4}") {
        let mut text = format!("{HEAD}{SOUND}");
        let from = text.floor_char_boundary(at.min(text.len()));
        let to = text.floor_char_boundary((from + cut).min(text.len()));
        text.replace_range(from..to.max(from), &with);
        exercise(&text);
    }
}
