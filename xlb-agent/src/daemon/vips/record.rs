//! The addresses that the agent has added, kept on disk: an agent that starts later, and `unload`,
//! remove these and no others.

use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::daemon::state;

/// The file in the state directory.
const FILE: &str = "added-addresses.json";

/// Addresses that the agent has added.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    host: HostId,
    added: BTreeSet<Place>,
}

/// What an address goes with: the boot and the network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HostId {
    boot: String,
    namespace: u64,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    host: HostId,
    added: Vec<Added>,
}

#[derive(Serialize, Deserialize)]
struct Added {
    ifindex: u32,
    address: IpAddr,
}

impl Record {
    /// Reads what an earlier agent has added and not removed.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub(super) fn read(state_dir: &Path) -> anyhow::Result<Self> {
        Self::read_as(state_dir, HostId::now()?)
    }

    fn read_as(state_dir: &Path, host: HostId) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        let added = match fs::read(&path) {
            Ok(bytes) => {
                let contents: Contents = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} is damaged: move it away, and look with `ip address` for VIPs that are \
                         to be removed",
                        path.display()
                    )
                })?;
                // Of another boot or namespace, these addresses are gone; one that is the same here
                // is somebody else's.
                let mut added = contents.added;
                added.retain(|_| contents.host == host);
                added
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let added = added
            .into_iter()
            .map(|added| (added.ifindex, added.address))
            .collect();
        Ok(Self { path, host, added })
    }

    /// The addresses.
    pub(super) const fn added(&self) -> &BTreeSet<Place> {
        &self.added
    }

    /// Records that addresses are about to be added: written before, so that an agent that is killed
    /// right after has not left an address that nobody removes. Gives those that were not recorded
    /// already.
    ///
    /// # Errors
    ///
    /// When it can't be written; then they are not recorded.
    pub(super) fn insert(&mut self, places: &[Place]) -> anyhow::Result<BTreeSet<Place>> {
        let new: BTreeSet<Place> = places
            .iter()
            .filter(|place| !self.added.contains(place))
            .copied()
            .collect();
        if !new.is_empty() {
            self.added.extend(&new);
            self.write().inspect_err(|_| {
                self.added.retain(|place| !new.contains(place));
            })?;
        }
        Ok(new)
    }

    /// Records that addresses are not there any more.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub(super) fn remove(&mut self, places: &[Place]) -> anyhow::Result<()> {
        let before = self.added.len();
        self.added.retain(|place| !places.contains(place));
        if self.added.len() == before {
            return Ok(());
        }
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let contents = Contents {
            host: self.host.clone(),
            added: self
                .added
                .iter()
                .map(|&(ifindex, address)| Added { ifindex, address })
                .collect(),
        };
        state::write(&self.path, &serde_json::to_vec_pretty(&contents)?)
    }
}

impl HostId {
    fn now() -> anyhow::Result<Self> {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot's id")?;
        let namespace = fs::metadata("/proc/thread-self/ns/net")
            .context("look at the network namespace")?
            .st_ino();
        Ok(Self {
            boot: boot.trim().to_owned(),
            namespace,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(ifindex: u32, text: &str) -> Place {
        (ifindex, text.parse().expect("an address"))
    }

    #[test]
    fn what_was_added_is_found_again_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut record = Record::read(dir.path()).expect("nothing yet");
        assert_eq!(record.added().len(), 0);
        let (v4, v6) = (place(2, "192.0.2.10"), place(3, "2001:db8::10"));
        let new = record.insert(&[v4]).expect("write");
        assert_eq!(new, BTreeSet::from([v4]));
        let new = record.insert(&[v4, v6]).expect("write");
        assert_eq!(new, BTreeSet::from([v6]));
        let mut record = Record::read(dir.path()).expect("read");
        assert_eq!(record.added(), &BTreeSet::from([v4, v6]));
        record.remove(&[v4]).expect("write");
        let record = Record::read(dir.path()).expect("read");
        assert_eq!(record.added(), &BTreeSet::from([v6]));
    }

    #[test]
    fn what_another_boot_or_namespace_had_is_not_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let host = |boot: &str, namespace| HostId {
            boot: boot.to_owned(),
            namespace,
        };
        let mut record = Record::read_as(dir.path(), host("one", 1)).expect("nothing yet");
        record.insert(&[place(2, "192.0.2.10")]).expect("write");
        for (boot, namespace, found) in [("one", 1, 1), ("two", 1, 0), ("one", 2, 0)] {
            let record = Record::read_as(dir.path(), host(boot, namespace)).expect("read");
            assert_eq!(record.added().len(), found, "{boot} {namespace}");
        }
    }

    #[test]
    fn a_damaged_record_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), "{").expect("write");
        let error = Record::read(dir.path()).expect_err("damaged");
        assert!(error.to_string().contains("move it away"), "{error}");
    }
}
