//! How a service picks backends: keys of `[[service]]` that depend on one another.

use std::time::Duration;

use super::{
    complaints::Complaints,
    section::{Section, Value},
    values::{choice, duration},
};
use crate::config::{
    Affinity, Forward, Policy, Protocol, Udp,
    limits::{DEFAULT_UDP_IDLE_TIMEOUT, IDLE_TIMEOUT},
};

/// What a service says of how it picks backends, and remembers what it picked.
#[derive(Clone, Copy)]
pub(super) struct Decisions {
    pub(super) policy: Policy,
    pub(super) affinity: Option<Affinity>,
    pub(super) udp: Udp,
    pub(super) udp_idle_timeout: Duration,
}

/// Decodes the keys, and complains about those that say nothing beside the others. `protocol`:
/// `None` if it could not be read.
pub(super) fn decisions(
    protocol: Option<Protocol>,
    forward: Option<Forward>,
    section: &Section<'_>,
    out: &mut Complaints<'_>,
) -> Decisions {
    let policy = section.optional("policy", out, choice::<Policy>);
    let affinity = section.optional("affinity", out, choice::<Affinity>);
    let mut udp = section.optional("udp", out, choice::<Udp>);
    let idle = section.optional("udp_idle_timeout", out, |value, out| {
        duration(value, &IDLE_TIMEOUT, "", out)
    });
    let span = |key| section.get(key).map_or(section.span.clone(), Value::span);
    if forward == Some(Forward::FullNat) && protocol == Some(Protocol::Udp) {
        if udp == Some(Udp::Stateless) {
            out.error(
                span("udp"),
                "`udp = \"stateless\"` can't be with `forward = \"full-nat\"`, which knows each flow \
                 by its source port",
                "remove it".to_owned(),
            );
        }
        udp = Some(Udp::Tracked);
    }
    if let Some(policy) = policy.filter(|policy| policy.decides_by_connection()) {
        // A `udp` that could not be read has been complained about.
        let is_unsaid = udp.is_some() || section.get("udp").is_none();
        if protocol == Some(Protocol::Udp) && udp != Some(Udp::Tracked) && is_unsaid {
            out.error(
                span("policy"),
                format!(
                    "`policy = \"{policy}\"` needs tracked flows: without records, it would send \
                     each datagram of a flow elsewhere"
                ),
                "add `udp = \"tracked\"`, or use `policy = \"maglev\"`".to_owned(),
            );
        }
        if let Some(affinity) = affinity {
            out.error(
                span("affinity"),
                format!(
                    "`affinity = \"{affinity}\"` is lost on `policy = \"{policy}\"`, which decides \
                     by connection and not by the client"
                ),
                "use `policy = \"maglev\"`, or remove `affinity`".to_owned(),
            );
        }
    }
    if let Some(udp) = udp
        && let Some(protocol @ (Protocol::Tcp | Protocol::Sctp)) = protocol
    {
        let name = protocol.to_string().to_uppercase();
        out.error(
            span("udp"),
            format!("`udp = \"{udp}\"` stands in a service of {name}"),
            format!(
                "remove it: connections of {name} always stay where they are; or write \
                 `protocol = \"udp\"`"
            ),
        );
    } else if let Some(protocol) = protocol
        && idle.is_some()
        && udp != Some(Udp::Tracked)
        && (udp.is_some() || section.get("udp").is_none())
    {
        out.error(
            span("udp_idle_timeout"),
            "`udp_idle_timeout` is for tracked flows of UDP, and this service has none",
            match protocol {
                Protocol::Udp => "add `udp = \"tracked\"`, or remove it",
                Protocol::Tcp => "remove it; TCP has the `idle_timeout` of the pool",
                Protocol::Sctp => "remove it; SCTP has the `idle_timeout` of the pool",
            }
            .to_owned(),
        );
    }
    Decisions {
        policy: policy.unwrap_or_default(),
        affinity,
        udp: udp.unwrap_or_default(),
        udp_idle_timeout: idle.unwrap_or(DEFAULT_UDP_IDLE_TIMEOUT),
    }
}
