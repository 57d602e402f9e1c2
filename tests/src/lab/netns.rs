//! Network namespaces.

use std::{
    fs::{self, File},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
};

use super::{Lab, checked_output, on_a_thread};

/// A network namespace of a lab; a handle that can be cloned.
#[derive(Clone)]
pub struct NetNs {
    name: String,
    namespace: Arc<OwnedFd>,
    lab: Lab,
}

impl NetNs {
    pub(super) fn create(lab: &Lab, name: &str) -> Self {
        let full_name = format!("{}-{name}", lab.name());
        let namespace: OwnedFd = if lab.is_keepable() {
            checked_output(Command::new("ip").args(["netns", "add", &full_name]));
            File::open(format!("/run/netns/{full_name}"))
                .expect("open the namespace")
                .into()
        } else {
            on_a_thread(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
                File::open("/proc/thread-self/ns/net")
                    .expect("open the namespace")
                    .into()
            })
        };
        let namespace = Self {
            name: name.to_owned(),
            namespace: Arc::new(namespace),
            lab: lab.clone(),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Name within the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name by which `ip netns` knows it, if the lab can be kept.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}-{}", self.lab.name(), self.name)
    }

    /// The lab that it is part of.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its file descriptor, for system calls that take one.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.namespace
    }

    /// A path under which `ip link ... netns PATH` finds it.
    #[must_use]
    pub fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        )
    }

    /// Moves this thread into the namespace, and into the lab's mounts. Threads and processes that
    /// it starts from then on are there as well.
    fn enter(&self) -> nix::Result<()> {
        if let Some(mounts) = self.lab.mounts() {
            let working_directory = std::env::current_dir().ok();
            // A thread that shares its working directory with others may not change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
            if let Some(path) = working_directory {
                nix::unistd::chdir(&path)?;
            }
        }
        setns(&*self.namespace, CloneFlags::CLONE_NEWNET)
    }

    /// Runs `f` in the namespace, on a thread of its own. A panic goes on in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            self.enter().expect("enter the namespace");
            f()
        })
    }

    /// Starts a thread that lives in the namespace.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                namespace.enter().expect("enter the namespace");
                f()
            })
            .expect("start a thread")
    }

    /// A command that will run in the namespace, and be killed when the thread that starts it
    /// ends. What is to live longer is started by [`super::Process::start`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        let working_directory = std::env::current_dir().ok();
        let parent = nix::unistd::getpid();
        let dies_with_us = !self.lab.is_keepable();
        // SAFETY: prctl(), getppid(), setsid(), setns() and chdir() are system calls that may be made between fork and
        // exec; nothing here allocates or takes a lock, but for the path of chdir(), which is
        // short enough for nix to keep on the stack.
        unsafe {
            command.pre_exec(move || {
                if dies_with_us {
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    // The parent may have died before this was set.
                    if nix::unistd::getppid() != parent {
                        return Err(nix::Error::ESRCH.into());
                    }
                }
                // What may outlive us is not bothered by the end of our terminal.
                if !dies_with_us {
                    nix::unistd::setsid()?;
                }
                if let Some(mounts) = namespace.lab.mounts() {
                    setns(mounts, CloneFlags::CLONE_NEWNS)?;
                    if let Some(path) = &working_directory {
                        nix::unistd::chdir(path)?;
                    }
                }
                setns(&*namespace.namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        command
    }

    /// Runs a command to its end and returns its standard output; panics with what it printed if
    /// it fails.
    #[track_caller]
    pub fn exec(&self, words: &[&str]) -> String {
        checked_output(self.command(words[0]).args(&words[1..]))
    }

    /// Runs `ip` with the words of `line`.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        let words: Vec<&str> = std::iter::once("ip")
            .chain(line.split_whitespace())
            .collect();
        self.exec(&words)
    }

    /// Sets a kernel parameter, for instance `net/ipv4/ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{key}");
        self.run(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("set {key} to {value} in {}: {error}", self.name));
    }

    /// Lays a cable: a pair of interfaces, one here, the other in `peer`. Both are up, compute
    /// their checksums in software (a program in XDP sees what would be on the wire), have GRO
    /// on, and the other end has a program, without which a veth drops what XDP sends to it.
    #[track_caller]
    pub fn cable(&self, interface: &str, peer: &Self, peer_interface: &str, mac: Option<[u8; 6]>) {
        let address = mac
            .map(|mac| format!("address {}", format_mac(mac)))
            .unwrap_or_default();
        self.ip(&format!(
            "link add name {interface} {address} type veth peer name {peer_interface} netns {}",
            peer.path()
        ));
        for (namespace, interface) in [(self, interface), (peer, peer_interface)] {
            // IPv6 addresses of the link are usable at once.
            namespace.sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
            namespace.exec(&["ethtool", "-K", interface, "tx", "off", "gro", "on"]);
            namespace.ip(&format!("link set {interface} up"));
        }
        peer.take_in_from_xdp(peer_interface);
    }

    /// Has an interface look at once at what the other end sends from XDP. A veth that has GRO
    /// alone takes such packets in, but is not woken by them: only other traffic does that, and
    /// without it the ring fills up for good.
    pub fn take_in_from_xdp(&self, interface: &str) {
        let pin = self.lab.bpffs().join("pass");
        self.run(|| {
            if !pin.exists() {
                super::pass::pin(&pin).unwrap_or_else(|error| panic!("load a program: {error}"));
            }
        });
        let pin = pin.display().to_string();
        self.exec(&[
            "ip", "link", "set", "dev", interface, "xdpdrv", "pinned", &pin,
        ]);
    }

    /// Makes a bridge that forwards at once, without spanning tree and multicast snooping.
    #[track_caller]
    pub fn bridge(&self, name: &str) {
        self.ip(&format!(
            "link add name {name} type bridge forward_delay 0 mcast_snooping 0"
        ));
        self.sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
        self.ip(&format!("link set {name} up"));
    }

    /// Makes `interface` a port of `bridge`.
    #[track_caller]
    pub fn bridge_port(&self, bridge: &str, interface: &str) {
        self.sysctl(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1");
        self.ip(&format!("link set {interface} master {bridge}"));
    }
}

/// `02:00:0a:50:01:0b`.
pub(super) fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
