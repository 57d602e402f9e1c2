//! What a sound file becomes.

use std::time::Duration;

use super::{HEAD, SOUND, accepted};
use crate::config::{
    Affinity, AllDown, Announce, Backend, Check, CheckKind, Config, ConfigError, Forward,
    Fragments, Grace, HashKey, Mode, OnRemove, Policy, Protocol, Settle, Udp,
};

#[test]
fn defaults_are_filled_in() {
    let loaded = accepted(&format!("{HEAD}{SOUND}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.dataplane.interfaces, ["eth0"]);
    assert_eq!(config.dataplane.mode, Mode::Auto);
    assert_eq!(config.dataplane.hash_key, None);
    assert_eq!(config.dataplane.max_flows, 131_072);
    assert_eq!(config.dataplane.max_pending, 65_536);
    assert_eq!(config.dataplane.max_fragmented, 16_384);
    let pool = &config.pools["web"];
    assert_eq!(pool.ring_slots, 16_381);
    assert_eq!(pool.check, None);
    assert_eq!(pool.down_grace, Grace::For(Duration::from_secs(10)));
    assert_eq!(pool.idle_timeout, Duration::from_secs(3600));
    assert_eq!(pool.on_remove, OnRemove::Drain);
    assert_eq!(pool.slow_start, Duration::ZERO);
    assert_eq!(config.dataplane.settle, Settle::Auto);
    assert_eq!(pool.backends[0].weight, 1);
    let service = &config.services["web"];
    assert_eq!(service.protocol, Protocol::Tcp);
    assert_eq!(service.policy, Policy::Maglev);
    assert_eq!(service.affinity, None);
    assert_eq!(service.udp, Udp::Stateless);
    assert_eq!(service.udp_idle_timeout, Duration::from_secs(300));
    assert_eq!(service.all_down, AllDown::Panic);
    assert_eq!(service.fragments, Fragments::Follow);
    assert_eq!(service.announce, None);
}

#[test]
fn fragments_may_go_by_addresses() {
    let service = |name: &str, port: u16, keys: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"192.0.2.53\"\nport = {port}\nforward = \"l2-dsr\"\n\
             backends = [{{ address = \"10.0.1.7\", port = {port} }}]\n{keys}\n"
        )
    };
    let loaded = accepted(&format!(
        "{}max_fragmented = 1_024\n{}{}",
        HEAD.trim_end_matches('\n').to_owned() + "\n",
        service("dns", 53, "protocol = \"udp\"\nfragments = \"address\""),
        // Of TCP there may be others.
        service("dns-tcp", 53, "fragments = \"follow\""),
    ));
    let config = loaded.config;
    assert_eq!(config.dataplane.max_fragmented, 1_024);
    assert_eq!(config.services["dns"].fragments, Fragments::Address);
    assert_eq!(config.services["dns-tcp"].fragments, Fragments::Follow);
}

