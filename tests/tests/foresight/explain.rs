//! `explain`: the backend that it names is the one that a connection reaches.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt::{ReceiveTimeout, ReuseAddr, SendTimeout},
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;
use xlb_tests::lab::wait_until;

use crate::stage::{Setup, Stage, WEB_PORT};

/// Ports of clients.
const PORTS: [u16; 6] = [1025, 20_000, 40_961, 51_812, 65_280, 65_535];

/// A connection of a client that stays open.
pub(crate) struct Connection {
    v6: bool,
    port: u16,
    stream: TcpStream,
    pub(crate) backend: String,
}

impl Stage {
    pub(crate) fn client(&self, v6: bool, port: u16) -> SocketAddr {
        SocketAddr::new(self.topology.client.address(v6), port)
    }

    /// What becomes of a packet from a port of the client.
    fn explain(&self, v6: bool, port: u16, more: &[&str]) -> Value {
        let source = self.client(v6, port).to_string();
        let destination = format!("{}/tcp", Self::vip(v6));
        let config = self.agent.config_path().display().to_string();
        let words = [
            "explain",
            "--src",
            &source,
            "--dst",
            &destination,
            "--config",
            &config,
            "-o",
            "json",
        ];
        self.agent.cli(&[words.as_slice(), more].concat())
    }

    /// The name of the backend that `explain` says.
    fn predicted(&self, v6: bool, port: u16, more: &[&str]) -> String {
        let told = self.explain(v6, port, more);
        assert_eq!(told["verdict"]["action"], "forward", "{told}");
        self.name_of(told["verdict"]["backend"].as_str().expect("a backend"))
    }

    /// Opens a connection from a port and has it answered.
    pub(crate) fn open(&self, v6: bool, port: u16) -> io::Result<Connection> {
        let from = SockaddrStorage::from(self.client(v6, port));
        let to = SockaddrStorage::from(Self::vip(v6));
        let family = if v6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let stream = self
            .topology
            .client
            .ns
            .run(move || -> io::Result<TcpStream> {
                let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
                let limit = TimeVal::seconds(3);
                setsockopt(&socket, ReuseAddr, &true)?;
                setsockopt(&socket, ReceiveTimeout, &limit)?;
                setsockopt(&socket, SendTimeout, &limit)?;
                bind(socket.as_raw_fd(), &from)?;
                connect(socket.as_raw_fd(), &to)?;
                Ok(socket.into())
            })?;
        let mut connection = Connection {
            v6,
            port,
            stream,
            backend: String::new(),
        };
        connection.backend = connection.ask()?;
        Ok(connection)
    }
}

