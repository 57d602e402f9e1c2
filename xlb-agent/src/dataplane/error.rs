//! What can go wrong with the data path, said so that the reader knows what to do.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{attach::AttachMode, table::Full};

/// Why the data path could not be set up or changed.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// The process lacks capabilities.
    #[error(
        "missing {}: run as root, or give the agent these capabilities \
         (systemd: AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN)",
        .0.join(", ")
    )]
    MissingCapabilities(Vec<&'static str>),
    /// The kernel is too old.
    #[error("Linux {found} is too old: xlb needs {}.{} or newer", .needed.0, .needed.1)]
    KernelTooOld {
        /// Release of the running kernel.
        found: String,
        /// Major and minor version that is needed.
        needed: (u32, u32),
    },
    /// The caller asks for what cannot be.
    #[error("{0}")]
    Spec(String),
    /// The pin directory is on another file system.
    #[error("{path} is not on a BPF file system; type: mkdir -p {mount} && mount -t bpf bpf {mount}", path = path.display(), mount = mount.display())]
    NotBpffs {
        /// The pin directory.
        path: PathBuf,
        /// Where a BPF file system would have to be mounted.
        mount: PathBuf,
    },
    /// The BPF file system could not be mounted.
    #[error("mount a BPF file system at {mount} for {path}; as root, type: mkdir -p {mount} && mount -t bpf bpf {mount}", path = path.display(), mount = mount.display())]
    MountBpffs {
        /// The pin directory.
        path: PathBuf,
        /// Where it was to be mounted.
        mount: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Pinned maps do not have the layout of this version.
    #[error(
        "{path} was pinned by another version of xlb ({}); nothing was changed. Run the older \
         version, or `{unload}` to start afresh",
        .differences.join("; "), path = path.display()
    )]
    Layout {
        /// Directory with the pins.
        path: PathBuf,
        /// What is found and what is expected, a map each.
        differences: Vec<String>,
        /// The command that removes the pins.
        unload: &'static str,
    },
    /// There is no interface of that name or number.
    #[error("interface {name} does not exist")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Somebody else's program is on the interface.
    #[error(
        "another XDP program ({mode}, program id {program_id}) is attached to {interface}; xlb does not \
         replace it: see `ip link show {interface}`. If it is not needed, remove it with `ip link set \
         {interface} xdp off`, or, if it is another xlb's, with `xlb-agent unload` and that one's --pin-dir"
    )]
    ForeignProgram {
        /// Name of the interface.
        interface: String,
        /// The kernel's number of that program.
        program_id: u32,
        /// How it is attached.
        mode: AttachMode,
    },
    /// The program could not be attached.
    #[error("attach xlb to {interface} ({mode}){hint}")]
    Attach {
        /// Name of the interface.
        interface: String,
        /// How it was to be attached.
        mode: AttachMode,
        /// What to try.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The verifier or the loader refused the program.
    #[error("load the XDP program")]
    Load(#[source] Box<aya::EbpfError>),
    /// The ring buffer of events could not be opened.
    #[error("open the ring buffer of events")]
    Events(#[source] Box<aya::maps::MapError>),
    /// An endpoint table has no place for an entry near enough to its home.
    #[error(transparent)]
    Full(#[from] Full),
    /// A system call failed.
    #[error("{doing}")]
    System {
        /// What was being done, and to what.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Names what a system call was for.
pub(super) trait Doing<T> {
    /// Turns the error into one that says what was being done.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DataplaneError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, DataplaneError> {
        self.map_err(|source| DataplaneError::System {
            doing: what(),
            source,
        })
    }
}
