//! VIPs that the agent puts on interfaces: those that it announces (`announce = "arp"`), and those of
//! this host's own stack (`forward = "local"`).
//!
//! ```text
//! event loop --which VIPs, interfaces--> task --add, remove--> netlink
//!                      netlink --tables--> |  --frames-------> links
//! ```
//!
//! An address that was there before the agent came stays for good; what the agent has added is kept in
//! the state directory, outlives the agent as the data path does, and goes with its service or with
//! `unload`.

mod place;
mod record;
mod task;

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc};

use anyhow::Context;
use tokio::sync::watch;
use xlb_control::config::{Announce, Config, Forward, Service};

use self::{record::Record, task::Task};
use crate::{
    announce::Announcer,
    netlink::{self, Interface, Tables},
};

/// What the task is to bring about.
#[derive(Clone, Debug)]
struct Wanted {
    /// VIPs that are announced.
    vips: BTreeSet<IpAddr>,
    /// VIPs that are only put on the loopback interface.
    quiet: BTreeSet<IpAddr>,
    interfaces: Vec<Interface>,
    announcer: Option<Arc<Announcer>>,
    /// With another number, everything is announced anew.
    round: u64,
}

/// The event loop's end of the task.
#[derive(Debug)]
pub(super) struct Vips {
    wanted: watch::Sender<Option<Wanted>>,
    announcer: Option<Arc<Announcer>>,
}

impl Vips {
    /// Starts the task, which does nothing before [`Self::set`] has been called.
    ///
    /// # Errors
    ///
    /// When the record of an earlier agent's addresses can't be read.
    pub(super) fn start(
        state_dir: &Path,
        netlink: netlink::Handle,
        tables: watch::Receiver<Arc<Tables>>,
    ) -> anyhow::Result<Self> {
        let record = Record::read(state_dir)?;
        let (wanted, receiver) = watch::channel(None);
        tokio::spawn(Task::new(record, netlink, tables, receiver).run());
        Ok(Self {
            wanted,
            announcer: None,
        })
    }

    /// Makes sure that what a configuration wants announced can be.
    ///
    /// # Errors
    ///
    /// When a capability is missing.
    pub(super) fn prepare(&mut self, config: &Config) -> anyhow::Result<()> {
        let mut services = config.services.values();
        let Some(service) = services.find(|service| service.announce.is_some()) else {
            return Ok(());
        };
        if self.announcer.is_none() {
            let announcer = Announcer::open().with_context(|| {
                format!(
                    "service {}: leave `announce` out, or run the agent as root or with this \
                     capability (systemd: AmbientCapabilities=CAP_NET_RAW besides the others)",
                    service.name
                )
            })?;
            self.announcer = Some(Arc::new(announcer));
        }
        Ok(())
    }

    /// Has the VIPs of a configuration, and no others, be on the interfaces and announced. Those of
    /// this host's own stack are on the loopback interface if they are not announced, and nowhere
    /// unless `is_served` says that something listens.
    pub(super) fn set(
        &self,
        config: &Config,
        is_served: impl Fn(&Service) -> bool,
        interfaces: &[Interface],
    ) {
        let (mut vips, mut quiet) = (BTreeSet::new(), BTreeSet::new());
        for service in config.services.values() {
            let is_local = service.forward == Forward::Local;
            if is_local && !is_served(service) {
                continue;
            }
            match service.announce {
                Some(Announce::Arp) => vips.insert(service.vip.address()),
                None => is_local && quiet.insert(service.vip.address()),
            };
        }
        quiet.retain(|vip| !vips.contains(vip));
        self.wanted.send_modify(|wanted| {
            *wanted = Some(Wanted {
                vips,
                quiet,
                interfaces: interfaces.to_vec(),
                announcer: self.announcer.clone(),
                round: wanted.as_ref().map_or(0, |before| before.round),
            });
        });
    }

    /// Has everything announced anew, for an operator who says that this host is the one again.
    pub(super) fn announce_again(&self) {
        self.wanted.send_if_modified(|wanted| match wanted {
            Some(wanted) => {
                wanted.round += 1;
                true
            }
            None => false,
        });
    }

    /// Says that the interfaces are others, or have changed.
    pub(super) fn set_interfaces(&self, interfaces: &[Interface]) {
        self.wanted.send_if_modified(|wanted| match wanted {
            Some(wanted) => {
                wanted.interfaces = interfaces.to_vec();
                true
            }
            // Nothing is announced before the data path is in force.
            None => false,
        });
    }
}

/// Removes the addresses that agents have added and left, and says which.
///
/// # Errors
///
/// What could not be removed.
pub(super) fn remove_all(state_dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut record = Record::read(state_dir)?;
    if record.added().is_empty() {
        return Ok(Vec::new());
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(async {
            let (netlink, _tables) = netlink::spawn()?;
            let mut removed = Vec::new();
            for (ifindex, vip) in record.added().clone() {
                netlink.del_address(ifindex, vip).await?;
                record.remove(&[(ifindex, vip)])?;
                removed.push(format!("address {vip} from {}", task::name_of(ifindex)));
            }
            Ok(removed)
        })
}
