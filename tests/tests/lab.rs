//! The lab itself: what it builds works, and nothing of it stays behind.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use xlb_tests::lab::{
    Backend, BackendKind, DatagramOptions, Datagrams, Host, KeepAlive, KeepAliveOptions, Lab, Load,
    LoadOptions, Outcome, Process, Replies, Shape, Topology, checked_output, wait_until,
};

const HTTP_PORT: u16 = 8080;
const UDP_PORT: u16 = 7000;

/// Two hosts of a lab that need no balancer: the client and a backend with a server.
struct Pair {
    topology: Topology,
    backend: Backend,
}

impl Pair {
    fn new(label: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 1);
        let backend = Backend::on_host(&topology.backends[0], HTTP_PORT, UDP_PORT);
        Self { topology, backend }
    }

    fn host(&self) -> &Host {
        &self.topology.backends[0]
    }

    fn http(&self) -> SocketAddr {
        SocketAddr::new(self.host().address(false), HTTP_PORT)
    }

    fn udp(&self) -> SocketAddr {
        SocketAddr::new(self.host().address(true), UDP_PORT)
    }
}

#[test]
fn namespaces_see_their_own_interfaces_only() {
    let lab = Lab::new("isolated");
    let (one, other) = (lab.namespace("one"), lab.namespace("other"));
    one.cable("left", &other, "right", None);
    let names = |ns: &xlb_tests::lab::NetNs| -> BTreeSet<String> {
        let json = ns.exec(&["ip", "-json", "link"]);
        let links: serde_json::Value = serde_json::from_str(&json).expect("JSON of ip");
        let links = links.as_array().expect("a list").iter();
        links
            .map(|link| link["ifname"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(
        names(&one),
        BTreeSet::from(["lo".to_owned(), "left".to_owned()])
    );
    assert_eq!(
        names(&other),
        BTreeSet::from(["lo".to_owned(), "right".to_owned()])
    );
    // The same port is free in each, and this thread has stayed where it was.
    let here = fs::read_link("/proc/thread-self/ns/net").expect("read a link");
    let address = "127.0.0.1:80";
    let first = one.run(|| TcpListener::bind(address)).expect("free in one");
    let second = other
        .run(|| TcpListener::bind(address))
        .expect("free in the other");
    assert!(
        one.run(|| TcpListener::bind(address)).is_err(),
        "taken in one"
    );
    drop((first, second));
    assert_eq!(
        fs::read_link("/proc/thread-self/ns/net").expect("read a link"),
        here
    );
}

#[test]
#[should_panic(expected = "Cannot find device")]
fn a_command_that_fails_ends_the_test_with_what_it_printed() {
    Lab::new("fails").namespace("one").ip("link set nowhere up");
}

/// Whether a datagram to the echo at `to` comes back.
fn ping(from: &Host, to: IpAddr) -> bool {
    from.ns.run(|| {
        let any: SocketAddr = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }
            .parse()
            .expect("an address");
        let socket = UdpSocket::bind(any).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a timeout");
        socket.connect((to, UDP_PORT)).expect("connect");
        socket.send(b"x").is_ok() && socket.recv(&mut [0; 8]).is_ok()
    })
}

#[test]
fn every_topology_carries_both_families_between_client_and_backends() {
    for (index, (two_interfaces, routed_client)) in
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .enumerate()
    {
        let lab = Lab::new(&format!("shape{index}"));
        let shape = Shape {
            backends: 2,
            two_interfaces,
            routed_client,
        };
        let topology = Topology::build(&lab, shape);
        let servers: Vec<Backend> = topology
            .backends
            .iter()
            .map(|host| Backend::on_host(host, HTTP_PORT, UDP_PORT))
            .collect();
        for replies in [Replies::ViaBalancer, Replies::Direct] {
            topology.route_replies(replies);
            for host in &topology.backends {
                for v6 in [false, true] {
                    let address = host.address(v6);
                    assert!(
                        ping(&topology.client, address),
                        "{shape:?} {replies:?} {address}"
                    );
                }
            }
        }
        drop(servers);
    }
}

#[test]
fn a_host_that_is_cut_off_answers_nothing_until_it_is_mended() {
    let pair = Pair::new("cut");
    let address = pair.host().address(false);
    assert!(ping(&pair.topology.client, address));
    pair.topology.cut(pair.host());
    assert!(!ping(&pair.topology.client, address));
    pair.topology.mend(pair.host());
    assert!(ping(&pair.topology.client, address));
}

#[test]
fn nginx_answers_with_the_name_of_its_backend() {
    let topology = Topology::one_link(&Lab::new("nginx"), 1);
    let host = &topology.backends[0];
    let http = vec![
        SocketAddr::new(host.v4.into(), 80),
        SocketAddr::new(host.v6.into(), 80),
    ];
    let _nginx = Backend::start(&host.ns, "web7", BackendKind::Nginx { http: http.clone() });
    for address in http {
        let answer = topology
            .client
            .ns
            .exec(&["curl", "-sS", &format!("http://{address}/")]);
        assert_eq!(answer, "web7\n");
    }
}

#[test]
fn requests_are_answered_then_refused_when_the_server_is_killed() {
    let mut pair = Pair::new("kill");
    let load = Load::start(&pair.topology.client.ns, LoadOptions::new(pair.http()));
    wait_until("some answers", Duration::from_secs(5), || {
        load.answered() >= 50
    });
    let fault = Instant::now();
    pair.backend.kill9();
    thread::sleep(Duration::from_millis(200));
    pair.backend.start_again();
    let answered = load.answered();
    wait_until("more answers", Duration::from_secs(5), || {
        load.answered() >= answered + 50
    });
    let requests = load.stop();
    let early = requests.iter().filter(|request| request.ended < fault);
    assert!(early.clone().count() >= 50);
    assert_eq!(early.filter(|request| request.failed()).count(), 0);
    assert!(
        requests
            .iter()
            .all(|request| request.failed() || request.backend() == Some("backend1"))
    );
    let refused = requests
        .iter()
        .filter(|request| request.outcome == Outcome::Refused)
        .count();
    assert!(
        (20..=100).contains(&refused),
        "{refused} requests were refused in 200 ms"
    );
    assert!(!requests.last().expect("requests").failed());
}

#[test]
fn a_silent_server_delays_no_request_and_each_times_out() {
    let pair = Pair::new("silent");
    let options = LoadOptions::new(pair.http());
    let load = Load::start(&pair.topology.client.ns, options);
    wait_until("some answers", Duration::from_secs(5), || {
        load.answered() >= 20
    });
    pair.topology.cut(pair.host());
    let fault = Instant::now();
    thread::sleep(Duration::from_millis(500));
    let requests = load.stop();
    let late: Vec<_> = requests
        .iter()
        .filter(|request| request.started > fault)
        .collect();
    assert!(
        late.len() >= 80,
        "{} requests started in 500 ms, one every 4 ms",
        late.len()
    );
    for request in late {
        assert_eq!(request.outcome, Outcome::TimedOut);
        let took = request.ended - request.started;
        assert!(took >= options.timeout, "given up after {took:?}");
        assert!(
            took < options.timeout + Duration::from_millis(150),
            "given up after {took:?}"
        );
    }
}

#[test]
fn kept_connections_count_answers_and_notice_the_end_of_their_server() {
    let mut pair = Pair::new("keep-alive");
    let options = KeepAliveOptions::new(pair.http(), 3);
    let client = KeepAlive::start(&pair.topology.client.ns, options);
    wait_until("answers on each connection", Duration::from_secs(5), || {
        client
            .snapshot()
            .iter()
            .all(|connection| connection.answers >= 10)
    });
    assert!(
        client
            .snapshot()
            .iter()
            .all(|connection| connection.broken.is_none())
    );
    pair.backend.kill9();
    wait_until("each connection broke", Duration::from_secs(5), || {
        client
            .snapshot()
            .iter()
            .all(|connection| connection.broken.is_some())
    });
    assert!(
        client
            .stop()
            .iter()
            .all(|connection| connection.backend == "backend1")
    );
}

#[test]
fn datagrams_are_lost_while_a_host_is_cut_off_and_only_then() {
    let pair = Pair::new("datagrams");
    let options = DatagramOptions::new(pair.udp());
    let client = Datagrams::start(&pair.topology.client.ns, options);
    thread::sleep(Duration::from_millis(500));
    let report = client.stop();
    assert!(report.sent >= 800, "{report:?}");
    assert_eq!((report.lost, report.repeated), (0, 0), "{report:?}");

    let client = Datagrams::start(&pair.topology.client.ns, options);
    thread::sleep(Duration::from_millis(200));
    pair.topology.cut(pair.host());
    thread::sleep(Duration::from_millis(100));
    pair.topology.mend(pair.host());
    thread::sleep(Duration::from_millis(200));
    let report = client.stop();
    assert!((100..=600).contains(&report.lost), "{report:?}");
}

/// Whether a process of this id runs; one that was not waited for yet has ended all the same.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}

/// Ids of the pinned maps that have this name, on the whole host.
fn maps_named(name: &str) -> usize {
    let json = checked_output(Command::new("bpftool").args(["-j", "map", "list"]));
    let maps: serde_json::Value = serde_json::from_str(&json).expect("JSON of bpftool");
    let maps = maps.as_array().expect("a list");
    maps.iter().filter(|map| map["name"] == name).count()
}

/// A lab with a bit of everything that could stay behind. The map has `map_name`.
fn lab_with_everything(lab: &Lab, map_name: &str) -> Process {
    let (one, other) = (lab.namespace("one"), lab.namespace("other"));
    one.cable("left", &other, "right", None);
    let pin = lab.bpffs().join("map").display().to_string();
    let words = [
        "bpftool", "map", "create", &pin, "type", "array", "key", "4", "value", "4",
    ];
    one.exec(&[words.as_slice(), &["entries", "1", "name", map_name]].concat());
    let mut command = other.command("sleep");
    command.arg("600");
    Process::start(lab, "sleep", command)
}

#[test]
fn nothing_stays_when_a_lab_is_dropped() {
    let lab = Lab::new("drop");
    let process = lab_with_everything(&lab, "xlb_lab_drop");
    let (directory, pid) = (lab.directory().to_owned(), process.pid());
    assert!(directory.exists() && runs(pid));
    assert_eq!(maps_named("xlb_lab_drop"), 1);
    drop((process, lab));
    assert!(!directory.exists());
    assert!(!runs(pid));
    wait_until("the map is gone", Duration::from_secs(2), || {
        maps_named("xlb_lab_drop") == 0
    });
}

/// Not a test of its own: what [`nothing_stays_when_the_process_is_killed`] runs and kills.
#[test]
#[ignore = "it is run by nothing_stays_when_the_process_is_killed, and waits to be killed"]
fn victim() {
    let keepable = std::env::var_os("XLB_LAB_KEEPABLE").is_some();
    let lab = if keepable {
        Lab::new_keepable("victim")
    } else {
        Lab::new("victim")
    };
    let map_name = if keepable {
        "xlb_lab_victim2"
    } else {
        "xlb_lab_victim"
    };
    let process = lab_with_everything(&lab, map_name);
    println!(
        "\nvictim {} {} {}",
        lab.name(),
        lab.directory().display(),
        process.pid()
    );
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn nothing_stays_when_the_process_is_killed() {
    kill_a_victim("xlb_lab_victim", nix::sys::signal::Signal::SIGKILL, false);
}

#[test]
fn nothing_stays_of_a_lab_that_could_be_kept_when_it_is_terminated() {
    kill_a_victim("xlb_lab_victim2", nix::sys::signal::Signal::SIGTERM, true);
}

fn kill_a_victim(map_name: &str, signal: nix::sys::signal::Signal, keepable: bool) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "victim", "--nocapture"]);
    if keepable {
        command.env("XLB_LAB_KEEPABLE", "1");
    }
    let mut victim = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start this program again");
    let lines = BufReader::new(victim.stdout.take().expect("a pipe")).lines();
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.starts_with("victim "))
        .expect("the victim says what it made");
    let words: Vec<&str> = line.split(' ').collect();
    let (name, directory, pid) = (
        words[1],
        Path::new(words[2]),
        words[3].parse::<u32>().expect("a process id"),
    );
    assert!(directory.exists() && runs(pid));
    assert_eq!(maps_named(map_name), 1);
    assert_eq!(named_namespaces(name), if keepable { 2 } else { 0 });

    let victim_pid = nix::unistd::Pid::from_raw(i32::try_from(victim.id()).expect("pids fit"));
    nix::sys::signal::kill(victim_pid, signal).expect("kill the victim");
    victim.wait().expect("wait for the victim");
    wait_until("its process is gone", Duration::from_secs(3), || !runs(pid));
    wait_until("its map is gone", Duration::from_secs(3), || {
        maps_named(map_name) == 0
    });
    wait_until("its directory is gone", Duration::from_secs(3), || {
        !directory.exists()
    });
    assert_eq!(named_namespaces(name), 0);
}

fn named_namespaces(prefix: &str) -> usize {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .filter(|name| name.file_name().to_string_lossy().starts_with(prefix))
        .count()
}
