//! Services of this host's own stack.

use super::files_are_refused;
use crate::{
    api::Change,
    config::{
        Config, check_invariants, overrides,
        tests::{HEAD, accepted},
    },
};

/// A service of this host's own stack with further keys, which stand in line 10.
fn with(keys: &str) -> String {
    format!(
        "{HEAD}[[service]]\nname = \"gate\"\nvip = \"192.0.2.10\"\nport = 443\n\
         forward = \"local\"\n{keys}\n"
    )
}

#[test]
fn nothing_is_to_be_chosen_from() {
    for (key, value) in [
        ("pool", "\"web\""),
        ("policy", "\"maglev\""),
        ("affinity", "\"client-ip\""),
        ("ring_slots", "251"),
        ("backends", "[]"),
        ("down_grace", "\"1s\""),
        ("idle_timeout", "\"1s\""),
        ("on_remove", "\"drop\""),
        ("slow_start", "\"1s\""),
    ] {
        let text = with(&format!("{key} = {value}"));
        let message = format!("`{key}` says nothing in a service with `forward = \"local\"`");
        files_are_refused(&[(&text, &message, (10, 1), "remove it")]);
    }
}

#[test]
fn a_listener_is_an_endpoint_of_this_host() {
    let help = "write it as `\"127.0.0.1:443\"` or `\"[::1]:443\"`";
    for (value, message, help) in [
        (
            "443",
            "`listener` must be a string, not an integer",
            "quotes",
        ),
        (
            "\"127.0.0.1\"",
            "`127.0.0.1` is not an address with a port",
            help,
        ),
        (
            "\"0.0.0.0:443\"",
            "0.0.0.0 can't be a listener's address: it is the unspecified address",
            "unicast",
        ),
        ("\"127.0.0.1:0\"", "the port is 0", "from 1 to 65,535"),
    ] {
        let text = with(&format!("listener = {value}"));
        files_are_refused(&[(&text, message, (10, 12), help)]);
    }
    let text = with("").replace(
        "\"local\"\n",
        "\"dnat\"\nbackends = []\nlistener = \"[::1]:1\"",
    );
    files_are_refused(&[(
        &text,
        "`listener` is for `forward = \"local\"`, and this service has `dnat`",
        (11, 1),
        "remove it",
    )]);
}

#[test]
fn commands_can_t_give_such_a_service_other_backends() {
    let file = accepted(&with("")).config;
    let add = Change::BackendAdd {
        pool: "gate".to_owned(),
        endpoint: "10.0.1.7:443".parse().unwrap(),
        weight: 1,
    };
    let said = overrides::record(&mut Vec::new(), add, &file).unwrap_err();
    assert!(
        said.contains("`local`") && said.contains("would have 2"),
        "{said}"
    );
    let mut config: Config = file.clone();
    let mut other = config.services["gate"].clone();
    (other.name, other.port) = ("other".to_owned(), 444.into());
    config.services.insert("other".to_owned(), other);
    let said = check_invariants(&config);
    assert!(
        said.iter().all(|s| s.contains("shares pool `gate`")),
        "{said:?}"
    );
    assert_eq!(said.len(), 2);
}
