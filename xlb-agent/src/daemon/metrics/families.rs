//! Which metrics there are, and their series.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use serde::Serialize;
use xlb_control::api::{BackendState, BackendStatus, ServiceHealth};

use super::{
    Sample, Traffic,
    encode::{Labels, Out, counter, gauge, histogram},
    process,
};

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.agent(&mut out)?;
        self.program(&mut out)?;
        self.services(&mut out)?;
        self.pools(&mut out)?;
        self.backends(&mut out)?;
        self.traffic(&mut out)?;
        self.probes(&mut out)?;
        self.nat(&mut out)
    }
}

impl Sample {
    fn agent(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        out.write(gauge("xlb_build_info", "Version of the agent"), |family| {
            family.one(vec![("version", &status.version)], 1.0)
        })?;
        let revision = "Applied configurations since the agent started";
        out.write(gauge("xlb_config_revision", revision), |family| {
            family.alone(status.config_revision as f64)
        })?;
        let taken = "Whether the last reload was taken: 1, or 0 if it was refused";
        out.write(
            gauge("xlb_config_last_reload_successful", taken),
            |family| family.alone(f64::from(u8::from(self.reloads.last_was_taken))),
        )?;
        let when = "When a configuration file was taken last, in Unix time";
        out.write(
            gauge("xlb_config_last_reload_success_timestamp", when).in_seconds(),
            |family| family.alone(unix_s(self.reloads.last_taken)),
        )?;
        let refused = "Reloads that were refused since the agent started";
        out.write(counter("xlb_config_reloads_refused", refused), |family| {
            family.count(Vec::new(), self.reloads.refused)
        })?;
        let Some(usage) = process::usage() else {
            return Ok(());
        };
        let cpu = "CPU time of the agent, of user and system";
        out.write(counter("process_cpu", cpu).in_seconds(), |family| {
            family.count_seconds(Vec::new(), usage.cpu_s)
        })?;
        let memory = "Resident memory of the agent";
        out.write(
            gauge("process_resident_memory", memory).in_bytes(),
            |family| family.alone(usage.resident_bytes as f64),
        )?;
        out.write(
            gauge("process_open_fds", "Open files of the agent"),
            |family| family.alone(usage.open_files as f64),
        )?;
        let start = "When the agent started, in Unix time";
        out.write(gauge("process_start_time", start).in_seconds(), |family| {
            family.alone(unix_s(self.started))
        })
    }

    fn program(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        let features = status.program.features.join(",");
        out.write(
            gauge("xlb_program_info", "The XDP program in force"),
            |family| {
                let id = status.program.id.to_string();
                family.one(vec![("program_id", &id), ("features", &features)], 1.0)
            },
        )?;
        let up = "Whether an interface is up and has the program";
        out.write(gauge("xlb_interface_up", up), |family| {
            status.interfaces.iter().try_for_each(|it| {
                let up = it.up && it.mode != "detached";
                let labels = vec![("interface", it.name.as_str()), ("mode", &it.mode)];
                family.one(labels, f64::from(u8::from(up)))
            })
        })?;
        let packets = "Packets by the reason of their exit from the program, or of what happened on \
                       their way. Those that were forwarded are counted by xlb_backend_packets";
        out.write(counter("xlb_packets", packets), |family| {
            self.reasons.iter().try_for_each(|&(reason, count)| {
                let action = reason.action().name();
                family.count(vec![("reason", reason.name()), ("action", action)], count)
            })
        })?;
        let used = "Entries in use of maps in which they are counted";
        out.write(gauge("xlb_map_entries", used), |family| {
            status.maps.iter().try_for_each(|map| match map.used {
                Some(used) => family.one(vec![("map", &map.name)], used as f64),
                None => Ok(()),
            })
        })?;
        out.write(
            gauge("xlb_map_capacity", "Entries that fit a map"),
            |family| {
                let mut maps = status.maps.iter();
                maps.try_for_each(|map| family.one(vec![("map", &map.name)], map.capacity as f64))
            },
        )?;
        out.write(
            gauge("xlb_map_memory", "Memory of a map").in_bytes(),
            |family| {
                let mut maps = status.maps.iter();
                maps.try_for_each(|map| family.one(vec![("map", &map.name)], map.bytes as f64))
            },
        )
    }

    fn nat(&self, out: &mut Out<'_>) -> fmt::Result {
        let taken = "Source ports of full-nat that are taken, by the state of their connection";
        out.write(gauge("xlb_nat_ports_in_use", taken), |family| {
            self.nat.iter().try_for_each(|source| {
                let (address, protocol) = (source.source.to_string(), word(source.protocol));
                source.by_state.iter().try_for_each(|(state, &count)| {
                    let labels = vec![
                        ("source", address.as_str()),
                        ("protocol", &protocol),
                        ("state", state),
                    ];
                    family.one(labels, count.into())
                })
            })
        })?;
        let all = "Source ports of full-nat that connections may have";
        out.write(gauge("xlb_nat_ports", all), |family| {
            self.nat.iter().try_for_each(|source| {
                let (address, protocol) = (source.source.to_string(), word(source.protocol));
                let labels = vec![("source", address.as_str()), ("protocol", &protocol)];
                family.one(labels, source.ports.into())
            })
        })
    }

