//! `status`: an overview that fits on a screen for a handful of services.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write};

use xlb_control::api::{
    InterfaceStatus, MapStatus, PoolStatus, ProgramStatus, ReasonCount, RecentDrops, Status,
};

use super::{Style, changes, layout, or_dash, services};
use crate::cli::{
    units::{bytes, count, duration_s, percent},
    values::name,
};

/// Reasons that are shown, those with most packets first; JSON has all of them.
const REASONS_MAX: usize = 10;

/// What holds for the agent, in paragraphs.
pub(in crate::cli) fn overview(status: &Status, style: Style) -> String {
    let mut paragraphs = vec![head(status), interfaces(&status.interfaces, style)];
    if !status.pools.is_empty() {
        paragraphs.push(pools(&status.pools, style));
    }
    if !status.services.is_empty() {
        paragraphs.push(services::table(&status.services, style));
    }
    if !status.changes.is_empty() {
        paragraphs.push(changes::table(&status.changes, style));
    }
    if !status.maps.is_empty() {
        paragraphs.push(maps(&status.maps, style));
    }
    if !status.reasons.is_empty() {
        paragraphs.push(reasons(&status.reasons, style));
    }
    paragraphs.join("\n")
}

fn head(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |fact: &str, value: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{fact:<9}{value}");
    };
    line("health", &name(&status.health));
    line(
        "agent",
        &format!(
            "{}, pid {}, up {}",
            status.version,
            status.pid,
            duration_s(status.uptime_s)
        ),
    );
    line(
        "config",
        &format!(
            "{}, revision {}, sha256 {}",
            status.config,
            status.config_revision,
            short(&status.config_sha256)
        ),
    );
    if let Some(reload) = status.last_reload.filter(|reload| reload.accepted) {
        let ago = duration_s(reload.ago_s);
        line("reload", &format!("the last one was taken {ago} ago"));
    }
    if let Some(error) = &status.last_reload_error {
        line("reload", "the last one was refused, and changed nothing:");
        for part in error.lines() {
            line("", part);
        }
    }
    line("program", &program(&status.program));
    line("services", &tally(&status.services_by_health));
    line("backends", &tally(&status.backends_by_state));
    line("moving", &format!("{} slots", status.moving_slots));
    line("drops", &drops(&status.recent_drops));
    text
}

/// Enough of a hash to tell files apart.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

fn tally<T: serde::Serialize>(counts: &BTreeMap<T, u32>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let counts = counts.iter();
    let parts: Vec<String> = counts
        .map(|(what, n)| format!("{n} {}", name(what)))
        .collect();
    parts.join(", ")
}

fn drops(drops: &RecentDrops) -> String {
    let within = format!("in the last {}", duration_s(drops.seconds));
    if drops.reasons.is_empty() {
        return format!("none {within}");
    }
    let reasons = drops.reasons.iter();
    let parts: Vec<String> = reasons
        .map(|drop| format!("{} {}", count(drop.packets), drop.reason))
        .collect();
    format!("{} {within}", parts.join(", "))
}

fn program(program: &ProgramStatus) -> String {
    let features = if program.features.is_empty() {
        "none".to_owned()
    } else {
        program.features.join(", ")
    };
    format!("{}; features: {features}", loaded(program))
}

/// What the kernel says of a program.
pub(super) fn loaded(program: &ProgramStatus) -> String {
    format!(
        "id {}; {} translated, {} machine code, {} instructions verified",
        program.id,
        bytes(program.translated_bytes.into()),
        bytes(program.jited_bytes.into()),
        count(program.verified_instructions.into()),
    )
}

pub(super) fn interfaces(interfaces: &[InterfaceStatus], style: Style) -> String {
    layout(
        style,
        ["INTERFACE", "INDEX", "MODE", "LINK"],
        interfaces.iter().map(|interface| {
            let link = match (interface.index, interface.up) {
                (0, _) => "missing",
                (_, true) => "up",
                (_, false) => "down",
            };
            [
                interface.name.clone(),
                interface.index.to_string(),
                interface.mode.clone(),
                link.to_owned(),
            ]
        }),
    )
}

fn pools(pools: &[PoolStatus], style: Style) -> String {
    layout(
        style,
        ["POOL", "BACKENDS", "RING-SLOTS", "RING-HASH", "MOVING"],
        pools.iter().map(|pool| {
            [
                pool.name.clone(),
                format!("{}/{}", pool.accepting, pool.backends),
                pool.ring_slots.to_string(),
                pool.ring_hash.clone(),
                moving(pool),
            ]
        }),
    )
}

