//! What is measured: programs, the traffic that they get, and what should come of it.

use std::net::SocketAddr;

use xlb_common::reason::Reason;

use super::{
    check::Outcome,
    traffic::{Carries, Traffic, Way},
    world::{BACKEND_COUNT, GATEWAY_MAC, MANY_VIPS, NO_VIPS, Plan, TCP_PORT, UDP_PORT, VIPS},
};

/// Forwarding modes.
const MODES: [&str; 4] = ["ipip", "gue", "dnat", "l2-dsr"];

/// A program on a host, with traffic.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, like `ipip/tcp4/rest`.
    pub name: String,
    /// The host.
    pub plan: Plan,
    /// What should come out.
    pub outcome: Outcome,
    /// The reason that should be counted for every frame, if one should.
    pub reason: Option<Reason>,
    /// What the tables of flows are like.
    pub tables: Tables,
}

/// What the tables of flows are like while frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// They play no part, or are empty and stay so.
    AsTheyAre,
    /// Empty before every sample, and every frame makes a record: there are no more frames in a
    /// sample than flows.
    Filling,
    /// They have a record of every flow.
    Full,
}

/// Scenarios with the same traffic, which are measured in the same rounds.
#[derive(Clone, Debug)]
pub struct Group {
    /// The traffic.
    pub traffic: Traffic,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// Whether programs of others run along.
    pub with_peers: bool,
}

/// All groups; `quick` are those that the bounds are about.
#[must_use]
pub fn groups(quick: bool, many: &[u32]) -> Vec<Group> {
    let mut groups = Vec::new();
    for v6 in [false, true] {
        groups.push(at_rest(Carries::Segment, v6));
        if !quick {
            groups.push(at_rest(Carries::Datagram, v6));
        }
    }
    for v6 in [false, true] {
        if !(quick && v6) {
            groups.push(passing(v6));
            groups.push(replies(v6));
        }
    }
    for &services in many {
        groups.push(many_services(services, false));
        if !quick {
            groups.push(many_services(services, true));
        }
    }
    for tables in [Tables::AsTheyAre, Tables::Filling, Tables::Full] {
        groups.push(moving(tables, false));
    }
    groups
}

fn at_rest(carries: Carries, v6: bool) -> Group {
    let datagram = carries == Carries::Datagram;
    let port = if datagram { UDP_PORT } else { TCP_PORT };
    let scenarios = MODES
        .iter()
        .map(|&mode| {
            let plan = Plan::Mode(mode);
            Scenario {
                name: format!("{mode}/{}/rest", transport(carries, v6)),
                plan,
                outcome: forwarded(plan, v6),
                reason: None,
                tables: Tables::AsTheyAre,
            }
        })
        .collect();
    Group {
        traffic: to_services(SocketAddr::new(VIPS[usize::from(v6)], port), 1, carries),
        scenarios,
        with_peers: !datagram,
    }
}

/// What comes of a packet to a VIP.
fn forwarded(plan: Plan, v6: bool) -> Outcome {
    let first = plan.backends(v6);
    let count = plan.backend_count();
    match plan {
        Plan::Mode("dnat") => Outcome::Rewritten { first, count },
        Plan::Mode("l2-dsr") => Outcome::Switched,
        Plan::Mode("gue") => Outcome::Encapsulated {
            first: first.ip(),
            count,
            mac: GATEWAY_MAC,
            in_udp: true,
        },
        Plan::Mode(_) | Plan::Many { .. } | Plan::Moving => Outcome::Encapsulated {
            first: first.ip(),
            count,
            mac: GATEWAY_MAC,
            in_udp: false,
        },
    }
}

