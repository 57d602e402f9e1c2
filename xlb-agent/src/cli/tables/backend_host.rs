//! `backend status`.

use xlb_control::api::ReasonCount;

use super::{Style, layout, status};
use crate::{backend::Status, cli::units::count};

/// What holds for a backend, in paragraphs.
pub(in crate::cli) fn overview(status: &Status, style: Style) -> String {
    let agent = status
        .pid
        .map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
    let head = format!(
        "agent    {agent}\nprogram  {}\n",
        status::loaded(&status.program)
    );
    let balancers = layout(
        style,
        ["BALANCERS"],
        status.balancers.iter().map(|prefix| [prefix.clone()]),
    );
    let vips = layout(
        style,
        ["VIP", "LOOPBACK"],
        status.vips.iter().map(|vip| {
            let on_loopback = if vip.on_loopback { "added" } else { "-" };
            [vip.address.to_string(), on_loopback.to_owned()]
        }),
    );
    let mut paragraphs = vec![
        head,
        status::interfaces(&status.interfaces, style),
        balancers,
        vips,
    ];
    if !status.peers.is_empty() {
        let prefixes = status.peers.iter().map(|prefix| [prefix.clone()]);
        paragraphs.push(layout(style, ["PEERS"], prefixes));
    }
    if !status.alternatives.is_empty() {
        paragraphs.push(layout(
            style,
            ["ALTERNATIVE", "NEXT-HOP"],
            status
                .alternatives
                .iter()
                .map(|it| [it.address.to_string(), it.next_hop.clone()]),
        ));
    }
    paragraphs.push(reasons(&status.reasons, style));
    paragraphs.join("\n")
}

/// All of them, in their own order: they are few, and one that is 0 says something too.
fn reasons(reasons: &[ReasonCount], style: Style) -> String {
    layout(
        style,
        ["REASON", "ACTION", "PACKETS"],
        reasons.iter().map(|reason| {
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
    use crate::{
        backend::{Alternative, Vip},
        cli::samples,
    };

    #[test]
    fn golden() {
        let agents = samples::status();
        let status = Status {
            pid: Some(4711),
            program: agents.program,
            interfaces: agents.interfaces,
            balancers: vec!["10.0.0.0/24".to_owned(), "fd00::/64".to_owned()],
            vips: vec![
                Vip {
                    address: "192.0.2.10".parse().unwrap(),
                    on_loopback: true,
                },
                Vip {
                    address: "2001:db8::10".parse().unwrap(),
                    on_loopback: false,
                },
            ],
            peers: vec!["10.0.1.0/24".to_owned()],
            alternatives: vec![Alternative {
                address: "10.0.1.7".parse().unwrap(),
                next_hop: "52:54:00:00:00:01 dev eth0".to_owned(),
            }],
            reasons: vec![ReasonCount {
                reason: "delivered".to_owned(),
                action: "pass".to_owned(),
                packets: 1_234_567,
            }],
        };
        assert_eq!(
            overview(&status, Style::PLAIN),
            "\
agent    pid 4711
program  id 42; 12.0 KiB translated, 7.1 KiB machine code, 23.4k instructions verified

INTERFACE   INDEX   MODE     LINK
eth0        2       native   up

BALANCERS
10.0.0.0/24
fd00::/64

VIP            LOOPBACK
192.0.2.10     added
2001:db8::10   -

PEERS
10.0.1.0/24

ALTERNATIVE   NEXT-HOP
10.0.1.7      52:54:00:00:00:01 dev eth0

REASON      ACTION   PACKETS
delivered   pass     1.2M
"
        );
    }
}
