//! What `forward = "full-nat"` takes source addresses and ports from.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use super::{
    complaints::Complaints,
    schema,
    section::Value,
    values::{address, duration, string},
};
use crate::config::{
    NatTimeouts, PortRange,
    limits::{FEW_NAT_PORTS, MAX_NAT_SOURCES, NAT_TIMEOUT},
    rules::Role,
};

/// The source addresses.
pub(super) fn sources(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vec<IpAddr>> {
    let example = "nat_source = [\"10.0.0.9\"]";
    let mut first_at = HashMap::new();
    let mut sources = Vec::new();
    for element in value.array("addresses", example, out)? {
        let Some(source) = address(element, Role::NatSource, out) else {
            continue;
        };
        if let Some(first) = first_at.get(&source) {
            let place = out.place(first);
            out.error(
                element.span(),
                format!("{source} is named twice"),
                format!("the first is at {place}; remove one"),
            );
            continue;
        }
        first_at.insert(source, element.span());
        sources.push(source);
    }
    for (family, is_of) in [
        ("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
        ("IPv6", IpAddr::is_ipv6),
    ] {
        let count = sources.iter().filter(|source| is_of(source)).count();
        if count > MAX_NAT_SOURCES {
            out.error(
                value.span(),
                format!("`nat_source` has {count} addresses of {family}"),
                format!("name at most {MAX_NAT_SOURCES} of a family"),
            );
        }
    }
    Some(sources)
}

/// The ports.
pub(super) fn ports(value: Value<'_>, out: &mut Complaints<'_>) -> Option<PortRange> {
    let text = string(value, out)?;
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first != 0 && first <= last).then_some(PortRange { first, last })
    });
    if range.is_none() {
        out.error(
            value.span(),
            format!("`{text}` is not a range of ports"),
            "write it as `\"1024-65535\"`, the first port not above the last".to_owned(),
        );
    }
    if let Some(PortRange { first, last }) = range
        && last - first < FEW_NAT_PORTS - 1
    {
        out.warning(
            value.span(),
            format!(
                "`nat_ports` has {} ports: as many connections at most from a source address, those \
                 closed within the last minute among them",
                u32::from(last - first) + 1
            ),
            "leave it out, or name a wider range".to_owned(),
        );
    }
    range
}

/// The timeouts.
pub(super) fn timeouts(value: Value<'_>, out: &mut Complaints<'_>) -> Option<NatTimeouts> {
    let example = "nat_timeouts = { tcp_time_wait = \"60s\" }";
    let section = value.section("`nat_timeouts`", example, schema::NAT_TIMEOUTS, out)?;
    let mut time = |key: &str, default: Duration| {
        section
            .optional(key, out, |value, out| {
                let time = duration(value, &NAT_TIMEOUT, "", out)?;
                if time.subsec_nanos() != 0 {
                    out.error(
                        value.span(),
                        format!("`{key}` is not a number of whole seconds"),
                        format!("write it as `\"{}s\"`", time.as_secs()),
                    );
                    return None;
                }
                Some(time)
            })
            .unwrap_or(default)
    };
    let default = NatTimeouts::default();
    Some(NatTimeouts {
        tcp_syn: time("tcp_syn", default.tcp_syn),
        tcp_fin_wait: time("tcp_fin_wait", default.tcp_fin_wait),
        tcp_time_wait: time("tcp_time_wait", default.tcp_time_wait),
        tcp_close: time("tcp_close", default.tcp_close),
        udp: time("udp", default.udp),
    })
}
