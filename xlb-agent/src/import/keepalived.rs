//! The `virtual_server` blocks of a keepalived.conf.

mod blocks;

use std::net::{IpAddr, SocketAddr};

use xlb_control::config::Forward;

use self::blocks::{Statement, parse};
use super::{Check, Read, Service, words};

pub(super) fn read(text: &str) -> Read {
    let mut read = Read::default();
    for statement in &parse(text) {
        match statement.word(0) {
            "virtual_server" => virtual_server(&mut read, statement),
            "vrrp_instance" => vrrp_instance(&mut read, statement),
            other => read.note(
                statement.line,
                format!("`{other}` has no equivalent, left out"),
            ),
        }
    }
    read
}

fn vrrp_instance(read: &mut Read, instance: &Statement) {
    let interface = instance.block.iter().find(|it| it.word(0) == "interface");
    if let Some(interface) = interface
        && read.interface.is_none()
    {
        read.interface = Some(interface.word(1).to_owned());
    }
    read.note(
        instance.line,
        format!(
            "xlb has no VRRP, so that `vrrp_instance {}` is left out: routers spread over several \
             balancers by ECMP, or `announce = \"arp\"` has one host answer for the VIPs",
            instance.word(1)
        ),
    );
}

fn virtual_server(read: &mut Read, block: &Statement) {
    let (first, second) = (block.word(1), block.word(2));
    if matches!(first, "group" | "fwmark") {
        let what = format!(
            "`virtual_server {first} {second}` has no equivalent, left out: name its addresses"
        );
        return read.note(block.line, what);
    }
    let Some(vip) = endpoint(first, second) else {
        let what = format!("`{first} {second}` is not an address and a port, left out");
        return read.note(block.line, what);
    };
    let named = block.find("protocol");
    let protocol = named.map_or("tcp", |it| it.word(1));
    let Some(protocol) = words::protocol(protocol) else {
        let what = format!("`protocol {protocol}`: the service {vip} is left out");
        return read.note(block.line, what);
    };
    let mut service = Service::new(block.line, vip, protocol);
    // The scheduler first, since persistence goes with one of xlb's only.
    for statement in &block.block {
        if matches!(statement.word(0), "lb_algo" | "lvs_sched") {
            words::scheduler(read, &mut service, statement.line, statement.word(1));
        }
    }
    let mut interval_ms = None;
    for statement in &block.block {
        let value = statement.word(1);
        match statement.word(0) {
            "lb_algo" | "lvs_sched" | "protocol" => {}
            "lb_kind" | "lvs_method" => service.forward = method(read, statement),
            "delay_loop" => interval_ms = milliseconds(read, statement),
            "persistence_timeout" => {
                words::persistence(read, &mut service, statement.line, value);
            }
            "real_server" => real_server(read, &mut service, statement),
            "sorry_server" => read.note(
                statement.line,
                format!(
                    "xlb has no backup server: `{}` is left out",
                    statement.text()
                ),
            ),
            _ => left_out(read, statement),
        }
    }
    if let Some(check) = &mut service.check {
        check.interval_ms = interval_ms;
    }
    read.services.push(service);
}

fn method(read: &mut Read, statement: &Statement) -> Option<Forward> {
    match statement.word(1).to_ascii_uppercase().as_str() {
        "NAT" => Some(Forward::Dnat),
        "DR" => Some(Forward::L2Dsr),
        "TUN" => Some(Forward::Ipip),
        other => {
            read.note(
                statement.line,
                format!("there is no method `{other}`: `l2-dsr` is taken"),
            );
            None
        }
    }
}

fn real_server(read: &mut Read, service: &mut Service, block: &Statement) {
    let Some(at) = endpoint(block.word(1), block.word(2)) else {
        let what = format!("`{}` has no address and port, left out", block.text());
        return read.note(block.line, what);
    };
    let mut weight = 1;
    for statement in &block.block {
        match statement.word(0) {
            "weight" => match statement.word(1).parse() {
                Ok(parsed) => weight = parsed,
                Err(_) => left_out(read, statement),
            },
            "TCP_CHECK" => check(read, service, statement),
            kind @ ("HTTP_GET" | "SSL_GET" | "MISC_CHECK" | "SMTP_CHECK" | "DNS_CHECK"
            | "UDP_CHECK" | "PING_CHECK" | "BFD_CHECK" | "FILE_CHECK") => {
                read.note(
                    statement.line,
                    format!("xlb checks by TCP only: instead of {kind}, a connection is opened"),
                );
                service.check.get_or_insert_default();
            }
            _ => left_out(read, statement),
        }
    }
    service.backends.push((at, weight));
}

fn check(read: &mut Read, service: &mut Service, block: &Statement) {
    let mut check = Check::default();
    for statement in &block.block {
        match statement.word(0) {
            "connect_timeout" => check.timeout_ms = milliseconds(read, statement),
            "connect_port" => check.port = statement.word(1).parse().ok(),
            "retry" | "nb_get_retry" => {
                let retries = statement.word(1).parse::<u64>().ok();
                check.fall = retries.map(|retries| retries.saturating_add(1));
            }
            _ => left_out(read, statement),
        }
    }
    match service.check {
        Some(first) if first != check => read.note(
            block.line,
            "a service has one check for all its backends: the first one's is taken",
        ),
        Some(_) => {}
        None => service.check = Some(check),
    }
}

fn left_out(read: &mut Read, statement: &Statement) {
    read.note(
        statement.line,
        format!("`{}` has no equivalent, left out", statement.text()),
    );
}

fn milliseconds(read: &mut Read, statement: &Statement) -> Option<u64> {
    let seconds = statement.word(1).parse::<f64>().ok();
    let Some(seconds) = seconds.filter(|seconds| (0.001..86_400.0).contains(seconds)) else {
        left_out(read, statement);
        return None;
    };
    Some(std::time::Duration::from_secs_f64(seconds).as_millis() as u64)
}

fn endpoint(address: &str, port: &str) -> Option<SocketAddr> {
    let address: IpAddr = address.parse().ok()?;
    Some(SocketAddr::new(address, port.parse().ok()?))
}
