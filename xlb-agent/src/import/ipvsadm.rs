//! The output of `ipvsadm -S -n`: a command a line.

use std::net::SocketAddr;

use xlb_control::config::{Forward, Protocol};

use super::{Read, Service, words};

pub(super) fn read(text: &str) -> Read {
    let mut read = Read::default();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.split_first() {
            None => {}
            Some((word, _)) if word.starts_with('#') => {}
            Some((&("-A" | "--add-service"), rest)) => add_service(&mut read, index + 1, rest),
            Some((&("-a" | "--add-server"), rest)) => add_server(&mut read, index + 1, rest),
            Some(_) => read.note(index + 1, format!("not understood, left out: `{line}`")),
        }
    }
    read
}

/// Options with their values; those that have none have an empty one.
fn options<'a>(words: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut options = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(&word) = words.next() {
        // Values never begin with a hyphen.
        let value = words.next_if(|next| !next.starts_with('-'));
        options.push((word, value.copied().unwrap_or("")));
    }
    options
}

/// The service that is meant, if xlb has its like.
fn identity(
    read: &mut Read,
    line: usize,
    option: &str,
    value: &str,
) -> Option<(SocketAddr, Protocol)> {
    let protocol = match option {
        "-t" | "--tcp-service" => Protocol::Tcp,
        "-u" | "--udp-service" => Protocol::Udp,
        "--sctp-service" => Protocol::Sctp,
        _ => return None,
    };
    match value.parse() {
        Ok(at) => Some((at, protocol)),
        Err(_) => {
            read.note(
                line,
                format!(
                    "`{value}` is not an address and a port, left out: dump with `ipvsadm -S -n`"
                ),
            );
            None
        }
    }
}

fn add_service(read: &mut Read, line: usize, rest: &[&str]) {
    let options = options(rest);
    let mut found = None;
    for &(option, value) in &options {
        match option {
            "-t" | "--tcp-service" | "-u" | "--udp-service" | "--sctp-service" => {
                found = identity(read, line, option, value);
            }
            "-f" | "--fwmark-service" => read.note(
                line,
                format!("a service by firewall mark ({value}) has no equivalent, left out: name its addresses"),
            ),
            _ => {}
        }
    }
    let Some((at, protocol)) = found else { return };
    let mut service = Service::new(line, at, protocol);
    // The scheduler first, since persistence goes with one of xlb's only.
    for &(option, value) in &options {
        if matches!(option, "-s" | "--scheduler") {
            words::scheduler(read, &mut service, line, value);
        }
    }
    for &(option, value) in &options {
        match option {
            "-t" | "--tcp-service" | "-u" | "--udp-service" | "--sctp-service" | "-s"
            | "--scheduler" => {}
            "-p" | "--persistent" => words::persistence(read, &mut service, line, value),
            other => read.note(
                line,
                format!("`{other} {value}` has no equivalent, left out"),
            ),
        }
    }
    read.services.push(service);
}

fn add_server(read: &mut Read, line: usize, rest: &[&str]) {
    let options = options(rest);
    let mut found = None;
    let (mut endpoint, mut forward, mut weight) = (None, Forward::L2Dsr, 1);
    for &(option, value) in &options {
        match option {
            "-t" | "--tcp-service" | "-u" | "--udp-service" | "--sctp-service" => {
                found = identity(read, line, option, value);
            }
            "-f" | "--fwmark-service" => {}
            "-r" | "--real-server" => endpoint = value.parse::<SocketAddr>().ok(),
            "-g" | "--gatewaying" => forward = Forward::L2Dsr,
            "-i" | "--ipip" => forward = Forward::Ipip,
            "-m" | "--masquerading" => forward = Forward::Dnat,
            "--tun-type" if value == "gue" => forward = Forward::Gue,
            "--tun-type" if value == "ipip" => {}
            "-w" | "--weight" => match value.parse() {
                Ok(parsed) => weight = parsed,
                Err(_) => read.note(
                    line,
                    format!("weight `{value}` is out of range: 1 is taken"),
                ),
            },
            other => read.note(
                line,
                format!("`{other} {value}` has no equivalent, left out"),
            ),
        }
    }
    let service = found.and_then(|(at, protocol)| {
        let mut services = read.services.iter();
        services.position(|it| (it.vip, it.port, it.protocol) == (at.ip(), at.port(), protocol))
    });
    let (Some(service), Some(endpoint)) = (service, endpoint) else {
        read.note(
            line,
            "a server whose service or address is not there, left out",
        );
        return;
    };
    let Some(service) = read.services.get_mut(service) else {
        return;
    };
    service.backends.push((endpoint, weight));
    let differs = service
        .forward
        .replace(forward)
        .is_some_and(|before| before != forward);
    if differs {
        read.note(
            line,
            "servers of one service are forwarded to in different ways: the last one's is taken",
        );
    }
}
