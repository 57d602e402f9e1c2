//! A lab: hosts made of network namespaces, links between them, and processes on them.
//!
//! Nothing here is asynchronous, and nothing returns an error: a lab that cannot be built ends the
//! test that asked for it, with the command that failed and what it printed.
//!
//! # Nothing stays behind
//!
//! A lab vanishes with the process that made it, however that ends, SIGKILL included:
//!
//! * Network namespaces have no name. File descriptors of this process hold them; the kernel takes
//!   them apart, with their links and programs, when the last one is closed.
//! * Processes on the hosts are started by one thread that lives as long as this process, and ask
//!   the kernel to kill them when that thread ends (`PR_SET_PDEATHSIG`).
//! * Pins live on a bpffs in a mount namespace of the lab, which a descriptor holds as well. The
//!   agent can thus die and leave its data path behind, but the lab cannot.
//! * Files are removed by a guardian: a shell that waits for its end of a pipe to close.
//!
//! A lab that is to be looked around in ([`Lab::new_keepable`]) has named namespaces and a bpffs
//! that is mounted in plain sight; the guardian takes these down too, unless [`Lab::keep`] was
//! called.

mod agent;
mod backend;
mod config;
mod datagrams;
mod decapsulator;
mod echo;
mod fleet;
mod guardian;
mod hosts;
mod http;
mod keep_alive;
mod load;
mod netns;
mod pass;
mod ping;
mod process;
pub mod serve;
mod topology;

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

pub use agent::{Agent, agent_binary};
pub use backend::{Backend, BackendKind};
pub use config::forgetful_config;
pub use datagrams::{DatagramOptions, DatagramReport, Datagrams};
pub use decapsulator::Decapsulator;
pub use echo::{echo, udp_socket};
pub use fleet::Fleet;
use guardian::Guardian;
pub use hosts::{Host, VIP_V4, VIP_V6, subnet_v4, subnet_v6};
pub use keep_alive::{KeepAlive, KeepAliveConnection, KeepAliveOptions};
pub use load::{Load, LoadOptions, Outcome, Request};
pub use netns::NetNs;
pub use process::Process;
pub use topology::{Replies, Shape, Topology};

/// A lab; a handle that can be cloned. The lab ends with the last handle to it or to something in
/// it.
#[derive(Clone)]
pub struct Lab {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    directory: PathBuf,
    /// The lab's own mounts; `None` if it uses the host's, because it may be kept.
    mounts: Option<OwnedFd>,
    kept: AtomicBool,
    guardian: Mutex<Option<Guardian>>,
}

impl Lab {
    /// Makes an empty lab that vanishes with this process. `label` goes into its name.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self::build(label, false)
    }

    /// Makes an empty lab that vanishes too, unless [`Lab::keep`] is called before it ends.
    #[must_use]
    pub fn new_keepable(label: &str) -> Self {
        Self::build(label, true)
    }

    fn build(label: &str, keepable: bool) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "a lab of network namespaces needs root: run this with sudo"
        );
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("xlb-{label}-{}-{count}", std::process::id());
        let directory = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir()
            .expect("make the lab's directory")
            .keep();
        let guardian = Guardian::start(&name, &directory);
        let bpffs = directory.join("bpf");
        fs::create_dir(&bpffs).expect("make the mount point of the lab's bpffs");
        let mounts = if keepable {
            mount_bpffs(&bpffs);
            None
        } else {
            Some(private_mounts(&bpffs))
        };
        Self {
            inner: Arc::new(Inner {
                name,
                directory,
                mounts,
                kept: AtomicBool::new(false),
                guardian: Mutex::new(Some(guardian)),
            }),
        }
    }

    /// Name of the lab, unique on this host.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// A directory for files, removed with the lab.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// A bpffs. It is seen by what runs in the lab ([`NetNs::command`], [`NetNs::run`]) only,
    /// unless the lab can be kept.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.inner.directory.join("bpf")
    }

    /// Writes a file into the lab's directory and returns its path.
    pub fn write_file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory().join(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("write {name}: {error}"));
        path
    }

    /// Makes a network namespace whose loopback is up.
    #[must_use]
    pub fn namespace(&self, name: &str) -> NetNs {
        NetNs::create(self, name)
    }

    /// Whether namespaces have names, and processes may outlive this one.
    #[must_use]
    pub fn is_keepable(&self) -> bool {
        self.inner.mounts.is_none()
    }

    /// Leaves the lab up when this process ends. It must be one of [`Lab::new_keepable`]. The
    /// script whose path is returned takes the lab down.
    pub fn keep(&self) -> PathBuf {
        assert!(self.is_keepable(), "this lab was not made to be kept");
        self.inner.kept.store(true, Ordering::SeqCst);
        Guardian::keep(&self.inner.directory)
    }

    fn is_kept(&self) -> bool {
        self.inner.kept.load(Ordering::SeqCst)
    }

    fn mounts(&self) -> Option<&OwnedFd> {
        self.inner.mounts.as_ref()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The mounts go first, so that pins, and with them programs, are gone when this returns.
        self.mounts = None;
        let guardian = self.guardian.get_mut().ok().and_then(Option::take);
        if let Some(guardian) = guardian {
            guardian.finish();
        }
    }
}

fn mount_bpffs(target: &Path) {
    mount(
        Some("xlb-lab"),
        target,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap_or_else(|error| panic!("mount a bpffs on {}: {error}", target.display()));
}

/// A mount namespace of its own with a bpffs on `target`.
fn private_mounts(target: &Path) -> OwnedFd {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("make a mount namespace");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .expect("make the mounts private");
        mount_bpffs(target);
        fs::File::open("/proc/thread-self/ns/mnt")
            .expect("open the mount namespace")
            .into()
    })
}

/// Runs `f` on a thread of its own, so that what it does to the thread's namespaces ends with it.
/// A panic goes on in the caller.
fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Waits until `condition` holds, and panics if that takes longer than `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end and returns its standard output; panics with what it printed if it
/// fails.
#[track_caller]
pub fn checked_output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("run {}: {error}", command.get_program().display()));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