fn passing(v6: bool) -> Group {
    let traffic = to_services(
        SocketAddr::new(NO_VIPS[usize::from(v6)], TCP_PORT),
        1,
        Carries::Segment,
    );
    let scenarios = ["ipip", "dnat"]
        .iter()
        .map(|&mode| Scenario {
            name: format!("{mode}/{}/pass", transport(Carries::Segment, v6)),
            plan: Plan::Mode(mode),
            outcome: Outcome::Passed,
            reason: Some(Reason::NotForService),
            tables: Tables::AsTheyAre,
        })
        .collect();
    Group {
        traffic,
        scenarios,
        with_peers: false,
    }
}

fn replies(v6: bool) -> Group {
    let plan = Plan::Mode("dnat");
    Group {
        traffic: Traffic {
            way: Way::ToClients {
                first: plan.backends(v6),
                count: BACKEND_COUNT,
            },
            carries: Carries::Segment,
        },
        scenarios: vec![Scenario {
            name: format!("dnat/{}/reply", transport(Carries::Segment, v6)),
            plan,
            outcome: Outcome::Reply {
                from: SocketAddr::new(VIPS[usize::from(v6)], TCP_PORT),
            },
            reason: None,
            tables: Tables::AsTheyAre,
        }],
        with_peers: false,
    }
}

fn many_services(services: u32, own_pools: bool) -> Group {
    let plan = Plan::Many {
        services,
        own_pools,
    };
    let pools = if own_pools { "-pools" } else { "" };
    Group {
        traffic: to_services(
            SocketAddr::new(MANY_VIPS.into(), TCP_PORT),
            services,
            Carries::Segment,
        ),
        scenarios: vec![Scenario {
            name: format!("ipip/tcp4/rest/services-{services}{pools}"),
            plan,
            outcome: forwarded(plan, false),
            reason: None,
            tables: Tables::AsTheyAre,
        }],
        with_peers: false,
    }
}

fn moving(tables: Tables, v6: bool) -> Group {
    let (carries, what) = match tables {
        Tables::AsTheyAre => (Carries::Segment, "miss"),
        Tables::Filling => (Carries::Syn, "syn"),
        Tables::Full => (Carries::Segment, "hit"),
    };
    Group {
        traffic: to_services(SocketAddr::new(VIPS[usize::from(v6)], TCP_PORT), 1, carries),
        scenarios: vec![Scenario {
            name: format!("ipip/{}/transition-{what}", transport(carries, v6)),
            plan: Plan::Moving,
            outcome: forwarded(Plan::Moving, v6),
            reason: None,
            tables,
        }],
        with_peers: false,
    }
}

/// TCP to the one VIP of a family.
#[must_use]
pub const fn tcp(v6: bool) -> Traffic {
    let vip = if v6 { VIPS[1] } else { VIPS[0] };
    to_services(SocketAddr::new(vip, TCP_PORT), 1, Carries::Segment)
}

const fn to_services(first: SocketAddr, count: u32, carries: Carries) -> Traffic {
    Traffic {
        way: Way::ToServices { first, count },
        carries,
    }
}

const fn transport(carries: Carries, v6: bool) -> &'static str {
    match (carries, v6) {
        (Carries::Segment | Carries::Syn, false) => "tcp4",
        (Carries::Segment | Carries::Syn, true) => "tcp6",
        (Carries::Datagram, false) => "udp4",
        (Carries::Datagram, true) => "udp6",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_the_bounds_are_about_some_of_them() {
        let all = groups(false, &[100, 10_000]);
        let names: Vec<&str> = all
            .iter()
            .flat_map(|group| &group.scenarios)
            .map(|scenario| scenario.name.as_str())
            .collect();
        let unique: HashSet<&str> = names.iter().copied().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        for quick in [false, true] {
            let groups = groups(quick, &[10_000]);
            let names: HashSet<&str> = groups
                .iter()
                .flat_map(|group| &group.scenarios)
                .map(|scenario| scenario.name.as_str())
                .collect();
            for name in [
                "ipip/tcp4/rest",
                "ipip/tcp6/rest",
                "ipip/tcp4/pass",
                "ipip/tcp4/rest/services-10000",
            ] {
                assert!(names.contains(name), "{name}");
            }
        }
    }
}
