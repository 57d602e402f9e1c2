//! VIPs on the loopback interface.

use std::net::IpAddr;

use anyhow::Context;
use nix::net::if_::if_nametoindex;
use xlb_common::decap::vip_flag;

use super::maps;
use crate::{
    dataplane::DecapMaps,
    netlink::{AddressOutcome, Handle, Tables},
};

const LOOPBACK: &str = "lo";

fn loopback() -> anyhow::Result<u32> {
    if_nametoindex(LOOPBACK).context("find the loopback interface")
}

/// Puts those of the VIPs on the loopback interface that are not there, and remembers them.
pub(super) async fn put(
    netlink: &Handle,
    tables: &Tables,
    maps: &mut DecapMaps,
    vips: &[IpAddr],
) -> anyhow::Result<()> {
    let loopback = loopback()?;
    let is_there = |vip: IpAddr| {
        let mut addresses = tables.addresses().iter();
        addresses.any(|known| known.ifindex == loopback && known.address == vip)
    };
    let remembering = |vip: IpAddr| format!("remember that {vip} is on the loopback interface");
    for &vip in vips.iter().filter(|vip| !is_there(**vip)) {
        // What is remembered and was not done does no harm; the reverse would never be undone.
        let added = vip_flag::USED | vip_flag::ADDED;
        maps::set_vip(maps, vip, added).with_context(|| remembering(vip))?;
        match netlink.add_address(loopback, vip).await? {
            AddressOutcome::Done => tracing::info!(%vip, "put on the loopback interface"),
            // Put there before the kernel told of it: by us a moment ago, or by somebody else.
            AddressOutcome::AlreadySo => {}
        }
    }
    Ok(())
}

/// Takes the VIPs off the loopback interface that were put there, but for those to `keep`. Returns
/// them.
pub(super) async fn clear(
    netlink: &Handle,
    maps: &mut DecapMaps,
    keep: impl Fn(IpAddr) -> bool,
) -> anyhow::Result<Vec<IpAddr>> {
    let loopback = loopback()?;
    let mut cleared = Vec::new();
    for (vip, flags) in maps::vips(maps).context("read the program's VIPs")? {
        if flags & vip_flag::ADDED == 0 || keep(vip) {
            continue;
        }
        if netlink.del_address(loopback, vip).await? == AddressOutcome::Done {
            cleared.push(vip);
        }
        maps::set_vip(maps, vip, flags & !vip_flag::ADDED)
            .with_context(|| format!("forget that {vip} is on the loopback interface"))?;
    }
    Ok(cleared)
}