impl Connection {
    /// Which backend answers.
    fn ask(&mut self) -> io::Result<String> {
        self.stream
            .write_all(b"GET / HTTP/1.1\r\nHost: xlb\r\nConnection: keep-alive\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        while !answer.ends_with(b"\n") || !answer.windows(4).any(|at| at == b"\r\n\r\n") {
            let len = self.stream.read(&mut buffer)?;
            if len == 0 {
                return Err(io::Error::other("closed by the peer"));
            }
            answer.extend_from_slice(&buffer[..len]);
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let body = text.rsplit("\r\n\r\n").next().unwrap_or_default();
        Ok(body.trim_end().to_owned())
    }

    /// The connection is still where it was, and where `explain` says.
    fn check(&mut self, stage: &Stage, when: &str) {
        let (v6, port) = (self.v6, self.port);
        let predicted = stage.predicted(v6, port, &[]);
        let answered = self.ask().unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(answered, self.backend, "{when}: port {port}, IPv6 {v6}");
        assert_eq!(predicted, self.backend, "{when}: port {port}, IPv6 {v6}");
    }
}

fn each_family_and_port() -> impl Iterator<Item = (bool, u16)> {
    [false, true]
        .into_iter()
        .flat_map(|v6| PORTS.map(|port| (v6, port)))
}

#[test]
fn explain_knows_where_connections_go_at_rest_and_while_slots_move() {
    let stage = Stage::build("explain", 5, &Setup::new(&[(0, 1), (1, 1), (2, 1)]));
    let mut older: Vec<Connection> = each_family_and_port()
        .map(|(v6, port)| {
            let told = stage.explain(v6, port, &["--syn"]);
            assert_eq!(told["service"]["moving"], false, "{told}");
            let predicted = stage.predicted(v6, port, &["--syn"]);
            let connection = stage.open(v6, port).expect("a connection");
            assert_eq!(connection.backend, predicted, "port {port}, IPv6 {v6}");
            connection
        })
        .collect();
    for connection in &mut older {
        connection.check(&stage, "at rest");
    }

    // One is added, one is removed and drains.
    stage.reload(&Setup::new(&[(1, 1), (2, 1), (3, 1), (4, 1)]));
    for connection in &mut older {
        connection.check(&stage, "older than the change");
    }
    let mut newer = Vec::new();
    for (v6, marked) in [(false, false), (false, true), (true, false), (true, true)] {
        for port in ports_of_slots(&stage, v6, marked) {
            let predicted = stage.predicted(v6, port, &["--syn"]);
            let connection = stage.open(v6, port).expect("a connection");
            assert_eq!(connection.backend, predicted, "port {port}, IPv6 {v6}");
            let told = stage.explain(v6, port, &[]);
            // Only in a slot that moves is a connection recorded.
            let why = told["verdict"]["why"].as_str().expect("a sentence");
            assert_eq!(told["flow"].is_object(), marked, "{told}");
            assert_eq!(why.contains("is recorded"), marked, "{told}");
            newer.push(connection);
        }
    }
    for connection in &mut newer {
        connection.check(&stage, "newer than the change");
    }
    // Back: what was begun in between stays where it is.
    stage.reload(&Setup::new(&[(0, 1), (1, 1), (2, 1)]));
    for connection in older.iter_mut().chain(&mut newer) {
        connection.check(&stage, "after a change back");
    }
}

/// A few ports of the client whose slots move, or do not.
fn ports_of_slots(stage: &Stage, v6: bool, marked: bool) -> Vec<u16> {
    let ports: Vec<u16> = (30_000..30_200)
        .filter(|&port| stage.explain(v6, port, &["--syn"])["slot"]["marked"] == marked)
        .take(3)
        .collect();
    assert_eq!(ports.len(), 3, "of 200 ports, IPv6 {v6}, marked {marked}");
    ports
}

#[test]
fn explain_reads_the_maps_when_no_agent_answers() {
    let mut stage = Stage::build("explain-alone", 4, &Setup::new(&[(0, 1), (1, 1), (2, 1)]));
    stage.reload(&Setup::new(&[(1, 1), (2, 1), (3, 1)]));
    let ports: Vec<(bool, u16)> = each_family_and_port().collect();
    let before: Vec<Value> = ports
        .iter()
        .map(|&(v6, port)| stage.explain(v6, port, &["--syn"]))
        .collect();
    stage.agent.stop();
    for (&(v6, port), before) in ports.iter().zip(&before) {
        let after = stage.explain(v6, port, &["--syn"]);
        for part in ["service", "backends", "verdict"] {
            assert_eq!(after[part], before[part]);
        }
        let notes = after["notes"].to_string();
        assert!(notes.contains("no agent answers"), "{after}");
        let predicted = stage.predicted(v6, port, &["--syn"]);
        let connection = stage.open(v6, port).expect("a connection");
        assert_eq!(connection.backend, predicted, "port {port}, IPv6 {v6}");
    }
}

#[test]
fn explain_says_why_a_packet_is_not_forwarded() {
    let mut setup = Setup::new(&[(0, 1)]);
    setup.service = "all_down = \"drop\"\n".to_owned();
    let stage = Stage::build("explain-drop", 1, &setup);
    let mut connection = stage.open(false, PORTS[0]).expect("a connection");
    connection.check(&stage, "while it is well");

    // Nobody listens at the port that is checked.
    setup.pool += "check = { type = \"tcp\", port = 1, interval = \"50ms\", timeout = \"50ms\", \
                   rise = 1, fall = 1 }\n";
    stage.write_own(&setup);
    stage.agent.cli(&["reload", "-o", "json"]);
    wait_until("the service refuses", Duration::from_secs(10), || {
        stage.explain(false, PORTS[1], &["--syn"])["verdict"]["reason"] == "all-down"
    });
    let refused = stage.open(false, PORTS[1]);
    assert!(refused.is_err(), "a SYN is dropped");

    let elsewhere = |destination: String| {
        let source = stage.client(false, PORTS[0]).to_string();
        let words = ["explain", "--src", &source, "--dst", &destination];
        stage
            .agent
            .cli(&[words.as_slice(), &["-o", "json"]].concat())
    };
    let vip: IpAddr = Stage::vip(false).ip();
    for (destination, what) in [
        (
            format!("{vip}:{}/tcp", WEB_PORT + 1),
            "is a virtual address",
        ),
        (format!("{vip}:{WEB_PORT}/udp"), "is a virtual address"),
        ("198.51.100.1:80/tcp".to_owned(), "no service answers"),
    ] {
        let told = elsewhere(destination);
        assert_eq!(told["verdict"]["action"], "pass", "{told}");
        assert_eq!(told["verdict"]["reason"], "not-for-service", "{told}");
        assert!(told["verdict"]["why"].to_string().contains(what), "{told}");
    }
    let reply = stage.agent.cli(&[
        "explain",
        "--src",
        &stage.endpoint(0, false).to_string(),
        "--dst",
        &format!("{}/tcp", stage.client(false, 50_000)),
        "-o",
        "json",
    ]);
    assert_eq!(reply["verdict"]["action"], "reply", "{reply}");
    assert_eq!(reply["service"]["name"], "web", "{reply}");
}

#[test]
fn explain_refuses_packets_that_there_are_not() {
    let stage = Stage::build("explain-bad", 1, &Setup::new(&[(0, 1)]));
    for (source, destination, more, why) in [
        (
            "10.0.0.1:1",
            "[2001:db8::10]:80/tcp",
            "--syn",
            "two address families",
        ),
        ("10.0.0.1:1", "192.0.2.10:80/udp", "--syn", "of UDP"),
    ] {
        let words = ["explain", "--src", source, "--dst", destination, more];
        let output = stage.agent.cli_output(&words);
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(why), "{complaint}");
    }
}
