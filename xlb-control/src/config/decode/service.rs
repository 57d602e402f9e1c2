//! `[[service]]`.

use std::ops::Range;

use super::{
    complaints::Complaints,
    local,
    policy::{self, Decisions},
    pool::{self, BackendPlaces},
    schema,
    section::{Section, Value},
    values::{boolean, choice, name, ports, string, vip},
};
use crate::config::{AllDown, Forward, Fragments, Policy, Pool, Protocol, Service, Udp};

/// What was read of a service. The service is missing when too little of it is sound.
pub(super) struct Decoded {
    pub(super) name: Option<String>,
    pub(super) service: Option<Service>,
    /// Whether the service's `forward` is not what the file says, but stands for one that is wrong.
    pub(super) lacks_forward: bool,
    /// The pool that it names, for the search of pools that nothing uses.
    pub(super) names_pool: Option<String>,
    /// The pool that is written in it.
    pub(super) inline: Option<(Pool, BackendPlaces)>,
    pub(super) places: ServicePlaces,
}

/// Where the keys of a service stand.
#[derive(Clone, Debug)]
pub(super) struct ServicePlaces {
    pub(super) name: Range<usize>,
    pub(super) vip: Range<usize>,
    pub(super) forward: Range<usize>,
    pub(super) pool: Range<usize>,
}

/// Decodes a service, and the pool that may be written in it.
pub(super) fn service(section: &Section<'_>, out: &mut Complaints<'_>) -> Decoded {
    let name = section.required("name", "\"web\"", out, name);
    let vip = section.required("vip", "\"192.0.2.10\"", out, vip);
    let port = section.required("port", "443", out, ports);
    let protocol = section.optional("protocol", out, choice::<Protocol>);
    let forward = section.required("forward", "\"dnat\"", out, choice::<Forward>);
    let is_tcp_unsaid = section.get("protocol").is_none();
    let known_protocol = protocol.or(is_tcp_unsaid.then_some(Protocol::Tcp));
    let decisions = policy::decisions(known_protocol, forward, section, out);
    let all_down = section.optional("all_down", out, choice);
    let second_chance = second_chance(section, forward, known_protocol, decisions.policy, out);
    let fragments = fragments(section, forward, known_protocol, decisions.udp, out);
    let announce = section.optional("announce", out, choice);
    let names_pool = section.optional("pool", out, string);
    let inline = if forward == Some(Forward::Local) {
        Some(local::pool(name.unwrap_or("?"), vip, port, section, out))
    } else {
        local::misplaced(forward, section, out);
        inline_pool(name, section, out)
    };
    let pool = names_pool.or(inline.as_ref().and(name));
    let build = || {
        let Decisions {
            policy,
            affinity,
            udp,
            udp_idle_timeout,
        } = decisions;
        Some(Service {
            name: name?.to_owned(),
            vip: vip?,
            port: port?,
            protocol: protocol.unwrap_or(Protocol::Tcp),
            forward: forward.unwrap_or(Forward::L2Dsr),
            pool: pool?.to_owned(),
            policy,
            affinity,
            udp,
            udp_idle_timeout,
            all_down: all_down.unwrap_or(if forward == Some(Forward::Local) {
                AllDown::Drop
            } else {
                AllDown::default()
            }),
            second_chance,
            fragments,
            announce,
        })
    };
    Decoded {
        service: build(),
        lacks_forward: forward.is_none(),
        name: name.map(str::to_owned),
        names_pool: names_pool.map(str::to_owned),
        inline,
        places: ServicePlaces {
            name: span_of(section, "name"),
            vip: span_of(section, "vip"),
            forward: span_of(section, "forward"),
            pool: pool_span(section),
        },
    }
}

