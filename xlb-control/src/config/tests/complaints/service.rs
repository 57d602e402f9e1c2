//! Services, one key at a time.

use super::{Row, expect};
use crate::config::{
    Severity,
    tests::{HEAD, SOUND, refused},
};

#[test]
fn services() {
    let rows: &[(&str, Row<'_>)] = &[
        (
            "name = \"web\"\nvip",
            (
                "vip",
                "[[service]] has no `name`",
                (9, 1),
                "`name = \"web\"`",
            ),
        ),
        (
            "name = \"web\"\nvip",
            (
                "name = \"a b\"\nvip",
                "a name can't contain ` `",
                (10, 8),
                "use 1 to 63 of",
            ),
        ),
        (
            "name = \"web\"\nvip",
            (
                "name = \"\"\nvip",
                "the name is empty",
                (10, 8),
                "use 1 to 63 of",
            ),
        ),
        (
            "name = \"web\"\nvip",
            (
                "name = \"é\"\nvip",
                "a name can't contain `é`",
                (10, 8),
                "use 1 to 63 of",
            ),
        ),
        (
            "vip = \"192.0.2.10\"\n",
            (
                "",
                "[[service]] has no `vip`",
                (9, 1),
                "`vip = \"192.0.2.10\"`",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"0.0.0.0\"",
                "0.0.0.0 can't be a VIP: it is the unspecified address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"::\"",
                ":: can't be a VIP: it is the unspecified address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"127.1.2.3\"",
                "127.1.2.3 can't be a VIP: it is a loopback address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"::1\"",
                "::1 can't be a VIP: it is a loopback address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"239.1.1.1\"",
                "239.1.1.1 can't be a VIP: it is a multicast address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"ff02::1\"",
                "ff02::1 can't be a VIP: it is a multicast address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"255.255.255.255\"",
                "255.255.255.255 can't be a VIP: it is the broadcast address",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"0.1.2.3\"",
                "0.1.2.3 can't be a VIP: it is in 0.0.0.0/8, which names no host",
                (11, 7),
                "unicast",
            ),
        ),
        (
            "\"192.0.2.10\"",
            (
                "\"::ffff:192.0.2.10\"",
                "::ffff:192.0.2.10 is an IPv4 address in IPv6 notation",
                (11, 7),
                "`192.0.2.10`",
            ),
        ),
        (
            "port = 443",
            ("", "[[service]] has no `port`", (9, 1), "`port = 443`"),
        ),
        (
            "port = 443",
            (
                "port = 0",
                "`port` is 0, out of range",
                (12, 8),
                "from 1 to 65,535",
            ),
        ),
        (
            "port = 443",
            (
                "port = 443\nprotocol = \"TCP\"",
                "`protocol` can't be `TCP`",
                (13, 12),
                "did you mean `tcp`?",
            ),
        ),
        (
            "port = 443",
            (
                "port = 443\nall_down = \"reject\"",
                "`all_down` can't be `reject`",
                (13, 12),
                "use one of `panic`, `drop`",
            ),
        ),
        (
            "port = 443",
            (
                "port = 443\nannounce = \"bgp\"",
                "`announce` can't be `bgp`",
                (13, 12),
                "use one of `arp`",
            ),
        ),
        (
            "forward = \"dnat\"\n",
            (
                "",
                "[[service]] has no `forward`",
                (9, 1),
                "`forward = \"dnat\"`",
            ),
        ),
        (
            "\"dnat\"",
            (
                "\"l2dsr\"",
                "`forward` can't be `l2dsr`",
                (13, 11),
                "did you mean `l2-dsr`?",
            ),
        ),
        (
            "pool = \"web\"\n",
            (
                "",
                "the service has no pool",
                (9, 1),
                "or `backends` of its own",
            ),
        ),
        (
            "pool = \"web\"\n",
            (
                "pool = \"wbe\"\n",
                "service `web` names pool `wbe`, which does not exist",
                (14, 8),
                "did you mean `web`?",
            ),
        ),
        (
            "pool = \"web\"\n",
            (
                "pool = \"mail\"\n",
                "service `web` names pool `mail`, which does not exist",
                (14, 8),
                "use one of `web`",
            ),
        ),
        (
            "pool = \"web\"\n",
            (
                "pool = \"web\"\nbackends = []\n",
                "the service names a pool, and has `backends` of its own",
                (15, 1),
                "move `backends`",
            ),
        ),
        (
            "pool = \"web\"\n",
            (
                "backends = []\n",
                "the backends of service `web` make a pool `web`, which exists already",
                (10, 8),
                "the other is at xlb.toml:6:8",
            ),
        ),
    ];
    for &(old, (new, message, place, help)) in rows {
        let text = format!("{HEAD}{}", SOUND.replacen(old, new, 1));
        expect(
            &refused(&text),
            Severity::Error,
            (&text, message, place, help),
        );
    }
    let long = "n".repeat(64);
    let text = format!(
        "{HEAD}{}",
        SOUND.replace("name = \"web\"\nvip", &format!("name = \"{long}\"\nvip"))
    );
    let row = (
        text.as_str(),
        "the name is 64 bytes long",
        (10, 8),
        "use 1 to 63",
    );
    expect(&refused(&text), Severity::Error, row);
}
