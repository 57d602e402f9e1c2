//! What holds for a backend, read from what is pinned: it needs no running agent.

use std::{net::IpAddr, path::Path};

use anyhow::Context;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_indextoname},
};
use serde::Serialize;
use xlb_common::decap::{Hop, vip_flag};
use xlb_control::api::{InterfaceStatus, ProgramStatus, ReasonCount};

use super::maps;
use crate::{
    dataplane::{self, AttachMode, Pinned},
    lock,
};

/// What holds for a backend, as `backend status` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Process id of the agent; `None`: none runs, or this process may not see it.
    pub pid: Option<u32>,
    /// The program.
    pub program: ProgramStatus,
    /// Interfaces that it takes packets from.
    pub interfaces: Vec<InterfaceStatus>,
    /// Prefixes of addresses that it takes encapsulated packets from.
    pub balancers: Vec<String>,
    /// VIPs that it takes encapsulated packets for.
    pub vips: Vec<Vip>,
    /// Prefixes of backends that it may pass packets on to.
    pub peers: Vec<String>,
    /// Those of them that it knows the way to.
    pub alternatives: Vec<Alternative>,
    /// Packets by reason.
    pub reasons: Vec<ReasonCount>,
}

/// A VIP of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Whether the agent has put it on the loopback interface.
    pub on_loopback: bool,
}

/// Another backend, to which packets can be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// Its address.
    pub address: IpAddr,
    /// MAC address and interface, as in `52:54:00:00:00:01 dev eth0`.
    pub next_hop: String,
}

/// Reads the status; `None`: nothing is loaded.
///
/// # Errors
///
/// What the kernel refuses.
pub fn status(pin_dir: &Path) -> anyhow::Result<Option<Status>> {
    let Some(pinned) = Pinned::find(pin_dir)? else {
        return Ok(None);
    };
    let reading = || "read the program's maps";
    let vips = maps::vips(&pinned.maps).with_context(reading)?;
    let reasons = pinned.maps.reasons().with_context(reading)?;
    Ok(Some(Status {
        pid: lock::holder_of(pin_dir),
        program: ProgramStatus {
            id: pinned.program.id,
            features: Vec::new(),
            translated_bytes: pinned.program.translated_bytes,
            jited_bytes: pinned.program.jited_bytes,
            verified_instructions: pinned.program.verified_instructions,
        },
        interfaces: pinned.interfaces.iter().map(interface).collect(),
        balancers: maps::prefixes(&pinned.maps.balancers4, &pinned.maps.balancers6)
            .with_context(reading)?,
        peers: maps::prefixes(&pinned.maps.peers4, &pinned.maps.peers6).with_context(reading)?,
        alternatives: maps::alternatives(&pinned.maps)
            .with_context(reading)?
            .into_iter()
            .map(|(address, hop)| Alternative {
                address,
                next_hop: next_hop(&hop),
            })
            .collect(),
        vips: vips
            .into_iter()
            .map(|(address, flags)| Vip {
                address,
                on_loopback: flags & vip_flag::ADDED != 0,
            })
            .collect(),
        reasons: reasons
            .into_iter()
            .map(|(reason, packets)| ReasonCount {
                reason: reason.name().to_owned(),
                action: reason.action().name().to_owned(),
                packets,
            })
            .collect(),
    }))
}

fn next_hop(hop: &Hop) -> String {
    let mac = hop
        .destination()
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    let name = if_indextoname(hop.ifindex).map_or_else(
        |_| hop.ifindex.to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    format!("{mac} dev {name}")
}

fn interface(interface: &dataplane::InterfaceStatus) -> InterfaceStatus {
    InterfaceStatus {
        name: interface.name.clone(),
        index: interface.ifindex,
        mode: interface
            .mode
            .map_or("detached", AttachMode::name)
            .to_owned(),
        up: is_up(&interface.name),
    }
}

fn is_up(name: &str) -> bool {
    let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    getifaddrs().is_ok_and(|mut interfaces| {
        interfaces.any(|it| it.interface_name == name && it.flags.contains(wanted))
    })
}
