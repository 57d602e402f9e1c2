//! What was read, as the text of a configuration file.

use std::fmt::Write;

use xlb_control::config::{Forward, Policy, Protocol};

use super::{Check, Service};

pub(super) fn config(interface: &str, services: &[Service]) -> String {
    let mut text = format!("[dataplane]\ninterfaces = [\"{interface}\"]\n");
    for it in services {
        // Writing to a string can't fail.
        let _ = service(&mut text, it);
    }
    text
}

fn service(text: &mut String, service: &Service) -> std::fmt::Result {
    let protocol = service.protocol;
    writeln!(text, "\n[[service]]")?;
    writeln!(
        text,
        "name = \"{}-{}-{protocol}\"",
        service.vip.to_string().replace(':', "-"),
        ports(service.port)
    )?;
    writeln!(text, "vip = \"{}\"", service.vip)?;
    match service.port {
        0 => writeln!(text, "port = \"all\"")?,
        port => writeln!(text, "port = {port}")?,
    }
    writeln!(text, "protocol = \"{protocol}\"")?;
    writeln!(text, "forward = \"{}\"", forward(service.forward))?;
    match service.policy {
        Policy::Maglev => {}
        Policy::RoundRobin => writeln!(text, "policy = \"round-robin\"")?,
        Policy::LeastConnections => writeln!(text, "policy = \"least-connections\"")?,
    }
    if service.policy != Policy::Maglev && service.protocol == Protocol::Udp {
        writeln!(text, "udp = \"tracked\"")?;
    }
    if service.by_client {
        writeln!(text, "affinity = \"client-ip\"")?;
    }
    if let Some(check) = service.check {
        writeln!(text, "{}", self::check(check))?;
    }
    writeln!(text, "backends = [")?;
    for (endpoint, weight) in &service.backends {
        let weight = match weight {
            1 => String::new(),
            weight => format!(", weight = {weight}"),
        };
        let port = match endpoint.port() {
            0 => String::new(),
            port => format!(", port = {port}"),
        };
        writeln!(
            text,
            "  {{ address = \"{}\"{port}{weight} }},",
            endpoint.ip()
        )?;
    }
    writeln!(text, "]")
}

/// Ports, as they stand in a name; 0 is all of them.
fn ports(port: u16) -> String {
    match port {
        0 => "all".to_owned(),
        port => port.to_string(),
    }
}

fn forward(forward: Option<Forward>) -> &'static str {
    match forward {
        Some(Forward::Dnat) => "dnat",
        Some(Forward::Ipip) => "ipip",
        Some(Forward::Gue) => "gue",
        // What both formats take if nothing is said. They have no like of `local` and `full-nat`.
        Some(Forward::L2Dsr | Forward::Local | Forward::FullNat) | None => "l2-dsr",
    }
}

fn check(check: Check) -> String {
    let mut parts = vec!["type = \"tcp\"".to_owned()];
    let ms = |key: &str, value: Option<u64>| Some(format!("{key} = \"{}ms\"", value?));
    parts.extend(ms("interval", check.interval_ms));
    parts.extend(ms("timeout", check.timeout_ms));
    parts.extend(check.fall.map(|fall| format!("fall = {fall}")));
    parts.extend(check.port.map(|port| format!("port = {port}")));
    format!("check = {{ {} }}", parts.join(", "))
}
