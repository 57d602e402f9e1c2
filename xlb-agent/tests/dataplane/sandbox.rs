//! A mount namespace with a BPF file system, and a network namespace, for the length of a test.

use std::{
    collections::BTreeSet,
    fs, panic,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use xlb_agent::dataplane::{Interface, Sizes, Spec};
use xlb_control::config::Mode;

/// What a test works in.
pub(crate) struct Sandbox {
    bpffs: PathBuf,
}

/// Runs a test in namespaces of its own. They belong to a thread, and end with it.
pub(crate) fn in_sandbox(test: impl FnOnce(&Sandbox) + Send + 'static) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let bpffs = dir.path().to_owned();
    let ended = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .expect("namespaces of the test's own, which need root");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .expect("private mounts");
        mount(
            Some("bpf"),
            &bpffs,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("a BPF file system");
        test(&Sandbox { bpffs });
    })
    .join();
    if let Err(panicked) = ended {
        panic::resume_unwind(panicked);
    }
}

impl Sandbox {
    /// A directory for pins, which does not exist yet.
    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.bpffs.join("xlb")
    }

    /// Another one.
    pub(crate) fn other_pin_dir(&self) -> PathBuf {
        self.bpffs.join("other")
    }

    /// What is pinned, as paths below the BPF file system.
    pub(crate) fn pinned(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        collect(&self.bpffs, &self.bpffs, &mut found);
        found
    }

    /// Makes a pair of connected interfaces and brings them up.
    pub(crate) fn veth(&self, name: &str, peer: &str) -> Interface {
        ip(&["link", "add", name, "type", "veth", "peer", "name", peer]);
        ip(&["link", "set", name, "up"]);
        ip(&["link", "set", peer, "up"]);
        interface(name)
    }
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        // The kernel's own: maps.debug and progs.debug.
        if path
            .extension()
            .is_some_and(|extension| extension == "debug")
        {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, found);
        }
        found.insert(path.strip_prefix(root).expect("below").to_owned());
    }
}

/// An interface by its name.
pub(crate) fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        ifindex: if_nametoindex(name).expect("an interface"),
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().expect("run ip");
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The number of the program on an interface.
pub(crate) fn program_on(name: &str) -> Option<u64> {
    let links: serde_json::Value =
        serde_json::from_str(&ip(&["-j", "link", "show", name])).expect("JSON of ip");
    links[0]["xdp"]["prog"]["id"].as_u64()
}

/// A specification with the smallest maps.
pub(crate) fn spec(interfaces: &[Interface]) -> Spec {
    Spec {
        interfaces: interfaces.to_vec(),
        mode: Mode::Auto,
        // The traffic here is of no IP version, so the program may be the smallest.
        features: 0,
        hash_key: [1, 2],
        sizes: Sizes {
            services: 8,
            backends: 8,
            pools: 4,
            pending: 16,
            flows: 16,
            counters: 16,
            ..Sizes::default()
        },
    }
}

/// The same with larger maps, all that can grow.
pub(crate) fn larger(spec: &Spec) -> Spec {
    Spec {
        sizes: Sizes {
            vips4: 256,
            vips6: 256,
            replies4: 128,
            replies6: 128,
            services: 100,
            backends: 200,
            pools: 50,
            arena_blocks: 3,
            pending: 1000,
            flows: 2000,
            fragmented: 3000,
            counters: 500,
            nat_ports: 4,
            nat_flows: 4,
        },
        ..spec.clone()
    }
}
