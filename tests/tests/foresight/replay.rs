//! `replay`: what it says of a capture is what became of the packets that were captured.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use etherparse::{PacketBuilder, PacketBuilderStep, UdpHeader};
use nix::sys::signal::Signal;
use serde_json::Value;
use xlb_agent::replay::capture::{Capture, Captured};
use xlb_tests::{
    lab::{Process, VIP_V4, wait_until},
    strict,
};

use crate::stage::{Setup, Stage, WEB_PORT};

const CLIENT: [u8; 4] = [203, 0, 113, 9];
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 8];
const NEXT_HOP: &str = "02:00:0a:00:01:07";

/// Lines of JSON.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", complaint(output));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .expect("a line of JSON each")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn frames(path: &Path) -> Vec<Captured> {
    let mut capture = Capture::open(path).expect("a capture");
    let mut frames = Vec::new();
    while let Some(frame) = capture.next_frame().expect("a frame") {
        frames.push(frame);
    }
    frames
}

/// A pcap file in its oldest form: microseconds, Ethernet.
fn pcap(frames: &[(&[u8], usize)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    for (second, (frame, wire_bytes)) in (1_700_000_000..).zip(frames) {
        for word in [second, 250_000, frame.len() as u32, *wire_bytes as u32] {
            file.extend(u32::to_le_bytes(word));
        }
        file.extend_from_slice(frame);
    }
    file
}

impl Stage {
    fn file(&self, name: &str) -> PathBuf {
        self.topology.lab.directory().join(name)
    }

    fn replay(&self, capture: &Path, more: &[&str]) -> Output {
        let config = self.agent.config_path().display().to_string();
        let capture = capture.display().to_string();
        let output = self.file("out.pcapng").display().to_string();
        let words = ["replay", "--config", &config, &capture, "-o", &output];
        self.agent.cli_output(&[words.as_slice(), more].concat())
    }

    /// The frames that the client sends to services or gets from them while something happens, as
    /// tcpdump writes them.
    fn captured(&self, name: &str, happen: impl FnOnce()) -> PathBuf {
        let path = self.file(name);
        let ns = &self.topology.client.ns;
        let mut command = ns.command("tcpdump");
        command
            .args(["-i", "eth0", "-U", "--immediate-mode", "-Z", "root", "-w"])
            .arg(&path)
            .arg(format!("tcp port {WEB_PORT}"))
            .stderr(Stdio::null());
        let mut tcpdump = Process::start(&self.topology.lab, "tcpdump", command);
        let limit = Duration::from_secs(10);
        wait_until("tcpdump listens", limit, || {
            fs::metadata(&path).is_ok_and(|file| file.len() >= 24)
        });
        happen();
        tcpdump.signal(Signal::SIGTERM);
        tcpdump.wait();
        path
    }
}

#[test]
fn replay_says_where_connections_went() {
    let setup = Setup::new(&[(0, 1), (1, 1), (2, 1)]);
    let stage = Stage::build("replay", 3, &setup);
    let ports = 30_000..30_016_u16;
    let mut went: BTreeMap<String, String> = BTreeMap::new();
    let capture = stage.captured("in.pcap", || {
        for v6 in [false, true] {
            for port in ports.clone() {
                let connection = stage.open(v6, port).expect("a connection");
                went.insert(stage.client(v6, port).to_string(), connection.backend);
            }
        }
    });
    let told = lines(&stage.replay(&capture, &["--json", "--next-hop", NEXT_HOP]));
    assert_eq!(told.len(), frames(&capture).len());
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for line in &told {
        let packet = line["packet"].as_str().expect("a packet");
        let source = packet.split(" > ").next().expect("a source").to_owned();
        let Some(name) = went.get(&source) else {
            // What the client got is from a VIP.
            assert_eq!(line["verdict"], "pass", "{line}");
            continue;
        };
        assert_eq!(line["verdict"], "forward", "{line}");
        let backend = line["backend"].as_str().expect("a backend");
        assert_eq!(stage.name_of(backend), *name, "{line}");
        assert!(line["slot"].is_u64(), "{line}");
        assert!(
            ["web", "web6"].map(Value::from).contains(&line["service"]),
            "{line}"
        );
        *seen.entry(source).or_default() += 1;
    }
    assert_eq!(seen.len(), 2 * ports.len(), "{seen:?}");
    assert!(seen.values().all(|frames| *frames >= 3), "{seen:?}");
    // What leaves is well-formed, and sent to the next hop.
    let sent = frames(&stage.file("out.pcapng"));
    assert_eq!(sent.len(), told.len());
    for (line, frame) in told
        .iter()
        .zip(&sent)
        .filter(|(line, _)| line["verdict"] == "forward")
    {
        assert_eq!(frame.bytes[..6], [2, 0, 10, 0, 1, 7], "{line}");
        assert_eq!(strict::malformed(&frame.bytes), None, "{line}");
    }
    // Others' readers take the file, and its comments.
    let read = stage.topology.client.ns.exec(&[
        "tcpdump",
        "-n",
        "-r",
        &stage.file("out.pcapng").display().to_string(),
    ]);
    assert_eq!(read.lines().count(), sent.len(), "{read}");
}

fn to_vip() -> PacketBuilderStep<etherparse::IpHeaders> {
    PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC).ipv4(CLIENT, VIP_V4.octets(), 64)
}

