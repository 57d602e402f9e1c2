//! Full NAT whose source ports run out, and whose agent is killed.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, KeepAlive, KeepAliveOptions, Lab, Topology, wait_until,
};

use crate::plain::{LIMIT, reason_of, target};

/// Source ports of a family.
const PORTS: usize = 8;
const BACKEND_PORT: u16 = 8080;

#[test]
fn ports_that_run_out_refuse_what_is_new_and_nothing_else() {
    let topology = Topology::one_link(&Lab::new("fnat-ports"), 2);
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let http = any.map(|any| SocketAddr::new(any, BACKEND_PORT)).to_vec();
    let servers: Vec<Backend> = topology
        .backends
        .iter()
        .map(|host| {
            let http = http.clone();
            Backend::start(&host.ns, host.name(), BackendKind::Nginx { http })
        })
        .collect();
    let mut agent = Agent::start(&topology.balancer.ns, &config(&topology));
    for v6 in [false, true] {
        let exhausted = || reason_of(&agent, "nat-exhausted");
        let before = exhausted();
        let options = |connections| KeepAliveOptions {
            pause: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            ..KeepAliveOptions::new(target(v6), connections)
        };
        let kept = KeepAlive::start(&topology.client.ns, options(PORTS));
        wait_until("every connection is answered", LIMIT, || {
            kept.snapshot().iter().all(|kept| kept.answers > 0)
        });
        assert_eq!(exhausted(), before, "there is a port for each");
        let refused = KeepAlive::start(&topology.client.ns, options(2));
        wait_until("new ones are refused and counted", LIMIT, || {
            exhausted() > before
        });
        // The next agent adopts the ports with their connections.
        agent.kill9();
        let answers = |kept: &KeepAlive| -> Vec<u64> {
            kept.snapshot().iter().map(|kept| kept.answers).collect()
        };
        let then = answers(&kept);
        agent.start_again();
        wait_until("every connection goes on", LIMIT, || {
            answers(&kept)
                .iter()
                .zip(&then)
                .all(|(now, then)| now > then)
        });
        assert!(refused.stop().iter().all(|refused| refused.answers == 0));
        let kept = kept.stop();
        assert!(kept.iter().all(|kept| kept.broken.is_none()), "{kept:?}");
    }
    drop(servers);
}

fn config(topology: &Topology) -> String {
    let interfaces = topology.interfaces();
    let sources = [false, true].map(|v6| topology.balancer.address(v6).to_string());
    let last = 2000 + PORTS - 1;
    let services = [false, true].map(|v6| {
        let backends: String = topology
            .backends
            .iter()
            .map(|host| {
                let address = host.address(v6);
                format!("  {{ address = \"{address}\", port = {BACKEND_PORT} }},\n")
            })
            .collect();
        let (name, vip) = (if v6 { "v6" } else { "v4" }, target(v6));
        format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{}\"\nport = {}\nforward = \"full-nat\"\n\
             backends = [\n{backends}]\n",
            vip.ip(),
            vip.port()
        )
    });
    format!(
        "[dataplane]\ninterfaces = {interfaces:?}\nnat_source = {sources:?}\n\
         nat_ports = \"2000-{last}\"\n{}",
        services.concat()
    )
}

/// Source ports of a family where they are to be used again and again.
const REUSED_PORTS: usize = 128;
/// Clients at the same time, and connections of each, one after another.
const CLIENTS: usize = 8;
const CONNECTIONS: usize = 60;

