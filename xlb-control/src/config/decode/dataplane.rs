//! `[dataplane]`.

use std::{collections::HashMap, net::IpAddr};

use super::{
    complaints::Complaints,
    nat,
    section::{Section, Value},
    values::{address, choice, integer, string},
};
use crate::config::{
    Dataplane, HashKey,
    limits::{
        DEFAULT_MAX_FLOWS, DEFAULT_MAX_FRAGMENTED, DEFAULT_MAX_PENDING, MAX_INTERFACES,
        TABLE_ENTRIES,
    },
    rules::{self, Role},
};

/// Decodes the table. What is broken is complained about and stands in the result as a default.
pub(super) fn dataplane(section: &Section<'_>, out: &mut Complaints<'_>) -> Dataplane {
    let entries = |value: Value<'_>, out: &mut Complaints<'_>| integer(value, &TABLE_ENTRIES, out);
    let interfaces = section
        .required("interfaces", "[\"eth0\"]", out, interfaces)
        .unwrap_or_default();
    Dataplane {
        vlans: section
            .optional("vlans", out, |value, out| vlans(value, &interfaces, out))
            .unwrap_or_default(),
        interfaces,
        mode: section.optional("mode", out, choice).unwrap_or_default(),
        hash_key: section.optional("hash_key", out, hash_key),
        tunnel_source_v4: match section.optional("tunnel_source_v4", out, tunnel_source) {
            Some(IpAddr::V4(address)) => Some(address),
            Some(IpAddr::V6(_)) => wrong_family(section, "tunnel_source_v4", "IPv6", out),
            None => None,
        },
        tunnel_source_v6: match section.optional("tunnel_source_v6", out, tunnel_source) {
            Some(IpAddr::V6(address)) => Some(address),
            Some(IpAddr::V4(_)) => wrong_family(section, "tunnel_source_v6", "IPv4", out),
            None => None,
        },
        settle: section.optional("settle", out, choice).unwrap_or_default(),
        max_flows: section
            .optional("max_flows", out, entries)
            .unwrap_or(DEFAULT_MAX_FLOWS),
        max_pending: section
            .optional("max_pending", out, entries)
            .unwrap_or(DEFAULT_MAX_PENDING),
        nat_source: section
            .optional("nat_source", out, nat::sources)
            .unwrap_or_default(),
        nat_ports: section
            .optional("nat_ports", out, nat::ports)
            .unwrap_or_default(),
        nat_timeouts: section
            .optional("nat_timeouts", out, nat::timeouts)
            .unwrap_or_default(),
        max_fragmented: section
            .optional("max_fragmented", out, entries)
            .unwrap_or(DEFAULT_MAX_FRAGMENTED),
    }
}

pub(super) fn interfaces(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Vec<String>> {
    let elements = value.array("names", "interfaces = [\"eth0\"]", out)?;
    if elements.is_empty() {
        out.error(
            value.span(),
            "`interfaces` is empty: packets would be taken from nowhere",
            "name one or more, such as `[\"eth0\"]`; `ip link` lists them".to_owned(),
        );
    }
    if elements.len() > MAX_INTERFACES {
        out.error(
            value.span(),
            format!("`interfaces` has {} names", elements.len()),
            format!("name at most {MAX_INTERFACES}"),
        );
    }
    Some(names(elements, out))
}

/// VLAN devices, which share the table of interfaces that packets leave by with `interfaces`.
fn vlans(value: Value<'_>, interfaces: &[String], out: &mut Complaints<'_>) -> Option<Vec<String>> {
    let elements = value.array("names", "vlans = [\"eth0.20\"]", out)?;
    if elements.len() + interfaces.len() > MAX_INTERFACES {
        out.error(
            value.span(),
            format!(
                "`interfaces` and `vlans` have {} names together",
                elements.len() + interfaces.len()
            ),
            format!("name at most {MAX_INTERFACES}"),
        );
    }
    let names = names(elements, out);
    if let Some(name) = names.iter().find(|name| interfaces.contains(name)) {
        out.error(
            value.span(),
            format!("`{name}` is in `interfaces` too"),
            "leave it in `vlans` alone: packets in its VLAN come in by the interface that it is on \
             top of"
                .to_owned(),
        );
    }
    Some(names)
}

fn names(elements: Vec<Value<'_>>, out: &mut Complaints<'_>) -> Vec<String> {
    let mut first_at = HashMap::new();
    let mut names = Vec::new();
    for element in elements {
        let Some(name) = string(element, out) else {
            continue;
        };
        if let Err(fault) = rules::interface(name) {
            out.error(element.span(), fault.message, fault.help);
        } else if let Some(first) = first_at.get(name) {
            let place = out.place(first);
            out.error(
                element.span(),
                format!("interface `{name}` is named twice"),
                format!("the first is at {place}; remove one"),
            );
        } else {
            first_at.insert(name, element.span());
            names.push(name.to_owned());
        }
    }
    names
}

fn hash_key(value: Value<'_>, out: &mut Complaints<'_>) -> Option<HashKey> {
    let text = string(value, out)?;
    let key = parse_hash_key(text);
    if key.is_none() {
        // The message must not repeat the key: it may end up in a log.
        out.error(
            value.span(),
            format!(
                "`hash_key` is not 32 hexadecimal digits, but {} characters",
                text.chars().count()
            ),
            "make one with `openssl rand -hex 16`, and use it on every node of the fleet"
                .to_owned(),
        );
    }
    key
}

fn parse_hash_key(text: &str) -> Option<HashKey> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut key = [0; 16];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(HashKey(key))
}

fn tunnel_source(value: Value<'_>, out: &mut Complaints<'_>) -> Option<IpAddr> {
    address(value, Role::TunnelSource, out)
}

fn wrong_family<T>(
    section: &Section<'_>,
    key: &str,
    family: &str,
    out: &mut Complaints<'_>,
) -> Option<T> {
    let span = section.get(key).map_or(section.span.clone(), Value::span);
    out.error(
        span,
        format!("`{key}` is an {family} address"),
        "IPv4 goes to `tunnel_source_v4`, IPv6 to `tunnel_source_v6`".to_owned(),
    );
    None
}