fn segment(ttl: u8, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC)
        .ipv4(CLIENT, VIP_V4.octets(), ttl)
        .tcp(40_000, port, 1, 1000)
        .syn()
        .write(&mut frame, &[])
        .expect("a frame");
    frame
}

/// Each verdict, with its reason, from frames that are made.
#[test]
fn replay_says_what_becomes_of_any_frame() {
    let stage = Stage::build("replay-any", 1, &Setup::new(&[(0, 1)]));
    let backend = stage.endpoint(0, false);
    let mut echo = Vec::new();
    to_vip()
        .icmpv4_echo_request(1, 1)
        .write(&mut echo, b"hello")
        .expect("a frame");
    let std::net::IpAddr::V4(address) = backend.ip() else {
        panic!("{backend} is no IPv4");
    };
    let mut reply = Vec::new();
    PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC)
        .ipv4(address.octets(), CLIENT, 64)
        .tcp(backend.port(), 40_000, 1, 1000)
        .syn()
        .ack(2)
        .write(&mut reply, &[])
        .expect("a frame");
    let mut dns = Vec::new();
    to_vip()
        .udp(53, 53)
        .write(&mut dns, &[0; UdpHeader::LEN])
        .expect("a frame");
    let whole = segment(64, WEB_PORT);
    let long = vec![0; 9000];
    let at = |frame: &[u8]| frame.len();
    let input = pcap(&[
        (&whole, at(&whole)),
        (&reply, at(&reply)),
        (&echo, at(&echo)),
        (&segment(1, WEB_PORT), 54),
        (&segment(64, 81), 54),
        (&dns, at(&dns)),
        (&whole[..40], at(&whole)),
        (&whole[..9], 9),
        (&long, 9000),
    ]);
    let path = stage.topology.lab.write_file("any.pcap", "");
    fs::write(&path, input).expect("write the capture");
    let told = lines(&stage.replay(&path, &["--json", "--next-hop", NEXT_HOP]));
    let seen: Vec<[String; 4]> = told
        .iter()
        .map(|line| {
            ["verdict", "reason", "service", "backend"].map(|key| {
                let value = &line[key];
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
        })
        .collect();
    let backend = backend.to_string();
    let expected = [
        ["forward", "null", "web", &backend],
        ["reply", "null", "web", &backend],
        ["answer", "echo-reply", "null", "null"],
        ["drop", "ttl-expired", "web", "null"],
        ["pass", "not-for-service", "null", "null"],
        ["pass", "not-for-service", "null", "null"],
        ["skip", "cut", "null", "null"],
        ["skip", "short", "null", "null"],
        ["skip", "long", "null", "null"],
    ];
    assert_eq!(seen, expected.map(|row| row.map(str::to_owned)));
    assert_eq!(told[0]["time"], 1_700_000_000.25);
    // What was left to the host is as it was; what was forwarded is not.
    let written = frames(&stage.file("out.pcapng"));
    assert_eq!(written.len(), 5);
    assert_eq!(written[3].bytes, segment(64, 81));
    assert_ne!(written[0].bytes, whole);
    for frame in &written {
        assert_eq!(strict::malformed(&frame.bytes), None);
        assert_eq!(strict::wrong_checksum(&frame.bytes), None);
    }
    assert_eq!(
        written[1].time,
        Duration::from_micros(1_700_000_001_250_000)
    );
    // What was written can be replayed: it is what another xlb would get.
    let again = stage.file("again.pcapng");
    fs::copy(stage.file("out.pcapng"), &again).expect("copy");
    let told = lines(&stage.replay(&again, &["--json", "--next-hop", NEXT_HOP]));
    assert_eq!(told.len(), 5);
    // The table has a line more, of names.
    let table = stage.replay(&again, &["--next-hop", NEXT_HOP]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert_eq!(table.lines().count(), 6, "{table}");
}

/// Bad input has an error that says what to do, and what was in the output file stays.
#[test]
fn replay_refuses_what_it_can_not_do() {
    let stage = Stage::build("replay-bad", 1, &Setup::new(&[(0, 1)]));
    let backend = stage.endpoint(0, false).ip();
    let kept = stage.topology.lab.write_file("out.pcapng", "kept");
    let text = stage.topology.lab.write_file("text.pcap", "not a capture");
    let whole = segment(64, WEB_PORT);
    let good = stage.topology.lab.write_file("good.pcap", "");
    fs::write(&good, pcap(&[(&whole, whole.len())])).expect("write a capture");
    let cooked = stage.topology.lab.write_file("cooked.pcap", "");
    let mut file = pcap(&[]);
    file[20] = 113;
    fs::write(&cooked, file).expect("write a capture");
    let missing = stage.file("missing.pcap");
    for (capture, options, error) in [
        (
            &good,
            vec![],
            format!("the next hop of backend {backend} is not known"),
        ),
        (
            &good,
            vec!["--next-hop", "02:00"],
            "`02:00` is no MAC address; type six bytes".to_owned(),
        ),
        (
            &text,
            vec!["--next-hop", NEXT_HOP],
            "text.pcap is no capture in the format pcap or pcapng".to_owned(),
        ),
        (
            &cooked,
            vec!["--next-hop", NEXT_HOP],
            "cooked.pcap: its frames are of link type LINUX_SLL (113)".to_owned(),
        ),
        (
            &missing,
            vec!["--next-hop", NEXT_HOP],
            "missing.pcap: No such file".to_owned(),
        ),
    ] {
        let output = stage.replay(capture, &options);
        assert!(!output.status.success(), "{error}");
        let told = complaint(&output);
        assert!(told.contains(&error), "{told}");
        assert_eq!(fs::read_to_string(&kept).expect("the file"), "kept");
    }
    // One that ends too early is replayed as far as it goes.
    let mut cut = pcap(&[(&whole, whole.len()), (&whole, whole.len())]);
    cut.truncate(cut.len() - 1);
    let path = stage.topology.lab.write_file("cut.pcap", "");
    fs::write(&path, cut).expect("write a capture");
    let output = stage.replay(&path, &["--json", "--next-hop", NEXT_HOP]);
    assert_eq!(output.status.code(), Some(1));
    let told = complaint(&output);
    assert!(told.contains("ends in the middle of frame 2"), "{told}");
    assert_eq!(frames(&kept).len(), 1);
}
