//! What is printed, in full.

use super::{accepted, refused};

#[test]
fn all_errors_are_printed_at_once() {
    let text = r#"[dataplane]
interface = ["eth0"]

[[pool]]
name = "web"
backends = [
    { address = "10.0.1.7", port = 0 },
    { address = "10.0.1.8:8080", port = 8080 },
]
check = { type = "tcp", interval = 10 }

[[service]]
name = "web"
vip = "192.0.2.10"
port = 443
forward = "fulnat"
pool = "wbe"
"#;
    assert_eq!(
        refused(text).to_string(),
        r##"xlb.toml:2:1: error: unknown key `interface` in [dataplane]
  |
2 | interface = ["eth0"]
  | ^^^^^^^^^
  |
  = help: did you mean `interfaces`?

xlb.toml:7:36: error: `port` is 0, out of range
  |
7 |     { address = "10.0.1.7", port = 0 },
  |                                    ^
  |
  = help: it may be from 1 to 65,535

xlb.toml:8:17: error: `10.0.1.8:8080` is not an IP address
  |
8 |     { address = "10.0.1.8:8080", port = 8080 },
  |                 ^^^^^^^^^^^^^^^
  |
  = help: write the port under its own key: `"10.0.1.8"` and `port = 8080`

xlb.toml:10:36: error: `interval` has no unit
   |
10 | check = { type = "tcp", interval = 10 }
   |                                    ^^
   |
   = help: add one, such as `"10s"` or `"10ms"`

xlb.toml:16:11: error: `forward` can't be `fulnat`
   |
16 | forward = "fulnat"
   |           ^^^^^^^^
   |
   = help: did you mean `full-nat`?

xlb.toml:17:8: error: service `web` names pool `wbe`, which does not exist
   |
17 | pool = "wbe"
   |        ^^^^^
   |
   = help: did you mean `web`?"##
    );
}

#[test]
fn a_second_place_is_named() {
    let text = r#"[dataplane]
interfaces = ["eth0"]
[[service]]
name = "b"
vip = "2001:db8::1"
port = 443
forward = "dnat"
backends = [{ address = "2001:db8:1::7", port = 8080 }]
[[service]]
name = "a"
vip = "2001:db8::2"
port = 443
forward = "dnat"
backends = [{ address = "2001:db8:1::7", port = 8080 }]
"#;
    assert_eq!(
        refused(text).to_string(),
        r##"xlb.toml:14:1: error: services `a` and `b` both reach [2001:db8:1::7]:8080/tcp by `dnat`: its replies would not tell which service they belong to
   |
14 | backends = [{ address = "2001:db8:1::7", port = 8080 }]
   | ^^^^^^^^
   |
   = help: give each service backends, or ports of the backends, of its own; or use `full-nat`, which tells replies apart by port; the other is at xlb.toml:8:1"##
    );
}

#[test]
fn a_syntax_error_has_its_place() {
    let text = "[dataplane]\ninterfaces = [\"eth0\"\nmode = auto\n";
    assert_eq!(
        refused(text).to_string(),
        r##"xlb.toml:3:1: error: the array is not closed, or a comma is missing
  |
3 | mode = auto
  | ^
  |
  = help: put a `,` between two values, and a `]` behind the last"##
    );
}

#[test]
fn colours_are_for_those_who_ask() {
    let text = "[dataplane]\ninterfaces = []\n";
    assert_eq!(
        refused(text).render(true).replace('\u{1b}', "␛"),
        r##"␛[1mxlb.toml:2:14:␛[0m ␛[1;31merror␛[0m␛[1m: `interfaces` is empty: packets would be taken from nowhere␛[0m
  ␛[1m␛[94m|␛[0m
␛[1m␛[94m2␛[0m ␛[1m␛[94m|␛[0m interfaces = []
  ␛[1m␛[94m|␛[0m              ␛[1m␛[91m^^␛[0m
  ␛[1m␛[94m|␛[0m
  ␛[1m␛[94m= ␛[0m␛[1mhelp␛[0m: name one or more, such as `["eth0"]`; `ip link` lists them"##
    );
}

#[test]
fn warnings_are_printed_alike() {
    let text = "[dataplane]\ninterfaces = [\"eth0\"]\n[[pool]]\nname = \"spare\"\n";
    assert_eq!(
        accepted(text).warnings.to_string(),
        r##"xlb.toml:3:1: warning: pool `spare` has no backends: its services serve nothing
  |
3 | [[pool]]
  | ^^^^^^^^
  |
  = help: add some here, or at run time with `xlb-agent backend add spare ADDRESS:PORT`

xlb.toml:4:8: warning: no service uses pool `spare`
  |
4 | name = "spare"
  |        ^^^^^^^
  |
  = help: write `pool = "spare"` in a [[service]], or remove the pool"##
    );
}

#[test]
fn a_long_value_is_cut_and_control_characters_are_shown() {
    let text = "[dataplane]\ninterfaces = {\n a = 1,\n b = 2,\n c = 3,\n d = 4,\n e = 5,\n f = 6,\n}\n\"\\u001b[31m\" = 1\n";
    assert_eq!(
        refused(text).to_string(),
        r##"xlb.toml:2:14: error: `interfaces` must be an array of names, not a table
  |
2 |   interfaces = {
  |  ______________^
3 | |  a = 1,
4 | |  b = 2,
5 | |  c = 3,
6 | |  d = 4,
7 | |  e = 5,
  | |_______^
  |
  = help: write it as `interfaces = ["eth0"]`

xlb.toml:10:1: error: unknown key `\u{1b}[31m` in [dataplane]
   |
10 | "\u001b[31m" = 1
   | ^^^^^^^^^^^^
   |
   = help: use one of `interfaces`, `mode`, `hash_key`, `vlans`, `tunnel_source_v4`, `tunnel_source_v6`, `settle`, `max_flows`, `max_pending`, `max_fragmented`, `nat_source`, `nat_ports`, `nat_timeouts`"##
    );
}
