//! Services of several ports or addresses, by the real agent.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use xlb_tests::lab::{Agent, Backend, BackendKind, Host, Lab, Replies, Topology, VIP_V4, VIP_V6};

use crate::flows;

/// Requests of a client: enough to meet two backends but once in a billion times.
const REQUESTS: usize = 32;

const PORTS: [u16; 4] = [8000, 8123, 8999, 9500];

fn nginx(host: &Host, addresses: &[IpAddr]) -> Backend {
    let http = addresses
        .iter()
        .flat_map(|&address| PORTS.map(|port| SocketAddr::new(address, port)))
        .collect();
    Backend::start(&host.ns, host.name(), BackendKind::Nginx { http })
}

/// Backends that are given by address alone, with a check.
fn backends(topology: &Topology, v6: bool, count: usize) -> String {
    let hosts = topology.backends[..count].iter();
    let list: String = hosts
        .map(|host| format!("{{ address = \"{}\" }}, ", host.address(v6)))
        .collect();
    format!(
        "backends = [{list}]\ncheck = {{ type = \"tcp\", port = 8000, interval = \"200ms\", rise = 1 }}\n"
    )
}

fn service(name: &str, vip: &str, port: &str, forward: &str, pool: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nforward = \"{forward}\"\n{pool}\n"
    )
}

#[track_caller]
fn answers_from(client: &Host, target: SocketAddr) -> BTreeSet<String> {
    let answers = flows::curl(&client.ns, target, REQUESTS);
    answers.into_iter().map(|answer| answer.backend).collect()
}

#[track_caller]
fn wait_until_up(agent: &Agent) {
    xlb_tests::lab::wait_until(
        "every backend is up",
        std::time::Duration::from_secs(10),
        || {
            let health = agent.cli(&["health", "-o", "json"]);
            let backends = health.as_array().expect("health is a list");
            backends.iter().all(|backend| backend["state"] == "up")
        },
    );
}

/// Under `dnat`, answers come from the very port that the client asked.
#[test]
fn ranges_of_ports_by_dnat() {
    let topology = Topology::one_link(&Lab::new("ports"), 2);
    let hosts = topology.backends.iter();
    let _servers: Vec<Backend> = hosts
        .map(|host| nginx(host, &[host.address(false), host.address(true)]))
        .collect();
    let config = |port: &str, one: bool| {
        let mut text = format!("[dataplane]\ninterfaces = {:?}\n", topology.interfaces());
        for (v6, name) in [(false, "v4"), (true, "v6")] {
            let vip = vip(v6).to_string();
            let pool = backends(&topology, v6, 2);
            text += &service(name, &vip, port, "dnat", &pool);
            if one {
                // Another address of the first backend, since replies have to tell services apart.
                let own = format!("backends = [{{ address = \"{}\" }}]", second(v6));
                text += &service(&format!("one-{name}"), &vip, "8123", "dnat", &own);
            }
        }
        text
    };
    let first = &topology.backends[0];
    for v6 in [false, true] {
        let bits = if v6 { "/64 nodad" } else { "/24" };
        first
            .ns
            .ip(&format!("addr add {}{bits} dev eth0", second(v6)));
    }
    let _second = nginx(first, &[second(false), second(true)]);
    let mut agent = Agent::start(&topology.balancer.ns, &config("\"8000-8999\"", true));
    wait_until_up(&agent);
    let all: BTreeSet<String> = topology
        .backends
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    let alone = BTreeSet::from([first.name().to_owned()]);
    let check = |agent: &Agent, has_9500: bool, one: bool| {
        for v6 in [false, true] {
            let at = |port| SocketAddr::new(vip(v6), port);
            let answers = |port| answers_from(&topology.client, at(port));
            assert_eq!(answers(8000), all, "{}", at(8000));
            assert_eq!(answers(8999), all, "{}", at(8999));
            let of_8123 = if one { &alone } else { &all };
            assert_eq!(answers(8123), *of_8123, "{}", at(8123));
            if has_9500 {
                assert_eq!(answers(9500), all, "{}", at(9500));
            }
            let name = if v6 { "v6" } else { "v4" };
            let source = SocketAddr::new(topology.client.address(v6), 40_000).to_string();
            let to = format!("{}/tcp", at(8500));
            let words = [
                "explain", "--src", &source, "--dst", &to, "--syn", "-o", "json",
            ];
            assert_eq!(agent.cli(&words)["service"]["name"], name, "{to}");
        }
    };
    check(&agent, false, true);
    let list = agent.cli(&["service", "list", "-o", "json"]);
    assert_eq!(list[2]["port"], "8000-8999");
    assert_eq!(list[2]["vip"], vip(false).to_string());
    assert!(
        list[2]["counters"]["reply_packets"].as_u64() > Some(0),
        "{list}"
    );
    assert_eq!(list[0]["port"], 8123);
    for (port, has_9500, one) in [("\"all\"", true, false), ("\"8000-9999\"", true, true)] {
        agent.write_config(&config(port, one));
        agent.cli(&["reload", "-o", "json"]);
        wait_until_up(&agent);
        check(&agent, has_9500, one);
    }
    agent.restart();
    check(&agent, true, true);
}

