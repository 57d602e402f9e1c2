//! What the agent needs of its host, and what it says when that is missing.

use std::fs;

use xlb_tests::lab::{Agent, Lab, Topology, VIP_V4, VIP_V6, agent_binary};

use crate::stage::{Services, answers, refusal, serve, wait_until_well};

/// Soft and hard limit of a process's open files.
fn file_limits(pid: u32) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("read limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .expect("a limit of open files");
    let mut numbers = line
        .split_whitespace()
        .map(|word| word.parse().expect("a number"));
    (
        numbers.next().expect("a soft limit"),
        numbers.next().expect("a hard limit"),
    )
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may() {
    for (limit, soft, warned) in [("200:20000", 4_352, None), ("200:1000", 1_000, Some("744"))] {
        let topology = Topology::one_link(&Lab::new("files"), 1);
        let _servers = serve(&topology);
        let (balancer, services) = (&topology.balancer.ns, Services::plain());
        let config = services.config(&topology.backends);
        let mut agent = Agent::prepare(&agent_binary(), balancer, &config);
        agent.start_through(&["prlimit", &format!("--nofile={limit}")]);
        agent.start_again();
        wait_until_well(&agent);
        assert!(answers(&topology.client.ns, services.vips[0]));

        let hard = limit.split(':').nth(1).expect("two numbers");
        let expected = (soft, hard.parse().expect("a number"));
        assert_eq!(file_limits(agent.pid()), expected);
        match warned {
            None => assert!(
                !agent.log().contains("files may be open"),
                "{}",
                agent.log()
            ),
            Some(probes) => {
                let warning = format!("at most {probes} probes run at a time instead of 4096");
                assert!(agent.log().contains(&warning), "{}", agent.log());
            }
        }
    }
}

/// Puts what the balancer has on its interface on another one, made upon it.
fn move_addresses(topology: &Topology, make: &str, master: bool) {
    let balancer = &topology.balancer.ns;
    balancer.ip(&format!("link add {make}"));
    balancer.sysctl("net/ipv6/conf/upper/accept_dad", "0");
    // The interface below is on the same link, and must not answer for addresses that it lost.
    balancer.sysctl("net/ipv4/conf/all/arp_ignore", "1");
    balancer.ip("address flush dev eth0");
    if master {
        balancer.ip("link set eth0 master upper");
    }
    balancer.ip("link set upper up");
    for address in ["10.80.1.1/24", "10.80.2.1/24"] {
        balancer.ip(&format!("address add {address} dev upper"));
    }
    for address in ["fd80:0:0:1::1/64", "fd80:0:0:2::1/64"] {
        balancer.ip(&format!("address add {address} dev upper nodad"));
    }
}

#[test]
fn an_interface_without_native_xdp_balances_in_generic_mode() {
    for (name, make, master) in [
        ("bridge", "name upper type bridge forward_delay 0", true),
        (
            "macvlan",
            "link eth0 name upper type macvlan mode bridge",
            false,
        ),
    ] {
        let topology = Topology::one_link(&Lab::new(name), 1);
        move_addresses(&topology, make, master);
        let _servers = serve(&topology);
        let services = Services {
            vips: vec![VIP_V4.into(), VIP_V6.into()],
            interfaces: vec!["upper"],
            ..Services::plain()
        };
        let balancer = &topology.balancer.ns;
        let agent = Agent::start(balancer, &services.config(&topology.backends));
        wait_until_well(&agent);
        for vip in &services.vips {
            assert!(answers(&topology.client.ns, *vip), "{name}: {vip}");
        }
        let status = agent.cli(&["status", "-o", "json"]);
        let mode = status["interfaces"][0]["mode"].as_str().expect("a mode");
        assert!(mode.contains("generic"), "{name}: {mode}");
        let warning = "the driver has no native XDP for this interface";
        assert!(agent.log().contains(warning), "{name}: {}", agent.log());
    }
}

#[test]
fn an_interface_without_native_xdp_is_refused_where_native_is_asked_for() {
    let topology = Topology::one_link(&Lab::new("native"), 1);
    move_addresses(&topology, "name upper type bridge", true);
    let services = Services {
        interfaces: vec!["upper"],
        dataplane: "mode = \"native\"",
        ..Services::plain()
    };
    let said = refusal(
        &topology.balancer.ns,
        &services.config(&topology.backends),
        &[],
    );
    assert!(
        said.contains("attach xlb to upper (native mode)") && said.contains("mode = \"auto\""),
        "{said}"
    );
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let topology = Topology::one_link(&Lab::new("missing"), 1);
    let services = Services {
        interfaces: vec!["eth0", "eth7"],
        ..Services::plain()
    };
    let said = refusal(
        &topology.balancer.ns,
        &services.config(&topology.backends),
        &[],
    );
    assert!(
        said.contains("interface eth7 does not exist: see `ip link`"),
        "{said}"
    );
}

#[test]
fn somebody_elses_program_stays_where_it_is() {
    let topology = Topology::one_link(&Lab::new("foreign"), 1);
    let balancer = &topology.balancer.ns;
    let program = topology.lab.bpffs().join("pass").display().to_string();
    balancer.ip(&format!("link set dev eth0 xdpdrv pinned {program}"));
    let on_it = || {
        let links: serde_json::Value =
            serde_json::from_str(&balancer.ip("-j link show eth0")).expect("JSON of ip");
        links[0]["xdp"]["prog"]["id"].as_u64().expect("a program")
    };
    let theirs = on_it();
    let said = refusal(balancer, &Services::plain().config(&topology.backends), &[]);
    assert!(
        said.contains(&format!(
            "(native mode, program id {theirs}) is attached to eth0"
        )) && said.contains("ip link set eth0 xdp off"),
        "{said}"
    );
    assert_eq!(on_it(), theirs);
}

#[test]
fn a_capability_that_is_missing_is_named() {
    let topology = Topology::one_link(&Lab::new("bounded"), 1);
    let said = refusal(
        &topology.balancer.ns,
        &Services::plain().config(&topology.backends),
        &["setpriv", "--bounding-set=-net_admin"],
    );
    assert!(
        said.contains("missing CAP_NET_ADMIN: run as root, or give the agent"),
        "{said}"
    );
}

#[test]
fn a_kernel_that_is_too_old_is_named() {
    let topology = Topology::one_link(&Lab::new("old"), 1);
    let said = refusal(
        &topology.balancer.ns,
        &Services::plain().config(&topology.backends),
        // The agent is told that it runs on Linux 2.6.
        &["setarch", "--uname-2.6"],
    );
    assert!(
        said.contains("Linux 2.6.") && said.contains("is too old: xlb needs 5.15 or newer"),
        "{said}"
    );
}
