//! What is odd, and accepted.

use super::{Row, expect};
use crate::config::{
    Severity,
    tests::{HEAD, SOUND, accepted},
};

#[test]
fn warnings() {
    let rows: &[Row<'_>] = &[
        (
            "backends = []",
            "pool `web` has no backends: its services serve nothing",
            (7, 1),
            "`xlb-agent backend add web ADDRESS:PORT`",
        ),
        (
            "",
            "pool `web` has no backends: its services serve nothing",
            (5, 1),
            "add some here",
        ),
        (
            "backends = [{ address = \"10.0.1.7\", port = 1, weight = 0 }]",
            "all backends of pool `web` have weight 0: none gets new connections",
            (7, 1),
            "1 or more",
        ),
        (
            "ring_slots = 251\nbackends = [{ address = \"10.0.1.7\", port = 1 }, { address = \"10.0.1.7\", port = 2 }, { address = \"10.0.1.7\", port = 3 }]",
            "pool `web` has 3 backends for 251 slots: with more than a hundredth of the slots (2), their shares are uneven",
            (7, 14),
            "`ring_slots = 307` would do",
        ),
        (
            "backends = [{ address = \"10.0.1.7\", port = 1 }]\ncheck = { type = \"tcp\", timeout = \"2s\" }",
            "`timeout` 2s is longer than `interval` 1s: a probe that hangs delays the next one",
            (8, 35),
            "`timeout = \"1s\"` or less",
        ),
        (
            "backends = [{ address = \"10.0.1.7\", port = 1 }]\ncheck = { type = \"tcp\", interval = \"100ms\" }",
            "`timeout` 1s (the default) is longer than `interval` 100ms: a probe that hangs delays the next one",
            (8, 36),
            "`timeout = \"100ms\"` or less",
        ),
    ];
    let sound = "backends = [{ address = \"10.0.1.7\", port = 8080 }]";
    for &(line, message, place, help) in rows {
        let text = format!("{HEAD}{}", SOUND.replace(sound, line));
        let warnings = accepted(&text).warnings;
        assert_eq!((warnings.len(), warnings.errors()), (1, 0), "{warnings}");
        expect(&warnings, Severity::Warning, (&text, message, place, help));
    }
    let text = format!(
        "{HEAD}{SOUND}{}",
        SOUND.split("\n\n").next().unwrap().replace("web", "spare")
    );
    let row = (
        text.as_str(),
        "no service uses pool `spare`",
        (16, 8),
        "remove the pool",
    );
    expect(&accepted(&text).warnings, Severity::Warning, row);
}
