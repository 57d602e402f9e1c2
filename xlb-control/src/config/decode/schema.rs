//! The tables of the file and their keys.

/// Keys outside of any table.
pub(super) const DOCUMENT: &[&str] = &["dataplane", "pool", "service"];

/// Keys outside of any table in the file of a backend that decapsulates.
pub(super) const BACKEND_DOCUMENT: &[&str] = &["backend"];

/// Keys of `[backend]` in that file.
pub(super) const DECAPSULATION: &[&str] = &[
    "interfaces",
    "mode",
    "balancers",
    "vips",
    "peers",
    "loopback",
];

/// Keys of `[dataplane]`.
pub(super) const DATAPLANE: &[&str] = &[
    "interfaces",
    "mode",
    "hash_key",
    "vlans",
    "tunnel_source_v4",
    "tunnel_source_v6",
    "settle",
    "max_flows",
    "max_pending",
    "max_fragmented",
    "nat_source",
    "nat_ports",
    "nat_timeouts",
];

/// Keys of `nat_timeouts`.
pub(super) const NAT_TIMEOUTS: &[&str] = &[
    "tcp_syn",
    "tcp_fin_wait",
    "tcp_time_wait",
    "tcp_close",
    "udp",
];

/// Keys of `[[pool]]`, of which all but the name may also stand in a service.
pub(super) const POOL: &[&str] = &[
    "name",
    "ring_slots",
    "backends",
    "check",
    "down_grace",
    "idle_timeout",
    "on_remove",
    "slow_start",
];

/// Keys of a pool that is written inline in a service.
pub(super) const INLINE_POOL: &[&str] = POOL.split_at(1).1;

/// Keys of `[[service]]`; the last ones are [`INLINE_POOL`].
pub(super) const SERVICE: &[&str] = &[
    "name",
    "vip",
    "port",
    "protocol",
    "forward",
    "pool",
    "policy",
    "affinity",
    "udp",
    "udp_idle_timeout",
    "all_down",
    "second_chance",
    "fragments",
    "announce",
    "listener",
    "ring_slots",
    "backends",
    "check",
    "down_grace",
    "idle_timeout",
    "on_remove",
    "slow_start",
];

/// Keys of a backend.
pub(super) const BACKEND: &[&str] = &["address", "port", "weight"];

/// Keys of a check.
pub(super) const CHECK: &[&str] = &["type", "interval", "timeout", "rise", "fall", "port"];

/// The tables, to say where a key belongs that stands in the wrong one.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("[dataplane]", DATAPLANE),
    ("[[pool]]", POOL),
    ("[[service]]", SERVICE),
    ("a backend", BACKEND),
    ("a check", CHECK),
    ("`nat_timeouts`", NAT_TIMEOUTS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_takes_every_key_of_a_pool() {
        for key in INLINE_POOL {
            assert!(SERVICE.contains(key), "{key}");
        }
        assert!(!INLINE_POOL.contains(&"name"));
    }
}
