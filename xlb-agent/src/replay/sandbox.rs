//! A place for maps and programs that nobody else sees, and that goes with the process.

use std::path::PathBuf;

use anyhow::Context;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where BPF file systems are mounted: on every kernel that has any.
const BPFFS: &str = "/sys/fs/bpf";

/// Gives the calling thread an empty network namespace and a BPF file system of its own; returns the
/// directory for pins. No interface of the host is in reach from then on, and whatever is pinned is
/// gone when the process is.
///
/// # Errors
///
/// When this is refused: it takes `CAP_SYS_ADMIN`.
pub(super) fn enter() -> anyhow::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("make a network namespace to replay in: this is for root")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("keep our mounts to ourselves")?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)
        .with_context(|| format!("mount a BPF file system at {BPFFS}"))?;
    Ok(PathBuf::from(BPFFS).join("xlb"))
}