#[test]
fn every_key_is_read() {
    let loaded = accepted(
        r#"
        [dataplane]
        interfaces = ["eth0", "eth1.100"]
        vlans = ["eth0.20"]
        mode = "native"
        hash_key = "000102030405060708090a0B0c0D0e0F"
        tunnel_source_v4 = "192.0.2.1"
        tunnel_source_v6 = "2001:db8::1"
        settle = "never"
        max_flows = 0x10000
        max_pending = 2_048

        [[pool]]
        name = "v6"
        ring_slots = 65537
        backends = [{ address = "2001:db8:1::7", port = 8080, weight = 65535 }]
        down_grace = "forever"
        idle_timeout = "15m"
        on_remove = "drop"
        slow_start = "90s"
        check.type = "tcp"
        check.interval = "2s"
        check.timeout = "100ms"
        check.rise = 1
        check.fall = 5
        check.port = 81

        [[service]]
        name = "six"
        vip = "2001:db8::10"
        port = 443
        protocol = "udp"
        forward = "ipip"
        pool = "v6"
        policy = "maglev"
        affinity = "client-ip"
        udp = "tracked"
        udp_idle_timeout = "90s"
        all_down = "drop"
        announce = "arp"
        "#,
    );
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    let dataplane = &config.dataplane;
    assert_eq!(dataplane.interfaces, ["eth0", "eth1.100"]);
    assert_eq!(dataplane.vlans, ["eth0.20"]);
    assert_eq!(dataplane.mode, Mode::Native);
    let key = HashKey(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    assert_eq!(dataplane.hash_key, Some(key));
    assert_eq!(
        dataplane.tunnel_source_v4,
        Some("192.0.2.1".parse().unwrap())
    );
    assert_eq!(
        dataplane.tunnel_source_v6,
        Some("2001:db8::1".parse().unwrap())
    );
    assert_eq!(
        (dataplane.max_flows, dataplane.max_pending),
        (65_536, 2_048)
    );
    let pool = &config.pools["v6"];
    assert_eq!(pool.ring_slots, 65_537);
    assert_eq!(
        pool.backends,
        [Backend {
            address: "2001:db8:1::7".parse().unwrap(),
            port: 8080,
            weight: 65_535
        }]
    );
    assert_eq!(pool.down_grace, Grace::Forever);
    assert_eq!(pool.slow_start, Duration::from_secs(90));
    assert_eq!(config.dataplane.settle, Settle::Never);
    assert_eq!(pool.idle_timeout, Duration::from_secs(900));
    assert_eq!(pool.on_remove, OnRemove::Drop);
    assert_eq!(
        pool.check,
        Some(Check {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(100),
            rise: 1,
            fall: 5,
            port: Some(81)
        })
    );
    let service = &config.services["six"];
    assert_eq!(service.protocol, Protocol::Udp);
    assert_eq!(service.forward, Forward::Ipip);
    assert_eq!(service.policy, Policy::Maglev);
    assert_eq!(service.affinity, Some(Affinity::ClientIp));
    assert_eq!(service.udp, Udp::Tracked);
    assert_eq!(service.udp_idle_timeout, Duration::from_secs(90));
    assert_eq!(service.all_down, AllDown::Drop);
    assert_eq!(service.announce, Some(Announce::Arp));
}

#[test]
fn a_check_has_defaults() {
    let text = format!("{HEAD}{SOUND}").replace(
        "name = \"web\"\nbackends",
        "name = \"web\"\ncheck = { type = \"tcp\" }\nbackends",
    );
    let check = accepted(&text).config.pools["web"].check.clone().unwrap();
    assert_eq!(check.interval, Duration::from_secs(1));
    assert_eq!(check.timeout, Duration::from_secs(1));
    assert_eq!((check.rise, check.fall, check.port), (2, 3, None));
}

#[test]
fn a_pool_inline_has_the_name_of_its_service() {
    let text = format!(
        "{HEAD}[[service]]\nname = \"dns\"\nvip = \"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\n\
         forward = \"l2-dsr\"\nbackends = [{{ address = \"10.0.1.7\", port = 53 }}]\n"
    );
    let loaded = accepted(&text);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.services["dns"].pool, "dns");
    assert_eq!(loaded.config.pools["dns"].backends.len(), 1);
}

#[test]
fn a_service_of_this_host_has_its_listener_as_only_backend() {
    let text = |vip: &str, keys: &str| {
        format!(
            "{HEAD}[[service]]\nname = \"gate\"\nvip = \"{vip}\"\nport = 443\nforward = \"local\"\n{keys}"
        )
    };
    for (vip, keys, listener) in [
        ("192.0.2.10", "", "127.0.0.1:443"),
        ("2001:db8::10", "check = { type = \"tcp\" }", "[::1]:443"),
        (
            "2001:db8::10",
            "listener = \"10.0.1.2:8443\"",
            "10.0.1.2:8443",
        ),
    ] {
        let loaded = accepted(&text(vip, keys));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let service = &loaded.config.services["gate"];
        // Packets of a service behind which nothing listens would go back to the router.
        assert_eq!(service.all_down, AllDown::Drop);
        let pool = &loaded.config.pools[&service.pool];
        let endpoints: Vec<String> = pool
            .backends
            .iter()
            .map(|backend| backend.endpoint().to_string())
            .collect();
        assert_eq!(endpoints, [listener]);
        assert_eq!(pool.check.is_some(), keys.starts_with("check"));
    }
    let panics = accepted(&text("192.0.2.10", "all_down = \"panic\"")).config;
    assert_eq!(panics.services["gate"].all_down, AllDown::Panic);
}

#[test]
fn services_may_share_a_pool_where_replies_stay_apart() {
    let second = "[[service]]\nname = \"quic\"\nvip = \"192.0.2.10\"\nport = 443\npool = \"web\"\n";
    // Another protocol; and a mode whose replies don't come back.
    for rest in ["protocol = \"udp\"\nforward = \"dnat\"", "port2"] {
        let rest = rest.replace("port2", "protocol = \"udp\"\nforward = \"ipip\"");
        let loaded = accepted(&format!("{HEAD}{SOUND}{second}{rest}\n"));
        assert_eq!(loaded.config.services.len(), 2);
    }
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let error = Config::load("/nonexistent/xlb.toml".as_ref()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read /nonexistent/xlb.toml: No such file or directory (os error 2); create it, or name \
         another file"
    );
    let error = Config::load("/".as_ref()).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    assert!(error.to_string().contains("name the file in it"), "{error}");
}
