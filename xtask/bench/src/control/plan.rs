//! Configurations of any size, and the addresses in them.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
};

/// Port of backends that are always there.
pub(super) const BACKEND_PORT: u16 = 8080;
/// Port of the one backend that is made to fail.
pub(super) const VICTIM_PORT: u16 = 8081;
/// The prefix that all backends are in; a gateway leads there.
pub(super) const BACKENDS: &str = "10.128.0.0/9";

/// The first VIP: of the prefix that is set aside for benchmarks (RFC 2544, appendix C.2.2).
const FIRST_VIP: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const FIRST_BACKEND: u32 = u32::from_be_bytes([10, 128, 0, 1]);

/// What a configuration is made of: services that are alike, each with a pool of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Services.
    pub(super) services: u32,
    /// Backends of each pool.
    pub(super) backends: u32,
    /// Slots of each pool's ring.
    pub(super) ring_slots: u32,
    /// Time from probe to probe of the backends of the first pool; the others are not probed.
    pub(super) check_ms: Option<u32>,
}

/// Name of the pool that things happen to.
pub(super) const POOL: &str = "pool0";
/// Name of the service in front of it.
pub(super) const SERVICE: &str = "service0";

impl Plan {
    /// The endpoint of a backend, counted over all pools. The very first is the one that fails.
    pub(super) fn endpoint(number: u32) -> SocketAddr {
        let port = if number == 0 {
            VICTIM_PORT
        } else {
            BACKEND_PORT
        };
        SocketAddr::new(Ipv4Addr::from_bits(FIRST_BACKEND + number).into(), port)
    }

    /// The backend that is made to fail, and whose weight changes.
    pub(super) fn victim() -> SocketAddr {
        Self::endpoint(0)
    }

    /// The text of the file.
    pub(super) fn config(&self) -> String {
        let mut text = String::from("[dataplane]\ninterfaces = [\"eth0\"]\n");
        for service in 0..self.services {
            let vip = Ipv4Addr::from_bits(FIRST_VIP + service);
            let _ = write!(
                text,
                "\n[[pool]]\nname = \"pool{service}\"\nring_slots = {}\nbackends = [\n",
                self.ring_slots
            );
            for backend in 0..self.backends {
                let endpoint = Self::endpoint(service * self.backends + backend);
                let _ = writeln!(
                    text,
                    "  {{ address = \"{}\", port = {} }},",
                    endpoint.ip(),
                    endpoint.port()
                );
            }
            text.push_str("]\n");
            if let (0, Some(interval)) = (service, self.check_ms) {
                let _ = writeln!(
                    text,
                    "check = {{ type = \"tcp\", interval = \"{interval}ms\", timeout = \"1s\", \
                     rise = 1, fall = 1 }}"
                );
            }
            let _ = write!(
                text,
                "\n[[service]]\nname = \"service{service}\"\nvip = \"{vip}\"\nport = 80\n\
                 forward = \"dnat\"\npool = \"pool{service}\"\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use xlb_control::config::Config;

    use super::*;

    #[test]
    fn the_configurations_are_valid() {
        for plan in [
            Plan {
                services: 1000,
                backends: 10,
                ring_slots: 16_381,
                check_ms: Some(50),
            },
            Plan {
                services: 1,
                backends: 10_000,
                ring_slots: 655_373,
                check_ms: None,
            },
        ] {
            let loaded = Config::parse("bench.toml", &plan.config())
                .unwrap_or_else(|error| panic!("{plan:?}: {error}"));
            assert_eq!(loaded.config.services.len(), plan.services as usize);
            let pool = &loaded.config.pools[POOL];
            assert_eq!(pool.backends.len(), plan.backends as usize);
            assert_eq!(pool.backends[0].endpoint(), Plan::victim());
            assert_eq!(pool.check.is_some(), plan.check_ms.is_some());
            assert_eq!(loaded.config.services[SERVICE].pool, POOL);
        }
    }
}