/// Each connection sends a tag that no other has, twice, and gets it back twice from one backend; four
/// times as many connections as ports, of which some end by a reset.
#[test]
fn connections_that_share_ports_one_after_another_are_never_mixed_up() {
    let topology = Topology::one_link(&Lab::new("fnat-tags"), 2);
    let stop = Arc::new(AtomicBool::new(false));
    let servers: Vec<_> = topology
        .backends
        .iter()
        .map(|host| {
            let (name, stop) = (host.name().to_owned(), Arc::clone(&stop));
            host.ns.spawn("tags", move || serve_tags(&name, &stop))
        })
        .collect();
    let mut config = config(&topology).replace(
        &format!("\"2000-{}\"", 2000 + PORTS - 1),
        &format!(
            "\"2000-{}\"\nnat_timeouts = {{ tcp_time_wait = \"1s\", tcp_close = \"1s\" }}",
            2000 + REUSED_PORTS - 1
        ),
    );
    config = config.replace("backends = [", "policy = \"round-robin\"\nbackends = [");
    let agent = Agent::start(&topology.balancer.ns, &config);
    for v6 in [false, true] {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let target = target(v6);
                topology.client.ns.spawn("tags", move || {
                    (0..CONNECTIONS)
                        .map(|number| {
                            exchange_tags(
                                target,
                                &format!("{v6} {client} {number}"),
                                number % 3 == 0,
                            )
                        })
                        .collect::<BTreeSet<String>>()
                })
            })
            .collect();
        let answered: BTreeSet<String> = clients
            .into_iter()
            .flat_map(|client| client.join().expect("every answer is its connection's own"))
            .collect();
        let backends = BTreeSet::from(["backend1".to_owned(), "backend2".to_owned()]);
        assert_eq!(answered, backends);
    }
    list_one(&topology, &agent);
    stop.store(true, Ordering::Relaxed);
    drop(servers);
}

/// One connection that stays open is listed, and counted.
fn list_one(topology: &Topology, agent: &Agent) {
    let open = topology.client.ns.run(|| {
        let stream = TcpStream::connect(target(false)).expect("a connection");
        let mut line = String::new();
        writeln!(&stream, "open").expect("send");
        BufReader::new(&stream)
            .read_line(&mut line)
            .expect("an answer");
        stream
    });
    let listed = agent.cli(&["nat", "list", "v4", "--limit", "1000", "-o", "json"]);
    let client = open.local_addr().expect("an address").to_string();
    let listed = listed["connections"].as_array().expect("a list");
    let listed = listed.iter().find(|listed| listed["client"] == client);
    let listed = listed.unwrap_or_else(|| panic!("{client} is not listed"));
    assert_eq!(listed["service"], "v4");
    assert_eq!(listed["vip"], target(false).to_string());
    assert_eq!(listed["state"], "established");
    assert!(listed["expires_in_s"].as_u64() > Some(3590), "{listed}");
    let sources = agent.cli(&["nat", "sources", "-o", "json"]);
    let tcp4 = &sources["sources"][0];
    assert_eq!(tcp4["ports"], REUSED_PORTS);
    assert_eq!(tcp4["protocol"], "tcp");
    assert_eq!(tcp4["by_state"]["established"], 1, "{tcp4}");
    let source = topology.balancer.address(false);
    let series = format!(
        "xlb_nat_ports_in_use{{source=\"{source}\",protocol=\"tcp\",state=\"established\"}} 1"
    );
    let socket = agent.socket_path();
    let socket = socket.to_string_lossy();
    let curl = [
        "curl",
        "-sS",
        "--unix-socket",
        &socket,
        "http://xlb/metrics",
    ];
    let metrics = topology.balancer.ns.exec(&curl);
    assert!(metrics.contains(&series), "{metrics}");
}

/// Sends a tag twice and reads the answers, which name the backend.
fn exchange_tags(target: SocketAddr, tag: &str, resets: bool) -> String {
    // Where all ports are taken, a SYN is dropped and sent again.
    let stream = TcpStream::connect(target).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut ask = |what: &str| {
        (&stream)
            .write_all(format!("{what}\n").as_bytes())
            .expect("send");
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        let (backend, tag) = line.trim_end().split_once(' ').expect("backend and tag");
        assert_eq!(tag, what, "the answer is another connection's");
        backend.to_owned()
    };
    let first = ask(&format!("{tag} first"));
    assert_eq!(ask(&format!("{tag} second")), first, "one backend");
    if resets {
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&stream, sockopt::Linger, &linger).expect("reset at the end");
    }
    first
}

/// Answers each line of each connection with this name and the line.
fn serve_tags(name: &str, stop: &Arc<AtomicBool>) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, BACKEND_PORT)).expect("listen");
    listener.set_nonblocking(true).expect("a listener");
    while !stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let name = name.to_owned();
        thread::spawn(move || {
            stream.set_nonblocking(false).expect("a stream");
            stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
            let reader = BufReader::new(stream.try_clone().expect("a second handle"));
            for line in reader.lines().map_while(Result::ok) {
                if writeln!(&stream, "{name} {line}").is_err() {
                    break;
                }
            }
        });
    }
}
