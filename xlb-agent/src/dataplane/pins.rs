//! The pin directory: where things are, that it is on a BPF file system, and how it is emptied.
//!
//! ```text
//! PIN_DIR/v1/RING ...          a map each
//! PIN_DIR/v1/program           the program in force
//! PIN_DIR/v1/links/IFINDEX     a link each
//! PIN_DIR/v1/staging/          a change in the making: maps and program, discarded after a crash
//! PIN_DIR/v1/commit/           the same once it is complete: finished after a crash
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use xlb_common::{decap, maps::LAYOUT_VERSION};

use super::{
    error::{DataplaneError, Doing},
    grace::rcu_grace_period,
    sys,
};

/// Where distributions mount the BPF file system.
const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// Whose pins they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenant {
    /// Version of the layout.
    pub(super) version: &'static str,
    /// The command that removes the pins.
    pub(super) unload: &'static str,
}

/// The balancer.
pub(super) const BALANCER: Tenant = Tenant {
    version: LAYOUT_VERSION,
    unload: "xlb-agent unload",
};

/// The decapsulation program on a backend.
pub(super) const DECAPSULATOR: Tenant = Tenant {
    version: decap::LAYOUT_VERSION,
    unload: "xlb-agent backend unload",
};

/// Paths below a pin directory.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    tenant: Tenant,
    version_dir: PathBuf,
}

impl Pins {
    pub(super) fn new(pin_dir: &Path, tenant: Tenant) -> Self {
        Self {
            tenant,
            version_dir: pin_dir.join(tenant.version),
        }
    }

    pub(super) const fn tenant(&self) -> Tenant {
        self.tenant
    }

    pub(super) fn dir(&self) -> &Path {
        &self.version_dir
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.version_dir.join(name)
    }

    pub(super) fn program(&self) -> PathBuf {
        self.version_dir.join(PROGRAM)
    }

    pub(super) fn links(&self) -> PathBuf {
        self.version_dir.join("links")
    }

    pub(super) fn link(&self, ifindex: u32) -> PathBuf {
        self.links().join(ifindex.to_string())
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.version_dir.join("staging")
    }

    pub(super) fn commit(&self) -> PathBuf {
        self.version_dir.join("commit")
    }

    /// Makes the directories.
    pub(super) fn create(&self) -> Result<(), DataplaneError> {
        make_dir(&self.version_dir)?;
        make_dir(&self.links())
    }

    /// The links that are pinned, live or not.
    pub(super) fn pinned_links(&self) -> Result<Vec<PinnedLink>, DataplaneError> {
        pinned_links(&self.links())
    }
}

/// Name of the program's pin.
pub(super) const PROGRAM: &str = "program";

/// A pinned link.
#[derive(Debug)]
pub(super) struct PinnedLink {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    pub(super) id: u32,
    pub(super) program_id: u32,
    /// 0: its interface is gone.
    pub(super) ifindex: u32,
}

impl PinnedLink {
    /// Takes the program off the interface and removes the pin.
    pub(super) fn remove(self) -> Result<(), DataplaneError> {
        if self.ifindex != 0 {
            // The pin alone would do, but the kernel may take its time over a link without holders.
            sys::link_detach(self.fd.as_fd())
                .doing(|| format!("detach the link {}", self.path.display()))?;
        }
        remove_file(&self.path)
    }
}

fn pinned_links(dir: &Path) -> Result<Vec<PinnedLink>, DataplaneError> {
    let mut links = Vec::new();
    for path in entries(dir)? {
        let opening = || format!("open the pinned link {}", path.display());
        let fd = sys::open_pin(&path).doing(opening)?;
        let info = sys::link_info(fd.as_fd()).doing(opening)?;
        links.push(PinnedLink {
            fd,
            id: info.id,
            program_id: info.program_id,
            ifindex: info.ifindex,
            path,
        });
    }
    Ok(links)
}

/// Paths of what is in a directory, sorted; none if there is no such directory.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataplaneError> {
    let reading = || format!("read {}", dir.display());
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(reading),
    };
    let mut paths = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .doing(reading)?;
    paths.sort();
    Ok(paths)
}

