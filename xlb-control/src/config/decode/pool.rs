//! `[[pool]]`, and the same keys inline in a service.

use std::{collections::HashMap, net::SocketAddr, ops::Range};

use super::{
    complaints::Complaints,
    schema,
    section::{Section, Value},
    values::{address, choice, duration, integer, port},
};
use crate::config::{
    Backend, Check, CheckKind, Grace, Pool,
    limits::{
        CHECK_COUNT, CHECK_TIME, DEFAULT_CHECK_INTERVAL, DEFAULT_CHECK_TIMEOUT, DEFAULT_DOWN_GRACE,
        DEFAULT_FALL, DEFAULT_IDLE_TIMEOUT, DEFAULT_RING_SLOTS, DEFAULT_RISE, DEFAULT_WEIGHT,
        DOWN_GRACE, IDLE_TIMEOUT, RING_SLOTS, SLOTS_PER_BACKEND, SLOW_START,
    },
    prime,
    rules::Role,
};

/// Where the backends of a pool stand.
pub(super) type BackendPlaces = HashMap<SocketAddr, Range<usize>>;

/// Decodes the keys of a pool. What is broken is complained about and stands in the result as a
/// default, so that the rest can still be checked.
pub(super) fn pool(
    name: &str,
    section: &Section<'_>,
    out: &mut Complaints<'_>,
) -> (Pool, BackendPlaces) {
    let slots = section.optional("ring_slots", out, ring_slots);
    let (backends, places) = section
        .optional("backends", out, backends)
        .unwrap_or_default();
    let pool = Pool {
        name: name.to_owned(),
        ring_slots: slots.unwrap_or(DEFAULT_RING_SLOTS),
        backends,
        check: section.optional("check", out, check),
        down_grace: section
            .optional("down_grace", out, grace)
            .unwrap_or(Grace::For(DEFAULT_DOWN_GRACE)),
        idle_timeout: section
            .optional("idle_timeout", out, |value, out| {
                duration(value, &IDLE_TIMEOUT, "", out)
            })
            .unwrap_or(DEFAULT_IDLE_TIMEOUT),
        on_remove: section
            .optional("on_remove", out, choice)
            .unwrap_or_default(),
        slow_start: section
            .optional("slow_start", out, |value, out| {
                duration(value, &SLOW_START, "", out)
            })
            .unwrap_or_default(),
    };
    // Backends that were left out for a fault of theirs would make the warnings wrong.
    let written = section.get("backends").map_or(0, Value::elements);
    if written == pool.backends.len() {
        warn(&pool, section, out);
    }
    (pool, places)
}

fn ring_slots(value: Value<'_>, out: &mut Complaints<'_>) -> Option<u32> {
    let slots = integer(value, &RING_SLOTS, out)?;
    if prime::is_prime(slots) {
        return Some(slots);
    }
    let nearest: Vec<String> = <[_; 2]>::from(prime::neighbours(slots, &RING_SLOTS))
        .into_iter()
        .flatten()
        .map(|prime| format!("`{prime}`"))
        .collect();
    out.error(
        value.span(),
        format!("`ring_slots` must be prime, and {slots} is not"),
        format!("the nearest are {}", nearest.join(" and ")),
    );
    None
}

fn backends(value: Value<'_>, out: &mut Complaints<'_>) -> Option<(Vec<Backend>, BackendPlaces)> {
    const EXAMPLE: &str = "{ address = \"10.0.1.7\", port = 8080 }";
    let elements = value.array("tables", &format!("[{EXAMPLE}]"), out)?;
    let mut list = Vec::with_capacity(elements.len());
    let mut places = BackendPlaces::with_capacity(elements.len());
    for element in elements {
        let Some(section) = element.section("a backend", EXAMPLE, schema::BACKEND, out) else {
            continue;
        };
        let Some(backend) = backend(&section, out) else {
            continue;
        };
        if let Some(first) = places.get(&backend.endpoint()) {
            let place = out.place(first);
            out.error(
                element.span(),
                format!("backend {} stands twice in the pool", backend.endpoint()),
                format!("the first is at {place}; remove one, or give it the sum of the weights"),
            );
        } else {
            places.insert(backend.endpoint(), element.span());
            list.push(backend);
        }
    }
    Some((list, places))
}

