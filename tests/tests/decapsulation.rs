//! The backend's side: the real `xlb-agent backend run`, behind the real agent and by itself.

#[path = "decapsulation/second_chance.rs"]
mod second_chance;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Host, Lab, Replies, Topology, VIP_V4, VIP_V6,
};

const PORT: u16 = 80;

/// The balancer's configuration: both VIPs by `ipip`.
fn balancer_config(topology: &Topology) -> String {
    let mut config = "[dataplane]\ninterfaces = [\"eth0\"]\n".to_owned();
    for vip in [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)] {
        let name = if vip.is_ipv6() { "six" } else { "four" };
        let backends: Vec<String> = topology
            .backends
            .iter()
            .map(|host| {
                let address = host.address(vip.is_ipv6());
                format!("{{ address = \"{address}\", port = {PORT} }}")
            })
            .collect();
        config += &format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\nforward = \"ipip\"\n\
             backends = [{}]\n",
            backends.join(", ")
        );
    }
    config
}

/// nginx on a backend, at the VIPs.
fn serve(host: &Host) -> Backend {
    let http = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)]
        .map(|vip| SocketAddr::new(vip, PORT))
        .to_vec();
    Backend::start(&host.ns, host.name(), BackendKind::Nginx { http })
}

/// The answers of a number of requests, each on a connection of its own.
fn answers(topology: &Topology, vip: IpAddr, requests: usize) -> Vec<String> {
    let url = format!("http://{}/", SocketAddr::new(vip, PORT));
    let words = ["curl", "-sS", "--max-time", "5", &url];
    (0..requests)
        .map(|_| topology.client.ns.exec(&words).trim().to_owned())
        .collect()
}

#[test]
fn requests_reach_both_backends_through_ipip_in_both_families() {
    let topology = Topology::one_link(&Lab::new("ipip"), 2);
    topology.route_replies(Replies::Direct);
    let mut sides: Vec<Decapsulator> = topology
        .backends
        .iter()
        .map(|host| Decapsulator::start(&host.ns))
        .collect();
    let _servers: Vec<Backend> = topology.backends.iter().map(serve).collect();
    let _agent = Agent::start(&topology.balancer.ns, &balancer_config(&topology));
    for vip in [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)] {
        let before: Vec<u64> = sides.iter().map(|side| side.packets("delivered")).collect();
        let answers = answers(&topology, vip, 24);
        for (host, (side, before)) in topology.backends.iter().zip(sides.iter().zip(before)) {
            let of_host = answers.iter().filter(|name| *name == host.name()).count();
            assert!(
                of_host > 0,
                "{vip}: {} got none of {answers:?}",
                host.name()
            );
            let delivered = side.packets("delivered") - before;
            // At least the SYN, the request and a FIN of each.
            assert!(delivered >= 3 * of_host as u64, "{delivered} of {of_host}");
        }
    }
    // Packets are unpacked on without the process, also while it starts again with other programs.
    for side in &mut sides {
        side.stop();
    }
    assert_eq!(answers(&topology, IpAddr::V4(VIP_V4), 4).len(), 4);
    let programs: Vec<_> = sides
        .iter()
        .map(|it| it.status()["program"]["id"].clone())
        .collect();
    for (side, former) in sides.iter_mut().zip(programs) {
        side.start_again();
        let status = side.status();
        assert_ne!(
            status["program"]["id"], former,
            "the program is this build's"
        );
        assert!(side.packets("delivered") > 0, "counters are kept");
    }
    assert_eq!(answers(&topology, IpAddr::V6(VIP_V6), 4).len(), 4);
}

fn sysctl(host: &Host, name: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/all/{name}");
    host.ns
        .run(|| std::fs::read_to_string(&path))
        .expect("read a kernel parameter")
        .trim()
        .to_owned()
}

/// What is on a host's loopback interface, a line an address.
fn loopback(host: &Host) -> Vec<String> {
    let json = host.ns.ip("-json address show dev lo");
    let links: serde_json::Value = serde_json::from_str(&json).expect("JSON of ip");
    let addresses = links[0]["addr_info"].as_array().expect("addresses");
    addresses
        .iter()
        .map(|it| {
            format!(
                "{}/{}",
                it["local"].as_str().expect("text"),
                it["prefixlen"]
            )
        })
        .collect()
}

fn xdp_program(host: &Host) -> Option<u64> {
    let links: serde_json::Value =
        serde_json::from_str(&host.ns.ip("-json link show eth0")).expect("JSON of ip");
    links[0]["xdp"]["prog"]["id"].as_u64()
}

fn exists(host: &Host, path: &Path) -> bool {
    host.ns.run(|| path.exists())
}

