//! The kernel parameters that direct server return needs: a host with the VIP on its loopback
//! interface must leave it to the balancers to answer ARP for it.
//!
//! IPv6 needs none: the kernel answers neighbour solicitations only for addresses of the interface
//! that they come in on.

use std::fs;

use anyhow::Context;
use xlb_common::decap::{SYSCTLS_MAX, Sysctl};

use crate::dataplane::DecapMaps;

/// A parameter, and the least value that will do. Larger values are stricter.
struct Needed {
    path: &'static str,
    name: &'static str,
    least: u32,
}

/// In the order of their records in `SYSCTLS`. The kernel takes the larger of an interface's value
/// and that of `all` (Documentation/networking/ip-sysctl.rst).
const NEEDED: [Needed; 2] = [
    // Answer for addresses of the interface that the request came in on only.
    Needed {
        path: "/proc/sys/net/ipv4/conf/all/arp_ignore",
        name: "net.ipv4.conf.all.arp_ignore",
        least: 1,
    },
    // Ask with the best address for the target, never with a VIP.
    Needed {
        path: "/proc/sys/net/ipv4/conf/all/arp_announce",
        name: "net.ipv4.conf.all.arp_announce",
        least: 2,
    },
];

const _: () = assert!(NEEDED.len() <= SYSCTLS_MAX as usize);

impl Needed {
    fn read(&self) -> anyhow::Result<u32> {
        fs::read_to_string(self.path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(text.trim().parse()?))
            .with_context(|| format!("read {}", self.name))
    }

    fn write(&self, value: u32) -> anyhow::Result<()> {
        fs::write(self.path, value.to_string())
            .with_context(|| format!("set {} to {value}", self.name))
    }
}

/// Sets the parameters that are too low, and remembers what they were.
pub(super) fn set(maps: &mut DecapMaps) -> anyhow::Result<()> {
    for (index, needed) in (0..).zip(&NEEDED) {
        let former = needed.read()?;
        if former >= needed.least {
            continue;
        }
        remember(maps, index, Sysctl { is_set: 1, former })?;
        needed.write(needed.least)?;
        tracing::info!(parameter = needed.name, former, now = needed.least, "set");
    }
    Ok(())
}

/// Gives parameters that were set their former values, unless somebody else has set them since.
/// Says which.
pub(super) fn restore(maps: &mut DecapMaps) -> anyhow::Result<Vec<String>> {
    let mut restored = Vec::new();
    for (index, needed) in (0..).zip(&NEEDED) {
        let record = maps.sysctls.read(index).unwrap_or_default();
        if record.is_set == 0 {
            continue;
        }
        if needed.read()? == needed.least {
            needed.write(record.former)?;
            restored.push(format!("{}: {} again", needed.name, record.former));
        }
        remember(maps, index, Sysctl::default())?;
    }
    Ok(restored)
}

fn remember(maps: &mut DecapMaps, index: u32, record: Sysctl) -> anyhow::Result<()> {
    anyhow::ensure!(
        maps.sysctls.write(index, record),
        "there is no record {index} of kernel parameters"
    );
    Ok(())
}
