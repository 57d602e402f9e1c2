//! The tables of records, for whoever scans and collects them beside the event loop.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use xlb_common::{
    collect::{EXCHANGES_MAX, Exchange},
    maps::{FlowKey, name},
};

use super::{
    Dataplane,
    hash::{Flows, KernelMap},
    sys,
};

/// `PENDING` and `FLOWS`, by descriptors of its own, so that it can go to another thread.
#[derive(Debug)]
pub struct Records {
    /// Pending handshakes.
    pub pending: Flows,
    /// Flows.
    pub flows: Flows,
    bury: OwnedFd,
}

impl Records {
    /// Sets the words of records, each if it is still what it was.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn exchange(&self, exchanges: &[Exchange]) -> io::Result<()> {
        exchanges
            .chunks(EXCHANGES_MAX)
            .try_for_each(|some| sys::test_run(self.bury.as_fd(), some))
    }

    /// How many records there are, by name of their map.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn count(&self) -> io::Result<[(&'static str, u64); 2]> {
        Ok([
            (name::PENDING, self.pending.count()?),
            (name::FLOWS, self.flows.count()?),
        ])
    }

    /// Removes a record, whatever it says.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn remove(&mut self, is_pending: bool, key: &FlowKey) -> io::Result<bool> {
        if is_pending {
            self.pending.remove(key)
        } else {
            self.flows.remove(key)
        }
    }
}

impl Dataplane {
    /// The tables of records as they are now. After they have grown, these are the old ones.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn records(&self) -> io::Result<Records> {
        Ok(Records {
            pending: KernelMap::new(self.maps.pending.as_fd().try_clone_to_owned()?),
            flows: KernelMap::new(self.maps.flows.as_fd().try_clone_to_owned()?),
            bury: self.bury.try_clone()?,
        })
    }
}
