//! Whole texts of others, and what becomes of them.

use xlb_control::config::Config;

use super::*;

const KEEPALIVED: &str = "\
! of a router of long ago
global_defs {
   router_id LVS_MAIN
}
vrrp_instance VI_1 {
    interface ens3
    virtual_ipaddress {
        192.0.2.10
    }
}
virtual_server 192.0.2.10 443 {
    delay_loop 6
    lb_algo wrr
    lb_kind NAT
    protocol TCP
    sorry_server 10.0.1.99 80
    real_server 10.0.1.7 8443 {
        weight 3
        TCP_CHECK {
            connect_timeout 2   # seconds
            retry 2
            delay_before_retry 1
        }
    }
    real_server 10.0.1.8 8443
    {
        HTTP_GET {
            url {
                path /
            }
        }
    }
}
virtual_server 2001:db8::53 53 {
    lb_algo sh
    lb_kind DR
    protocol UDP
    persistence_timeout 50
    real_server 2001:db8:1::7 53 {
    }
}
virtual_server fwmark 7 {
    lb_kind DR
}
";

#[test]
fn a_keepalived_conf() {
    let imported = import(Source::Keepalived, KEEPALIVED, None);
    assert_eq!(
        imported.config,
        "\
[dataplane]
interfaces = [\"ens3\"]

[[service]]
name = \"192.0.2.10-443-tcp\"
vip = \"192.0.2.10\"
port = 443
protocol = \"tcp\"
forward = \"dnat\"
policy = \"round-robin\"
check = { type = \"tcp\", interval = \"6000ms\", timeout = \"2000ms\", fall = 3 }
backends = [
  { address = \"10.0.1.7\", port = 8443, weight = 3 },
  { address = \"10.0.1.8\", port = 8443 },
]

[[service]]
name = \"2001-db8--53-53-udp\"
vip = \"2001:db8::53\"
port = 53
protocol = \"udp\"
forward = \"l2-dsr\"
affinity = \"client-ip\"
backends = [
  { address = \"2001:db8:1::7\", port = 53 },
]
"
    );
    Config::parse("imported.toml", &imported.config).expect("xlb takes it");
    let told: Vec<(usize, &str)> = imported
        .notes
        .iter()
        .map(|note| (note.line, note.text.as_str()))
        .collect();
    let expected = [
        (2, "`global_defs` has no equivalent"),
        (5, "no VRRP"),
        (16, "`sorry_server 10.0.1.99 80` is left out"),
        (22, "`delay_before_retry 1` has no equivalent"),
        (27, "instead of HTTP_GET"),
        (38, "the persistence timeout (50)"),
        (42, "`virtual_server fwmark 7` has no equivalent"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((line, text), (on, words)) in told.into_iter().zip(expected) {
        assert_eq!(line, on, "{text}");
        assert!(text.contains(words), "{line}: {text}");
    }
}

const IPVSADM: &str = "\
-A -t 192.0.2.10:80 -s wlc
-a -t 192.0.2.10:80 -r 10.0.1.7:8080 -m -w 1
-a -t 192.0.2.10:80 -r 10.0.1.8:8080 -m -w 0 -x 100
-A -u [2001:db8::10]:53 -s rr -p 300
-a -u [2001:db8::10]:53 -r [2001:db8:1::7]:53 -i -w 2
--add-service --sctp-service 192.0.2.10:3868 -s mh
-a --sctp-service 192.0.2.10:3868 -r 10.0.1.7:3868 -g -w 1
-A --sctp-service 192.0.2.11:3868 -s mh
-a --sctp-service 192.0.2.11:3868 -r 10.0.1.7:3868 -m -w 1
-A -f 1 -s rr
-a -f 1 -r 10.0.1.7:0 -g -w 1
";

#[test]
fn a_dump_of_ipvsadm() {
    let imported = import(Source::Ipvsadm, IPVSADM, Some("eth1"));
    let loaded = Config::parse("imported.toml", &imported.config).expect("xlb takes it");
    let services: Vec<String> = loaded.config.services.keys().cloned().collect();
    assert_eq!(
        services,
        [
            "192.0.2.10-3868-sctp",
            "192.0.2.10-80-tcp",
            "2001-db8--10-53-udp"
        ]
    );
    for line in [
        "interfaces = [\"eth1\"]",
        "policy = \"least-connections\"",
        "{ address = \"10.0.1.8\", port = 8080, weight = 0 },",
        "forward = \"ipip\"",
        "affinity = \"client-ip\"",
    ] {
        assert!(imported.config.contains(line), "{}", imported.config);
    }
    let lines: Vec<usize> = imported.notes.iter().map(|note| note.line).collect();
    // The threshold; the scheduler and the timeout that persistence loses; SCTP by
    // NAT; the mark and its server.
    assert_eq!(lines, [3, 4, 4, 8, 10, 11], "{:?}", imported.notes);
}

#[test]
fn what_is_not_understood_is_named() {
    for source in [Source::Ipvsadm, Source::Keepalived] {
        let imported = import(source, "\n}}frobnicate 1 {\n", None);
        assert_eq!(imported.notes.len(), 1, "{imported:?}");
        assert_eq!(imported.notes[0].line, 2);
    }
}

#[test]
fn port_0_is_all_ports() {
    let text = "-A -t 192.0.2.10:0 -s rr -p 300\n-a -t 192.0.2.10:0 -r 10.0.1.7:0 -m -w 1\n";
    let keepalived = "virtual_server 192.0.2.10 0 {\n lb_kind NAT\n protocol TCP\n real_server 10.0.1.7 0 {\n \
                      TCP_CHECK {\n }\n }\n}\n";
    for (source, text) in [(Source::Ipvsadm, text), (Source::Keepalived, keepalived)] {
        let imported = import(source, text, None);
        let loaded = Config::parse("imported.toml", &imported.config).expect("xlb takes it");
        let service = &loaded.config.services["192.0.2.10-all-tcp"];
        assert_eq!(service.port, xlb_control::config::Ports::ALL);
        let pool = &loaded.config.pools["192.0.2.10-all-tcp"];
        assert_eq!((pool.backends[0].port, &pool.check), (0, &None));
    }
    let imported = import(Source::Keepalived, keepalived, None);
    assert!(
        imported
            .notes
            .iter()
            .any(|note| note.text.contains("names no port"))
    );
}
