//! Services of this host's own stack: `forward = "local"`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    complaints::Complaints,
    pool::{BackendPlaces, check},
    section::{Section, Value},
    values::string,
};
use crate::config::{
    Backend, Forward, Grace, OnRemove, Pool, Ports, Vip,
    limits::{DEFAULT_DOWN_GRACE, DEFAULT_IDLE_TIMEOUT, DEFAULT_WEIGHT, RING_SLOTS},
    rules::{self, Role},
};

/// Keys that choose among backends, and say nothing where there is but this host.
const CHOOSING: &[&str] = &[
    "pool",
    "policy",
    "affinity",
    "udp",
    "udp_idle_timeout",
    "ring_slots",
    "backends",
    "down_grace",
    "idle_timeout",
    "on_remove",
    "slow_start",
];

/// The pool of such a service, whose one backend is the listener that its check looks at: by default
/// the service's port, if it has one only, on the loopback address of the VIP's family. `vip` and `port`: `None` if they
/// could not be read.
pub(super) fn pool(
    name: &str,
    vip: Option<Vip>,
    port: Option<Ports>,
    section: &Section<'_>,
    out: &mut Complaints<'_>,
) -> (Pool, BackendPlaces) {
    for &key in CHOOSING {
        if let Some(span) = section.key_span(key) {
            out.error(
                span,
                format!("`{key}` says nothing in a service with `forward = \"local\"`"),
                "remove it: packets go to this host's own stack, and nowhere else".to_owned(),
            );
        }
    }
    let loopback = if vip.is_some_and(Vip::is_ipv6) {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    };
    let endpoint = section
        .optional("listener", out, listener)
        .unwrap_or(SocketAddr::new(
            loopback,
            port.map_or(1, |port| port.one().unwrap_or(0)),
        ));
    let span = section
        .get("listener")
        .map_or(section.span.clone(), Value::span);
    let pool = Pool {
        name: name.to_owned(),
        ring_slots: *RING_SLOTS.start(),
        backends: vec![Backend {
            address: endpoint.ip(),
            port: endpoint.port(),
            weight: DEFAULT_WEIGHT,
        }],
        check: section.optional("check", out, check),
        down_grace: Grace::For(DEFAULT_DOWN_GRACE),
        idle_timeout: DEFAULT_IDLE_TIMEOUT,
        on_remove: OnRemove::Drop,
        slow_start: Duration::ZERO,
    };
    (pool, BackendPlaces::from([(endpoint, span)]))
}

/// Complains about the key of such services in another.
pub(super) fn misplaced(forward: Option<Forward>, section: &Section<'_>, out: &mut Complaints<'_>) {
    if let (Some(forward), Some(span)) = (forward, section.key_span("listener")) {
        out.error(
            span,
            format!("`listener` is for `forward = \"local\"`, and this service has `{forward}`"),
            "remove it, and list `backends`; or write `forward = \"local\"`".to_owned(),
        );
    }
}

fn listener(value: Value<'_>, out: &mut Complaints<'_>) -> Option<SocketAddr> {
    let text = string(value, out)?;
    let Ok(endpoint) = text.parse::<SocketAddr>() else {
        out.error(
            value.span(),
            format!("`{text}` is not an address with a port"),
            "write it as `\"127.0.0.1:443\"` or `\"[::1]:443\"`".to_owned(),
        );
        return None;
    };
    let sound = rules::address_for(endpoint.ip(), Role::Listener)
        .and_then(|()| rules::port(endpoint.port()));
    match sound {
        Ok(()) => Some(endpoint),
        Err(fault) => {
            out.error(value.span(), fault.message, fault.help);
            None
        }
    }
}