    fn services(&self, out: &mut Out<'_>) -> fmt::Result {
        const STATES: [ServiceHealth; 4] = [
            ServiceHealth::Up,
            ServiceHealth::Degraded,
            ServiceHealth::Panic,
            ServiceHealth::Down,
        ];
        let services = &self.status.services;
        let state = "State of a service: 1 for the one that holds, 0 for the others";
        out.write(gauge("xlb_service_state", state), |family| {
            services.iter().try_for_each(|service| {
                STATES.into_iter().try_for_each(|state| {
                    let (name, holds) = (word(state), service.health == state);
                    let labels = vec![("service", service.name.as_str()), ("state", &name)];
                    family.one(labels, f64::from(u8::from(holds)))
                })
            })
        })?;
        out.write(
            gauge("xlb_service_backends", "Backends of a service"),
            |family| {
                services.iter().try_for_each(|service| {
                    family.one(vec![("service", &service.name)], service.backends.into())
                })
            },
        )?;
        let accepting = "Backends of a service that get new connections";
        out.write(
            gauge("xlb_service_backends_accepting", accepting),
            |family| {
                services.iter().try_for_each(|service| {
                    family.one(vec![("service", &service.name)], service.accepting.into())
                })
            },
        )
    }

    fn pools(&self, out: &mut Out<'_>) -> fmt::Result {
        let pools = &self.status.pools;
        out.write(
            gauge("xlb_pool_ring_slots", "Slots of a pool's ring"),
            |family| {
                pools.iter().try_for_each(|pool| {
                    family.one(vec![("pool", &pool.name)], pool.ring_slots.into())
                })
            },
        )?;
        let moving = "Slots of a pool's ring that are marked as moving";
        out.write(gauge("xlb_pool_moving_slots", moving), |family| {
            pools.iter().try_for_each(|pool| {
                family.one(vec![("pool", &pool.name)], pool.moving_slots.into())
            })
        })
    }

    fn backends(&self, out: &mut Out<'_>) -> fmt::Result {
        const STATES: [BackendState; 7] = [
            BackendState::Up,
            BackendState::Unknown,
            BackendState::Down,
            BackendState::Unresolved,
            BackendState::Draining,
            BackendState::Disabled,
            BackendState::Panic,
        ];
        let state = "State of a backend: 1 for the one that holds, 0 for the others";
        out.write(gauge("xlb_backend_state", state), |family| {
            self.each_backend(|backend, labels| {
                STATES.into_iter().try_for_each(|state| {
                    let (name, holds) = (word(state), backend.state == state);
                    let mut labels = labels.clone();
                    labels.push(("state", &name));
                    family.one(labels, f64::from(u8::from(holds)))
                })
            })
        })?;
        out.write(gauge("xlb_backend_weight", "Weight in force"), |family| {
            self.each_backend(|backend, labels| family.one(labels, backend.weight.into()))
        })?;
        let slots = "Slots of the ring whose new connections go to a backend";
        out.write(gauge("xlb_backend_slots", slots), |family| {
            self.each_backend(|backend, labels| family.one(labels, backend.slots.into()))
        })?;
        let open = "Open connections, of pools that a service with least-connections uses";
        out.write(gauge("xlb_backend_open_connections", open), |family| {
            self.each_backend(|backend, labels| match backend.open_connections {
                Some(open) => family.one(labels, open as f64),
                None => Ok(()),
            })
        })
    }

    fn each_backend(
        &self,
        mut with: impl FnMut(&BackendStatus, Labels<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.backends.iter().try_for_each(|backend| {
            let endpoint = backend.endpoint.to_string();
            with(
                backend,
                vec![("pool", backend.pool.as_str()), ("backend", &endpoint)],
            )
        })
    }

    fn traffic(&self, out: &mut Out<'_>) -> fmt::Result {
        /// Name, help, and value.
        type Kind = (&'static str, &'static str, fn(&Traffic) -> u64);
        const KINDS: [Kind; 5] = [
            (
                "xlb_backend_packets",
                "Packets of a service that were sent to a backend",
                |it| it.counters.packets,
            ),
            (
                "xlb_backend_bytes",
                "Bytes of the frames of those packets, as received",
                |it| it.counters.bytes,
            ),
            (
                "xlb_backend_connections",
                "New TCP connections of a service that were sent to a backend",
                |it| it.counters.connections,
            ),
            (
                "xlb_backend_reply_packets",
                "Replies of a backend that came back through the balancer",
                |it| it.counters.reply_packets,
            ),
            (
                "xlb_backend_reply_bytes",
                "Bytes of the frames of those replies",
                |it| it.counters.reply_bytes,
            ),
        ];
        KINDS.into_iter().try_for_each(|(name, help, value)| {
            out.write(counter(name, help), |family| {
                self.traffic.iter().try_for_each(|it| {
                    let endpoint = it.backend.to_string();
                    let labels = vec![
                        ("service", it.service.as_str()),
                        ("pool", &it.pool),
                        ("backend", &endpoint),
                    ];
                    family.count(labels, value(it))
                })
            })
        })
    }

    fn probes(&self, out: &mut Out<'_>) -> fmt::Result {
        let checks = "Probes of a backend by what they came to, in HAProxy's reason codes";
        out.write(counter("xlb_health_checks", checks), |family| {
            self.probes.iter().try_for_each(|it| {
                let endpoint = it.backend.to_string();
                it.tally.by_code().try_for_each(|(code, count)| {
                    let labels = vec![
                        ("pool", it.pool.as_str()),
                        ("backend", &endpoint),
                        ("code", code.as_str()),
                    ];
                    family.count(labels, count)
                })
            })
        })?;
        let duration = "How long probes of a backend took that were answered";
        out.write(
            histogram("xlb_health_check_duration", duration).in_seconds(),
            |family| {
                self.probes.iter().try_for_each(|it| {
                    let endpoint = it.backend.to_string();
                    family.histogram(vec![("pool", &it.pool), ("backend", &endpoint)], &it.tally)
                })
            },
        )
    }
}

/// A state as the control API writes it.
fn word(state: impl Serialize) -> String {
    let value = serde_json::to_value(state).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn unix_s(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