#[test]
fn unload_leaves_nothing_and_what_was_there_before_stays() {
    let topology = Topology::one_link(&Lab::new("unload"), 1);
    let host = &topology.backends[0];
    host.ns.sysctl("net/ipv4/conf/all/arp_announce", "1");
    host.ns.ip(&format!("address add {VIP_V6}/128 dev lo"));
    let before = loopback(host);
    let mut side = Decapsulator::start(&host.ns);
    assert_eq!(
        (sysctl(host, "arp_ignore"), sysctl(host, "arp_announce")),
        ("1".into(), "2".into())
    );
    assert!(
        loopback(host).contains(&format!("{VIP_V4}/32")),
        "{:?}",
        loopback(host)
    );
    let status = side.status();
    assert_eq!(status["program"]["id"].as_u64(), xdp_program(host));
    assert_eq!(status["interfaces"][0]["name"], "eth0");
    assert_eq!(status["interfaces"][0]["mode"], "native");
    let vips = serde_json::json!([
        { "address": VIP_V4, "on_loopback": true },
        { "address": VIP_V6, "on_loopback": false },
    ]);
    assert_eq!(status["vips"], vips);

    let refused = side.cli_output(&["backend", "unload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("another agent"),
        "{said}"
    );
    // What is remembered must outlive a process that had no time to say anything.
    side.kill9();
    let done = side.unload();
    for line in [
        format!("address {VIP_V4} from the loopback interface"),
        "net.ipv4.conf.all.arp_ignore: 0 again".to_owned(),
        "net.ipv4.conf.all.arp_announce: 1 again".to_owned(),
        "program from eth0".to_owned(),
    ] {
        assert!(done.lines().any(|it| it == line), "{line} in {done}");
    }
    assert_eq!(
        (sysctl(host, "arp_ignore"), sysctl(host, "arp_announce")),
        ("0".into(), "1".into())
    );
    assert_eq!(loopback(host), before);
    assert_eq!(xdp_program(host), None);
    assert!(!exists(host, &side.pin_directory()), "pins are left");
    assert_eq!(side.unload(), "nothing to undo\n");
    let status = side.cli_output(&["backend", "status"]);
    assert_eq!(status.status.code(), Some(3));
}

#[test]
fn a_changed_file_is_followed_and_a_bad_one_is_refused() {
    let topology = Topology::one_link(&Lab::new("reload"), 1);
    let host = &topology.backends[0];
    let other: IpAddr = "192.0.2.77".parse().expect("an address");
    let both = Decapsulator::config(&["10.80.1.1/32"], &[IpAddr::V4(VIP_V4), other]);
    let side = Decapsulator::start_with(&host.ns, &both);
    let vips = |side: &Decapsulator| side.status()["vips"].as_array().expect("VIPs").len();
    assert_eq!(vips(&side), 2);
    assert!(loopback(host).contains(&format!("{other}/32")));

    side.write_config(&both.replace("192.0.2.77", "192.0.2.77/24"));
    side.reload();
    assert!(
        side.log()
            .contains("backend.toml:4:23: error: 192.0.2.77/24 has bits beyond its prefix length")
    );
    assert_eq!(vips(&side), 2, "a bad file changes nothing");

    side.write_config(&Decapsulator::config(
        &["10.80.0.0/16"],
        &[IpAddr::V4(VIP_V4)],
    ));
    side.reload();
    assert_eq!(vips(&side), 1);
    assert_eq!(
        side.status()["balancers"],
        serde_json::json!(["10.80.0.0/16"])
    );
    assert!(!loopback(host).contains(&format!("{other}/32")));

    // A VIP that somebody takes off comes back.
    host.ns.ip(&format!("address del {VIP_V4}/32 dev lo"));
    xlb_tests::lab::wait_until("the VIP is back", std::time::Duration::from_secs(5), || {
        loopback(host).contains(&format!("{VIP_V4}/32"))
    });

    side.write_config(&format!(
        "{}loopback = false\n",
        Decapsulator::config(&["10.80.0.0/16"], &[IpAddr::V4(VIP_V4)])
    ));
    side.reload();
    assert!(!loopback(host).contains(&format!("{VIP_V4}/32")));
    assert_eq!(sysctl(host, "arp_ignore"), "0");
    assert_eq!(vips(&side), 1);
}

#[test]
fn an_interface_that_goes_and_comes_back_is_served_again() {
    let lab = Lab::new("return");
    let (host, other) = (lab.namespace("host"), lab.namespace("other"));
    host.cable("eth0", &other, "peer", None);
    let side = Decapsulator::start(&host);
    host.ip("link del eth0");
    host.cable("eth0", &other, "peer", None);
    let attached = || {
        let status = side.cli_output(&["backend", "status", "-o", "json"]);
        status.status.success()
    };
    xlb_tests::lab::wait_until(
        "it is attached again",
        std::time::Duration::from_secs(5),
        attached,
    );
}
