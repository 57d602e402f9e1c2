//! What clients do, and what hosts count meanwhile.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use xlb_tests::lab::{self, Host, NetNs};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// An answer of nginx.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Name of the backend.
    pub(crate) backend: String,
    /// Address of the client as the backend saw it.
    pub(crate) client: IpAddr,
}

/// Requests by curl, each on a connection of its own.
#[track_caller]
pub(crate) fn curl(client: &NetNs, target: SocketAddr, requests: usize) -> Vec<Answer> {
    let limit = ANSWER_LIMIT.as_secs().to_string();
    let url = format!("http://{target}/?[1-{requests}]");
    let words = [
        "curl",
        "-sS",
        "--fail",
        "--fail-early",
        "--max-time",
        &limit,
        "-H",
        "Connection: close",
        "-w",
        "%header{x-client}\n",
        &url,
    ];
    let output = client.exec(&words);
    let lines: Vec<&str> = output.lines().collect();
    let answers = lines.chunks(2).map(|lines| Answer {
        backend: lines[0].to_owned(),
        client: lines[1].parse().expect("nginx says an address"),
    });
    let answers: Vec<Answer> = answers.collect();
    assert_eq!(answers.len(), requests, "curl printed {output}");
    answers
}

/// Transfers so many bytes by iperf3: to the server, or, in reverse, from it. Returns how many came
/// through; what is still on its way when the sender has done its part is not among them.
#[track_caller]
pub(crate) fn iperf(client: &NetNs, target: SocketAddr, bytes: u64, reverse: bool) -> u64 {
    let (address, port) = (target.ip().to_string(), target.port().to_string());
    let bytes_text = bytes.to_string();
    let mut words = vec!["timeout", "30", "iperf3", "--json"];
    // The buffers bound what is on its way at the end; by themselves they grow to megabytes.
    words.extend(["-w", "256K"]);
    words.extend(["-c", &address, "-p", &port, "-n", &bytes_text]);
    if reverse {
        words.push("-R");
    }
    let output = client.exec(&words);
    let report: Value = serde_json::from_str(&output).expect("JSON of iperf3");
    let received = report["end"]["sum_received"]["bytes"].as_u64();
    let received = received.unwrap_or_else(|| panic!("iperf3: {output}"));
    assert!(received >= bytes / 2, "iperf3: {output}");
    received
}

/// Datagrams from each of so many sockets, which all have to come back. Returns how many there were.
#[track_caller]
pub(crate) fn echo(client: &NetNs, target: SocketAddr, sockets: u8) -> u64 {
    lab::echo(client, target, sockets, ANSWER_LIMIT)
}

/// Counters of the kernel of a host that say that it got packets with wrong checksums or headers.
pub(crate) fn bad_packets(host: &Host) -> Vec<(String, u64)> {
    const BAD: [&str; 7] = [
        "TcpInCsumErrors",
        "UdpInCsumErrors",
        "IcmpInCsumErrors",
        "IpInHdrErrors",
        "Udp6InCsumErrors",
        "Icmp6InCsumErrors",
        "Ip6InHdrErrors",
    ];
    let counters = kernel_counters(&host.ns).into_iter();
    counters
        .filter(|(name, count)| BAD.contains(&name.as_str()) && *count > 0)
        .collect()
}

/// Packets that the kernel of a host has forwarded.
pub(crate) fn forwarded(host: &Host) -> u64 {
    let forwarded = ["IpForwDatagrams", "Ip6OutForwDatagrams"];
    let counters = kernel_counters(&host.ns).into_iter();
    counters
        .filter(|(name, _)| forwarded.contains(&name.as_str()))
        .map(|(_, count)| count)
        .sum()
}

/// The counters of the SNMP groups of both families, IPv4's with their group's name before them as
/// IPv6's have it.
fn kernel_counters(ns: &NetNs) -> Vec<(String, u64)> {
    let read = |name: &str| {
        ns.run(|| fs::read_to_string(format!("/proc/thread-self/net/{name}")))
            .expect("read the kernel's counters")
    };
    let (v4, v6) = (read("snmp"), read("snmp6"));
    let mut counters = Vec::new();
    let lines: Vec<&str> = v4.lines().collect();
    for pair in lines.chunks(2) {
        let (names, values) = (pair[0].split(' '), pair[1].split(' '));
        let group = pair[0].split(':').next().unwrap_or_default();
        for (name, value) in names.zip(values).skip(1) {
            // Some are signed, and none of those is of interest.
            counters.push((format!("{group}{name}"), value.parse().unwrap_or(0)));
        }
    }
    for line in v6.lines() {
        if let Some((name, value)) = line.split_once(char::is_whitespace) {
            counters.push((name.to_owned(), value.trim().parse().unwrap_or(0)));
        }
    }
    counters
}