/// Makes sure that the pin directory exists and is on a BPF file system, which is mounted if the
/// directory is at the usual place and the process may. Call it before the directory is locked.
///
/// # Errors
///
/// What the user has to type, if it is on another file system.
pub fn prepare_pin_dir(pin_dir: &Path) -> Result<(), DataplaneError> {
    if !is_bpffs(&existing_ancestor(pin_dir)) {
        let mount_point = if pin_dir.starts_with(DEFAULT_BPFFS) {
            Path::new(DEFAULT_BPFFS)
        } else {
            return Err(DataplaneError::NotBpffs {
                path: pin_dir.to_owned(),
                mount: pin_dir.to_owned(),
            });
        };
        mount(
            Some("bpf"),
            mount_point,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some("mode=0700"),
        )
        .map_err(|error| DataplaneError::MountBpffs {
            path: pin_dir.to_owned(),
            mount: mount_point.to_owned(),
            source: error.into(),
        })?;
        tracing::info!(mount_point = %mount_point.display(), "mounted a BPF file system");
    }
    make_dir(pin_dir)
}

fn existing_ancestor(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes a directory, and those above it, that only their owner may enter.
pub(super) fn make_dir(path: &Path) -> Result<(), DataplaneError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing(|| format!("make the directory {}", path.display()))
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> Result<(), DataplaneError> {
    gone(fs::remove_file(path)).doing(|| format!("remove {}", path.display()))
}

/// Removes a directory with the files in it; it may be gone already.
pub(super) fn remove_dir(dir: &Path) -> Result<(), DataplaneError> {
    for path in entries(dir)? {
        if path.is_dir() {
            remove_dir(&path)?;
        } else {
            remove_file(&path)?;
        }
    }
    gone(fs::remove_dir(dir)).doing(|| format!("remove {}", dir.display()))
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes links, programs, maps and directories of any layout version below the pin directory, and
/// the directory itself, and says what was removed. Running it again removes what is left, if
/// anything.
///
/// That no agent runs on them is for the caller to make sure of.
///
/// # Errors
///
/// What could not be removed, and why.
pub fn unload(pin_dir: &Path) -> Result<Vec<String>, DataplaneError> {
    let mut removed = Vec::new();
    for version in entries(pin_dir)?.into_iter().filter(|p| is_version(p)) {
        for link in pinned_links(&version.join("links"))? {
            removed.push(match link.ifindex {
                0 => format!("link {} of an interface that is gone", link.id),
                ifindex => format!("program from {}", interface_name(ifindex)),
            });
            link.remove()?;
        }
        // The kernel empties the map of programs with its pin, and packets may still be on their way
        // there.
        rcu_grace_period();
        let maps = entries(&version)?
            .iter()
            .filter(|path| path.is_file() && !path.ends_with(PROGRAM))
            .count();
        removed.push(format!("{maps} maps in {}", version.display()));
        remove_dir(&version)?;
    }
    match fs::remove_dir(pin_dir) {
        Ok(()) => removed.push(format!("directory {}", pin_dir.display())),
        // It may be a mount point, or hold what is not ours.
        Err(error) => tracing::debug!(%error, dir = %pin_dir.display(), "left the pin directory"),
    }
    Ok(removed)
}

/// Other versions of the layout below the pin directory, which other versions of xlb pinned.
pub(super) fn other_versions(
    pin_dir: &Path,
    tenant: Tenant,
) -> Result<Vec<PathBuf>, DataplaneError> {
    let mut versions = entries(pin_dir)?;
    versions.retain(|path| is_version(path) && !path.ends_with(tenant.version));
    Ok(versions)
}

fn is_version(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str()?.strip_prefix('v'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The name of an interface, or its number if it has none in this namespace.
pub(super) fn interface_name(ifindex: u32) -> String {
    nix::net::if_::if_indextoname(ifindex).map_or_else(
        |_| format!("interface {ifindex}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_version_directories_are_ours() {
        assert!(is_version(Path::new("/pins/v1")));
        assert!(is_version(Path::new("/pins/v12")));
        for other in ["/pins/v", "/pins/vpn", "/pins/1", "/pins/v1x", "/"] {
            assert!(!is_version(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_directory_on_another_file_system_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = prepare_pin_dir(&dir.path().join("xlb")).expect_err("not a bpffs");
        assert!(error.to_string().contains("mount -t bpf bpf "), "{error}");
        assert!(!dir.path().join("xlb").exists());
    }
}