const fn vip(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(VIP_V6)
    } else {
        IpAddr::V4(VIP_V4)
    }
}

/// Another address of the first backend.
const fn second(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0xfd80, 0, 0, 1, 0, 0, 0, 0x99))
    } else {
        IpAddr::V4(Ipv4Addr::new(10, 80, 1, 99))
    }
}

/// Under `l2-dsr`, a prefix is one service, within which an address may be another.
#[test]
fn prefixes_of_addresses_by_l2_dsr() {
    let topology = Topology::one_link(&Lab::new("prefix"), 2);
    topology.put_vips_on_backends();
    topology.route_replies(Replies::Direct);
    let prefixes = ["198.18.7.0/28", "2001:db8:77::/124"];
    let mut text = format!("[dataplane]\ninterfaces = {:?}\n", topology.interfaces());
    for (v6, prefix) in [false, true].into_iter().zip(prefixes) {
        let name = if v6 { "v6" } else { "v4" };
        let via = topology.balancer.address(v6);
        topology
            .client
            .ns
            .ip(&format!("route add {prefix} via {via}"));
        for host in &topology.backends {
            host.ns.ip(&format!("route add local {prefix} dev lo"));
        }
        let one = address(v6, 5).to_string();
        text += &service(
            name,
            prefix,
            "\"all\"",
            "l2-dsr",
            &backends(&topology, v6, 2),
        );
        let pool = backends(&topology, v6, 1);
        text += &service(
            &format!("one-{name}"),
            &one,
            "\"8000-8200\"",
            "l2-dsr",
            &pool,
        );
    }
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let _servers: Vec<Backend> = topology
        .backends
        .iter()
        .map(|host| nginx(host, &any))
        .collect();
    let mut agent = Agent::start(&topology.balancer.ns, &text);
    wait_until_up(&agent);
    let all: BTreeSet<String> = topology
        .backends
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    let alone = BTreeSet::from([topology.backends[0].name().to_owned()]);
    for again in [false, true] {
        if again {
            agent.restart();
        }
        for v6 in [false, true] {
            for (last, port, backends) in [
                (0, 8000, &all),
                (15, 9500, &all),
                (5, 8123, &alone),
                (5, 9500, &all),
                (6, 8123, &all),
            ] {
                let to = SocketAddr::new(address(v6, last), port);
                assert_eq!(answers_from(&topology.client, to), *backends, "{to}");
            }
            topology.client.ns.ping(address(v6, 7));
        }
    }
    let list = agent.cli(&["service", "list", "-o", "json"]);
    assert_eq!(list[2]["vip"], prefixes[0]);
    assert_eq!(list[2]["port"], "all");
}

fn address(v6: bool, last: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, last.into()).into()
    } else {
        Ipv4Addr::new(198, 18, 7, last).into()
    }
}