fn backend(section: &Section<'_>, out: &mut Complaints<'_>) -> Option<Backend> {
    let address = section.required("address", "\"10.0.1.7\"", out, |value, out| {
        address(value, Role::Backend, out)
    });
    let port = section.optional("port", out, port);
    let has_port = port.is_some() || section.lacks("port");
    let weight = section.optional("weight", out, |value, out| {
        integer(value, &(0..=u16::MAX), out)
    });
    Some(Backend {
        address: address?,
        port: has_port.then(|| port.unwrap_or(0))?,
        weight: weight.unwrap_or(DEFAULT_WEIGHT),
    })
}

pub(super) fn check(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Check> {
    let example = "check = { type = \"tcp\" }";
    let section = value.section("a check", example, schema::CHECK, out)?;
    let kind = section.required("type", "\"tcp\"", out, choice::<CheckKind>);
    let time = |value: Value<'_>, out: &mut Complaints<'_>| duration(value, &CHECK_TIME, "", out);
    let count = |value: Value<'_>, out: &mut Complaints<'_>| integer(value, &CHECK_COUNT, out);
    let given_timeout = section.optional("timeout", out, time);
    let check = Check {
        kind: kind.unwrap_or(CheckKind::Tcp),
        interval: section
            .optional("interval", out, time)
            .unwrap_or(DEFAULT_CHECK_INTERVAL),
        timeout: given_timeout.unwrap_or(DEFAULT_CHECK_TIMEOUT),
        rise: section.optional("rise", out, count).unwrap_or(DEFAULT_RISE),
        fall: section.optional("fall", out, count).unwrap_or(DEFAULT_FALL),
        port: section.optional("port", out, port),
    };
    if check.timeout > check.interval {
        warn_of_timeout(&check, given_timeout.is_some(), &section, out);
    }
    Some(check)
}

fn warn_of_timeout(check: &Check, is_given: bool, section: &Section<'_>, out: &mut Complaints<'_>) {
    let key = if is_given { "timeout" } else { "interval" };
    let span = section.get(key).map_or(section.span.clone(), Value::span);
    let interval = humantime::format_duration(check.interval);
    let timeout = humantime::format_duration(check.timeout);
    let default = if is_given { "" } else { " (the default)" };
    out.warning(
        span,
        format!(
            "`timeout` {timeout}{default} is longer than `interval` {interval}: a probe that hangs \
             delays the next one"
        ),
        format!("set `timeout = \"{interval}\"` or less"),
    );
}

fn grace(value: Value<'_>, out: &mut Complaints<'_>) -> Option<Grace> {
    if let toml::de::DeValue::String(text) = value.raw()
        && text == "forever"
    {
        return Some(Grace::Forever);
    }
    duration(value, &DOWN_GRACE, ", or \"forever\"", out).map(Grace::For)
}

fn warn(pool: &Pool, section: &Section<'_>, out: &mut Complaints<'_>) {
    let span = section.key_span("backends").unwrap_or(section.span.clone());
    let name = &pool.name;
    if pool.backends.is_empty() {
        out.warning(
            span,
            format!("pool `{name}` has no backends: its services serve nothing"),
            format!(
                "add some here, or at run time with `xlb-agent backend add {name} ADDRESS:PORT`"
            ),
        );
    } else if pool.backends.iter().all(|backend| backend.weight == 0) {
        out.warning(
            span,
            format!("all backends of pool `{name}` have weight 0: none gets new connections"),
            "give at least one of them a weight of 1 or more".to_owned(),
        );
    } else if let Some(message) = uneven(pool) {
        let at = section.get("ring_slots").map_or(span, Value::span);
        let wanted = u32::try_from(pool.backends.len() * SLOTS_PER_BACKEND).unwrap_or(u32::MAX);
        let better = prime::neighbours(wanted, &RING_SLOTS).1;
        out.warning(
            at,
            message,
            better.map(|slots| {
                format!("`ring_slots = {slots}` would do; another size moves every connection once")
            }),
        );
    }
}

/// Says so when a pool has more backends than its ring can share evenly.
pub(in crate::config) fn uneven(pool: &Pool) -> Option<String> {
    let most = usize::try_from(pool.ring_slots).ok()? / SLOTS_PER_BACKEND;
    (pool.backends.len() > most).then(|| {
        format!(
            "pool `{}` has {} backends for {} slots: with more than a hundredth of the slots \
             ({most}), their shares are uneven",
            pool.name,
            pool.backends.len(),
            pool.ring_slots
        )
    })
}

const _: () = assert!(
    DEFAULT_CHECK_TIMEOUT.as_nanos() <= DEFAULT_CHECK_INTERVAL.as_nanos(),
    "a check that gives neither must not warn"
);
