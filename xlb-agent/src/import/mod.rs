//! Configurations of others as one of xlb's. What has no equivalent is named with its line.

mod emit;
mod ipvsadm;
mod keepalived;
mod words;

use std::net::{IpAddr, SocketAddr};

use xlb_control::config::{Forward, Policy, Protocol};

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// The output of `ipvsadm -S -n`.
    Ipvsadm,
    /// The virtual_server blocks of a keepalived.conf.
    Keepalived,
}

/// Something that is not the same in xlb, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// Line of the input, from 1.
    pub line: usize,
    /// What it is, and what becomes of it.
    pub text: String,
}

/// A configuration in xlb's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// The text of the file.
    pub config: String,
    /// What is not in it, in the order of the input's lines.
    pub notes: Vec<Note>,
}

/// Translates a text. `interface`: where packets come in; if it is not said, the input's, or `eth0`.
#[must_use]
pub fn import(source: Source, text: &str, interface: Option<&str>) -> Imported {
    let mut read = match source {
        Source::Ipvsadm => ipvsadm::read(text),
        Source::Keepalived => keepalived::read(text),
    };
    leave_out_what_nat_can_not_carry(&mut read);
    leave_out_checks_of_no_port(&mut read);
    read.notes.sort_by_key(|note| note.line);
    let interface = interface.or(read.interface.as_deref()).unwrap_or("eth0");
    Imported {
        config: emit::config(interface, &read.services),
        notes: read.notes,
    }
}

/// `dnat` can't carry SCTP, whose checksum covers its ports.
fn leave_out_what_nat_can_not_carry(read: &mut Read) {
    let is_refused =
        |it: &mut Service| it.protocol == Protocol::Sctp && it.forward == Some(Forward::Dnat);
    for service in read.services.extract_if(.., is_refused) {
        let text = "SCTP by NAT has no equivalent, left out: forward it in another way";
        read.notes.push(Note {
            line: service.line,
            text: text.to_owned(),
        });
    }
}

/// A server of all ports has none that a check could ask without being told.
fn leave_out_checks_of_no_port(read: &mut Read) {
    for service in &mut read.services {
        let has_no_port = service.backends.iter().any(|(at, _)| at.port() == 0);
        if has_no_port && service.check.is_some_and(|check| check.port.is_none()) {
            service.check = None;
            read.notes.push(Note {
                line: service.line,
                text: "the check of servers of all ports names no port, left out".to_owned(),
            });
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
struct Read {
    interface: Option<String>,
    services: Vec<Service>,
    notes: Vec<Note>,
}

impl Read {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push(Note {
            line,
            text: text.into(),
        });
    }
}

/// A service with its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    /// Where the input names it.
    line: usize,
    vip: IpAddr,
    /// 0: all of them.
    port: u16,
    protocol: Protocol,
    forward: Option<Forward>,
    policy: Policy,
    by_client: bool,
    backends: Vec<(SocketAddr, u16)>,
    check: Option<Check>,
}

impl Service {
    fn new(line: usize, vip: SocketAddr, protocol: Protocol) -> Self {
        Self {
            line,
            vip: vip.ip(),
            port: vip.port(),
            protocol,
            forward: None,
            policy: Policy::Maglev,
            by_client: false,
            backends: Vec::new(),
            check: None,
        }
    }
}

/// A check by TCP. What is `None` is left to xlb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Check {
    interval_ms: Option<u64>,
    timeout_ms: Option<u64>,
    fall: Option<u64>,
    port: Option<u16>,
}

#[cfg(test)]
mod tests;