fn moving(pool: &PoolStatus) -> String {
    let slots = pool.moving_slots;
    match pool.moving_since_s {
        Some(since_s) if slots > 0 => format!(
            "{slots} slots ({}) for {}",
            percent(slots.into(), pool.ring_slots.into()),
            duration_s(since_s)
        ),
        Some(_) | None => slots.to_string(),
    }
}

pub(super) fn maps(maps: &[MapStatus], style: Style) -> String {
    layout(
        style,
        ["MAP", "USED", "CAPACITY", "FILL", "MEMORY"],
        maps.iter().map(|map| {
            [
                map.name.clone(),
                or_dash(map.used.map(count)),
                count(map.capacity),
                or_dash(map.used.map(|used| percent(used, map.capacity))),
                bytes(map.bytes),
            ]
        }),
    )
}

pub(super) fn reasons(reasons: &[ReasonCount], style: Style) -> String {
    let mut most_first: Vec<&ReasonCount> = reasons.iter().collect();
    most_first.sort_by_key(|reason| Reverse(reason.packets));
    layout(
        style,
        ["REASON", "ACTION", "PACKETS"],
        most_first
            .into_iter()
            .take(if style.is_wide {
                usize::MAX
            } else {
                REASONS_MAX
            })
            .map(|reason| {
                [
                    reason.reason.clone(),
                    reason.action.clone(),
                    count(reason.packets),
                ]
            }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn golden() {
        assert_eq!(
            overview(&samples::status(), Style::PLAIN),
            "\
health   degraded
agent    0.1.0, pid 4711, up 3m12s
config   /etc/xlb/xlb.toml, revision 3, sha256 0123456789ab
reload   the last one was refused, and changed nothing:
         /etc/xlb/xlb.toml:7:1: unknown key `ports`
program  id 42; 12.0 KiB translated, 7.1 KiB machine code, 23.4k instructions verified; features: ipv4, dnat
services 1 up, 1 degraded
backends 5 up, 1 draining
moving   5461 slots
drops    17 all-down in the last 1m2s

INTERFACE   INDEX   MODE     LINK
eth0        2       native   up

POOL   BACKENDS   RING-SLOTS   RING-HASH          MOVING
web    2/3        16381        9f3c21d07ab4e655   5461 slots (33.3%) for 1m1s
dns    2/3        16381        9f3c21d07ab4e655   0

SERVICE     VIP                     FORWARD   POOL   POLICY                HEALTH     BACKENDS   ORIGIN   CONNS   PACKETS   BYTES
web         192.0.2.10:443/tcp      dnat      web    least-connections     up         3/3        file     871     12.3k     1.5 MiB
dns-front   [2001:db8::53]:53/udp   l2-dsr    dns    maglev by client-ip   degraded   2/3        file     871     12.3k     1.5 MiB

CHANGE           OF     BACKEND         VALUE   EFFECT
backend-drain    web    10.0.1.8:8080   300s    in force
service-remove   mail   -               -       none: there is no service `mail`; use one of `dns-front`, `web`

MAP        USED    CAPACITY   FILL    MEMORY
RING       32.7k   65.5k      49.9%   128.0 KiB
FLOWS      0       65.5k      0.0%    8.0 MiB
COUNTERS   -       96         -       13.0 KiB

REASON      ACTION   PACKETS
forwarded   tx       1.2M
not-ours    pass     120
"
        );
    }

    #[test]
    fn a_fresh_agent_shows_no_empty_tables() {
        let mut status = samples::status();
        status.last_reload_error = None;
        (status.pools, status.services) = (Vec::new(), Vec::new());
        status.changes = Vec::new();
        (status.maps, status.reasons) = (Vec::new(), Vec::new());
        let text = overview(&status, Style::PLAIN);
        assert_eq!(text.matches("\n\n").count(), 1, "{text}");
        assert!(!text.contains("refused"), "{text}");
    }

    #[test]
    fn of_many_reasons_the_most_frequent_are_shown() {
        let mut status = samples::status();
        let rare = status.reasons[0].clone();
        status.reasons.resize(20, rare);
        let text = reasons(&status.reasons, Style::PLAIN);
        assert_eq!(text.lines().count(), 1 + REASONS_MAX);
        assert!(text.lines().nth(1).unwrap().starts_with("forwarded"));
    }
}
