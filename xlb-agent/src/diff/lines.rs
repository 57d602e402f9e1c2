//! The differences of two configurations in words. Every field is named, so that a new one can't be
//! forgotten here.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use xlb_control::config::{Backend, Check, Dataplane, Grace, Pool, Service};

/// What becomes of another hash key.
pub const ANOTHER_KEY: &str = "a reload keeps the key in force; the next start of the agent takes \
                               the new one, and then all connections move";

/// `192.0.2.10:443/tcp`
pub(super) fn address(service: &Service) -> String {
    format!("{}/{}", service.at(), service.protocol)
}

/// What would change for the host.
#[must_use]
pub fn host_lines(now: &Dataplane, then: &Dataplane) -> Vec<String> {
    let Dataplane {
        interfaces,
        vlans,
        mode,
        hash_key,
        tunnel_source_v4,
        tunnel_source_v6,
        settle,
        max_flows,
        max_pending,
        nat_source,
        nat_ports,
        nat_timeouts,
        max_fragmented,
    } = now;
    let mut lines = Lines::default();
    lines.compare(
        "interfaces",
        &interfaces.join(", "),
        &then.interfaces.join(", "),
    );
    let unset_if_none = |names: &[String]| {
        if names.is_empty() {
            "unset".to_owned()
        } else {
            names.join(", ")
        }
    };
    lines.compare("vlans", &unset_if_none(vlans), &unset_if_none(&then.vlans));
    lines.compare("mode", mode, &then.mode);
    if *hash_key != then.hash_key {
        // The key itself is a secret.
        lines.say(format!("hash_key: {ANOTHER_KEY}"));
    }
    lines.compare(
        "tunnel_source_v4",
        &or_unset(*tunnel_source_v4),
        &or_unset(then.tunnel_source_v4),
    );
    lines.compare(
        "tunnel_source_v6",
        &or_unset(*tunnel_source_v6),
        &or_unset(then.tunnel_source_v6),
    );
    lines.compare("settle", settle, &then.settle);
    lines.compare("max_flows", max_flows, &then.max_flows);
    lines.compare("max_pending", max_pending, &then.max_pending);
    let listed = |sources: &[std::net::IpAddr]| {
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        sources.join(", ")
    };
    lines.compare("nat_source", &listed(nat_source), &listed(&then.nat_source));
    lines.compare("nat_ports", nat_ports, &then.nat_ports);
    lines.compare("nat_timeouts", nat_timeouts, &then.nat_timeouts);
    lines.compare("max_fragmented", max_fragmented, &then.max_fragmented);
    lines.list
}

/// What would change for a service itself.
pub(super) fn service_lines(now: &Service, then: &Service) -> Vec<String> {
    let Service {
        name: _,
        vip: _,
        port: _,
        protocol: _,
        forward,
        pool,
        all_down,
        policy,
        affinity,
        udp,
        udp_idle_timeout,
        second_chance,
        fragments,
        announce,
    } = now;
    let mut lines = Lines::default();
    lines.compare("address", &address(now), &address(then));
    lines.compare("forward", forward, &then.forward);
    lines.compare("pool", pool, &then.pool);
    lines.compare("all_down", all_down, &then.all_down);
    lines.compare("policy", policy, &then.policy);
    lines.compare("affinity", &or_unset(*affinity), &or_unset(then.affinity));
    lines.compare("udp", udp, &then.udp);
    lines.compare(
        "udp_idle_timeout",
        &time(*udp_idle_timeout),
        &time(then.udp_idle_timeout),
    );
    lines.compare("second_chance", second_chance, &then.second_chance);
    lines.compare("fragments", fragments, &then.fragments);
    lines.compare("announce", &or_unset(*announce), &or_unset(then.announce));
    lines.list
}

/// What would change for a pool. `dropped`: backends that would lose their connections.
pub(super) fn pool_lines(now: &Pool, then: &Pool, dropped: &[SocketAddr]) -> Vec<String> {
    let Pool {
        name: _,
        ring_slots,
        backends,
        check,
        down_grace,
        idle_timeout,
        on_remove,
        slow_start,
    } = now;
    let mut lines = Lines::default();
    backend_lines(backends, then, dropped, &mut lines);
    lines.compare("ring_slots", ring_slots, &then.ring_slots);
    lines.compare("check", &check_text(check), &check_text(&then.check));
    lines.compare("down_grace", &grace(*down_grace), &grace(then.down_grace));
    lines.compare(
        "idle_timeout",
        &time(*idle_timeout),
        &time(then.idle_timeout),
    );
    lines.compare("on_remove", on_remove, &then.on_remove);
    lines.compare("slow_start", &time(*slow_start), &time(then.slow_start));
    lines.list
}

/// Backends by address and port, in the order of these.
fn backend_lines(now: &[Backend], pool: &Pool, dropped: &[SocketAddr], lines: &mut Lines) {
    let slowly = if pool.slow_start.is_zero() {
        String::new()
    } else {
        format!(", and comes to its share within {}", time(pool.slow_start))
    };
    let weights = |backends: &[Backend]| -> BTreeMap<SocketAddr, u16> {
        let backends = backends.iter();
        backends
            .map(|backend| (backend.endpoint(), backend.weight))
            .collect()
    };
    let (now, then) = (weights(now), weights(&pool.backends));
    for (endpoint, weight) in &then {
        match now.get(endpoint) {
            None => lines.say(format!(
                "backend {endpoint} is added, weight {weight}{slowly}"
            )),
            Some(old) if old != weight => {
                lines.say(format!("backend {endpoint}: weight {old} -> {weight}"));
            }
            Some(_) => (),
        }
    }
    for endpoint in now.keys().filter(|at| !then.contains_key(at)) {
        let fate = if dropped.contains(endpoint) {
            "its connections move to other backends at once, which cuts them"
        } else {
            "keeps its connections until they end, and gets no new ones"
        };
        lines.say(format!("backend {endpoint} is removed: {fate}"));
    }
}

#[derive(Default)]
struct Lines {
    list: Vec<String>,
}

impl Lines {
    fn say(&mut self, line: String) {
        self.list.push(line);
    }

    fn compare<T: PartialEq + fmt::Display>(&mut self, name: &str, now: &T, then: &T) {
        if now != then {
            self.list.push(format!("{name}: {now} -> {then}"));
        }
    }
}

fn or_unset<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unset".to_owned(), |value| value.to_string())
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn grace(grace: Grace) -> String {
    match grace {
        Grace::For(duration) => time(duration),
        Grace::Forever => "forever".to_owned(),
    }
}

fn check_text(check: &Option<Check>) -> String {
    let Some(Check {
        kind,
        interval,
        timeout,
        rise,
        fall,
        port,
    }) = check
    else {
        return "none".to_owned();
    };
    let port = port.map_or_else(String::new, |port| format!(" port {port}"));
    format!(
        "{kind}{port} every {} within {}, rise {rise}, fall {fall}",
        time(*interval),
        time(*timeout)
    )
}
