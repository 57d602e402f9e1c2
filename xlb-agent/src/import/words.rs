//! IPVS's words that both formats have in common.

use xlb_control::config::{Policy, Protocol};

use super::{Read, Service};

/// Sets what a scheduler asks for.
pub(super) fn scheduler(read: &mut Read, service: &mut Service, line: usize, name: &str) {
    match name {
        "rr" | "wrr" => service.policy = Policy::RoundRobin,
        "lc" | "wlc" => service.policy = Policy::LeastConnections,
        "mh" => service.policy = Policy::Maglev,
        "sh" => service.by_client = true,
        other => read.note(
            line,
            format!("there is no scheduler `{other}` in xlb: its default, `maglev`, is taken"),
        ),
    }
}

/// Makes the client's address decide.
pub(super) fn persistence(read: &mut Read, service: &mut Service, line: usize, timeout: &str) {
    if service.policy != Policy::Maglev {
        read.note(
            line,
            "persistence is `affinity = \"client-ip\"`, which goes with `maglev` only: that is \
             taken instead of the scheduler",
        );
        service.policy = Policy::Maglev;
    }
    service.by_client = true;
    read.note(
        line,
        format!(
            "the persistence timeout ({timeout}) has no equivalent: with `client-ip`, a client \
             keeps its backend for as long as the ring stays as it is"
        ),
    );
}

/// The protocol of that name, if xlb has it.
pub(super) fn protocol(name: &str) -> Option<Protocol> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}