/// The pool that is written in a service; complains when there are two of them, or none.
fn inline_pool(
    name: Option<&str>,
    section: &Section<'_>,
    out: &mut Complaints<'_>,
) -> Option<(Pool, BackendPlaces)> {
    let inline_key = schema::INLINE_POOL
        .iter()
        .find(|key| section.get(key).is_some());
    match (section.key_span("pool"), inline_key) {
        (None, None) => {
            out.error(
                section.span.clone(),
                "the service has no pool",
                "add `pool = \"NAME\"`, or `backends` of its own".to_owned(),
            );
            None
        }
        (Some(_), None) => None,
        (pool_span, Some(key)) => {
            if pool_span.is_some() {
                out.error(
                    section.key_span(key).unwrap_or(section.span.clone()),
                    format!("the service names a pool, and has `{key}` of its own"),
                    format!("move `{key}` to the [[pool]], or remove `pool`"),
                );
            }
            // Decoded although there may be two, for the complaints about what is in it.
            let decoded = pool::pool(name.unwrap_or("?"), section, out);
            pool_span.is_none().then_some(decoded)
        }
    }
}

/// Whether packets name an alternative; complains where that can't be, or would be of no use.
fn second_chance(
    section: &Section<'_>,
    forward: Option<Forward>,
    protocol: Option<Protocol>,
    policy: Policy,
    out: &mut Complaints<'_>,
) -> bool {
    let Some(value) = section.get("second_chance") else {
        return false;
    };
    if !boolean(value, out).unwrap_or(false) {
        return false;
    }
    let fault = if forward.is_some_and(|forward| !matches!(forward, Forward::Ipip | Forward::Gue)) {
        "needs `forward = \"ipip\"` or `\"gue\"`: only an outer header can name another backend"
            .to_owned()
    } else if let Some(protocol @ (Protocol::Udp | Protocol::Sctp)) = protocol {
        let packet = if protocol == Protocol::Udp {
            "datagram"
        } else {
            "packet of SCTP"
        };
        format!("is for TCP: a backend can't tell whose a {packet} is")
    } else if policy.decides_by_connection() {
        format!(
            "is lost on `policy = \"{policy}\"`: a slot of it does not say which backends a \
             connection can be on"
        )
    } else {
        return true;
    };
    out.error(
        value.span(),
        format!("`second_chance` {fault}"),
        "remove it, or set it to false".to_owned(),
    );
    false
}

/// Where datagrams go that come in fragments; complains where their addresses can't say that.
fn fragments(
    section: &Section<'_>,
    forward: Option<Forward>,
    protocol: Option<Protocol>,
    udp: Udp,
    out: &mut Complaints<'_>,
) -> Fragments {
    let Some(value) = section.get("fragments") else {
        return Fragments::default();
    };
    let fragments = choice(value, out).unwrap_or_default();
    if fragments == Fragments::Follow {
        return fragments;
    }
    let fault = match (protocol, udp) {
        _ if forward == Some(Forward::FullNat) => {
            "is lost on `forward = \"full-nat\"`, which takes no fragments"
        }
        (Some(Protocol::Tcp | Protocol::Sctp), _) => {
            "is for UDP: it would tear connections, whose other packets go by their ports"
        }
        (Some(Protocol::Udp), Udp::Tracked) => {
            "is lost on `udp = \"tracked\"`: only the ports lead to the record of a flow"
        }
        (Some(Protocol::Udp) | None, _) => return fragments,
    };
    out.error(
        value.span(),
        format!("`fragments = \"{fragments}\"` {fault}"),
        "remove it, or write `fragments = \"follow\"`".to_owned(),
    );
    Fragments::default()
}

/// The name of the pool, or the first key of the pool that is written in the service.
fn pool_span(section: &Section<'_>) -> Range<usize> {
    let inline_key = || {
        schema::INLINE_POOL
            .iter()
            .find_map(|key| section.key_span(key))
    };
    let named = section.get("pool").map(Value::span);
    named.or_else(inline_key).unwrap_or(section.span.clone())
}

fn span_of(section: &Section<'_>, key: &str) -> Range<usize> {
    section.get(key).map_or(section.span.clone(), Value::span)
}
