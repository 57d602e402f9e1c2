//! A network namespace for one test, with a veth pair into a second one that stands for the
//! backends. Both belong to threads, and are gone when these are.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::sync::watch;
use xlb_agent::netlink::{Handle, NextHop, Tables, Unresolved, resolve, spawn};

/// Within this time the agent must have seen what the kernel did. The longest wait is the
/// kernel's: three probes, a second apart, before it gives a neighbour up.
const PATIENCE: Duration = Duration::from_secs(20);

std::thread_local! {
    static PEER: std::cell::RefCell<Option<File>> = const { std::cell::RefCell::new(None) };
}

/// What a test works with.
pub(crate) struct Lab {
    pub(crate) handle: Handle,
    pub(crate) receiver: watch::Receiver<Arc<Tables>>,
    allowed: BTreeSet<u32>,
}

impl Lab {
    pub(crate) fn tables(&self) -> Arc<Tables> {
        self.receiver.borrow().clone()
    }

    pub(crate) fn allowed(&self) -> BTreeSet<u32> {
        self.allowed.clone()
    }

    pub(crate) fn ifindex(&self) -> u32 {
        *self.allowed.first().expect("xlb0")
    }

    pub(crate) fn resolve(&self, destination: &str) -> Result<NextHop, Unresolved> {
        let destination: IpAddr = destination.parse().expect("address");
        resolve(&self.tables(), destination, &self.allowed)
    }

    /// How many of [`add_neighbours`] the tables show.
    pub(crate) fn count_added(&self) -> u32 {
        let added =
            |address| matches!(address, IpAddr::V4(v4) if v4.to_bits() >> 23 == 0x0a80 >> 7);
        let count = self
            .tables()
            .neighbours()
            .filter(|((_, address), _)| added(*address))
            .count();
        u32::try_from(count).expect("bounded by the test")
    }

    /// Waits until the tables show it, and fails the test if they do not in time.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not within {PATIENCE:?}: {what}"
            );
            let poll = Duration::from_millis(100);
            let _ = tokio::time::timeout(poll, self.receiver.changed()).await;
        }
    }
}

/// Runs a test in a thread with its own network namespace: xlb0 with 10.0.0.254/24 and
/// 2001:db8::254/64, and at the other end of the wire peer0 with .1 and ::1.
pub(crate) fn in_namespace(test: impl AsyncFnOnce(Lab) + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: it makes network namespaces"
    );
    let thread = std::thread::spawn(move || {
        let peer = own_namespace();
        own_namespace();
        PEER.set(Some(peer));
        make_wire();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (handle, mut receiver) = spawn().expect("netlink");
            // The kernel may take a second to tell of a link that is up.
            let is_up = |tables: &Arc<Tables>| tables.link_named("xlb0").is_some_and(|l| l.up);
            let tables = tokio::time::timeout(PATIENCE, receiver.wait_for(is_up)).await;
            let tables = tables.expect("xlb0 comes up").expect("tables").clone();
            assert!(tables.complete);
            let allowed = tables
                .link_named("xlb0")
                .map(|link| link.ifindex)
                .into_iter()
                .collect();
            test(Lab {
                handle,
                receiver,
                allowed,
            })
            .await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread into a new network namespace, and returns that.
fn own_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("new network namespace");
    let namespace = File::open("/proc/thread-self/ns/net").expect("namespace");
    ip("link set lo up");
    namespace
}

fn make_wire() {
    let peer = PEER.with_borrow(|peer| peer.as_ref().expect("peer").try_clone().expect("peer"));
    // The path is of the child's own descriptor, which it inherits for this.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&peer));
    ip("link add xlb0 type veth peer name peer0");
    let mut to_peer = Command::new("ip");
    to_peer.args(["link", "set", "peer0", "netns", &path]);
    // SAFETY: fcntl is safe between fork and exec.
    unsafe {
        to_peer.pre_exec(move || {
            nix::fcntl::fcntl(
                &peer,
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
            )?;
            Ok(())
        });
    }
    run(to_peer);
    ip("addr add 10.0.0.254/24 dev xlb0");
    ip("addr add 2001:db8::254/64 dev xlb0 nodad");
    in_peer("addr add 10.0.0.1/24 dev peer0");
    in_peer("addr add 2001:db8::1/64 dev peer0 nodad");
    ip("link set xlb0 up");
    in_peer("link set peer0 up");
}

/// Runs `ip` in this thread's namespace.
pub(crate) fn ip(arguments: &str) -> String {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    run(command)
}

/// Adds that many neighbours in 10.128.0.0/9 with one process, as fast as it can.
pub(crate) fn add_neighbours(count: u32) {
    let line = |n: u32| {
        let address = Ipv4Addr::from_bits(0x0a80_0000 + n);
        format!("neigh replace {address} lladdr 02:00:00:00:00:05 dev xlb0 nud permanent\n")
    };
    let lines: String = (0..count).map(line).collect();
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("run ip");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(lines.as_bytes())
        .expect("write to ip");
    assert!(child.wait().expect("ip").success());
}

/// Runs `ip` in the peer's namespace.
pub(crate) fn in_peer(arguments: &str) -> String {
    let peer = PEER.with_borrow(|peer| peer.as_ref().expect("peer").try_clone().expect("peer"));
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace());
    // SAFETY: setns is one system call, and safe between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(setns(&peer, CloneFlags::CLONE_NEWNET)?));
    }
    run(command)
}

/// Sets a sysctl of this thread's namespace.
pub(crate) fn set_sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{path}"), value).expect(path);
}

/// Makes a function that another thread can run in this thread's namespace.
pub(crate) fn in_this_namespace(
    work: impl FnOnce() + Send + 'static,
) -> impl FnOnce() + Send + 'static {
    let namespace = File::open("/proc/thread-self/ns/net").expect("namespace");
    move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).expect("enter namespace");
        work();
    }
}

fn run(mut command: Command) -> String {
    let output = command.output().expect("run ip (package iproute2)");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The hardware address of the peer's interface.
pub(crate) fn peer_mac(name: &str) -> [u8; 6] {
    let line = in_peer(&format!("-o link show {name}"));
    let text = line
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.get(..17))
        .expect("mac");
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
    bytes.collect::<Vec<_>>().try_into().expect("six bytes")
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
