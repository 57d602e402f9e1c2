//! What tests may leave behind: namespaces, interfaces, pins, programs, processes.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};

use crate::process;

/// The kernel tears namespaces down, and programs with them, some time after their last user left.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// Directories below a bpffs are read to this depth: pin directory, the backend's part of it, layout
/// version, links, pin.
const MAX_PIN_DEPTH: usize = 5;

/// One thing that outlives the test that made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    Namespace(String),
    Interface(String),
    Pin(PathBuf),
    Program(String),
    Process(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Namespace(name) => write!(f, "network namespace {name}"),
            Thing::Interface(name) => write!(f, "interface {name}"),
            Thing::Pin(path) => write!(f, "pin {}", path.display()),
            Thing::Program(name) => write!(f, "XDP program {name}"),
            Thing::Process(name) => write!(f, "process {name}"),
        }
    }
}

/// What was there at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    things: BTreeSet<Thing>,
}

impl Snapshot {
    /// Looks at the machine. A place that can't be read holds nothing that a test has put there.
    pub(crate) fn take() -> Snapshot {
        let named_xlb = |dir: &str| {
            names_in(Path::new(dir))
                .into_iter()
                .filter(|name| name.starts_with("xlb"))
        };
        let mut things = BTreeSet::new();
        things.extend(named_xlb("/run/netns").map(Thing::Namespace));
        things.extend(named_xlb("/sys/class/net").map(Thing::Interface));
        for mount in bpf_mounts(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
            collect_pins(&mount, MAX_PIN_DEPTH, &mut things);
        }
        things.extend(xdp_programs().into_iter().map(Thing::Program));
        things.extend(children().into_iter().map(|(_, name)| Thing::Process(name)));
        Snapshot { things }
    }
}

/// What is there now and was not there before.
fn compare(before: &Snapshot, now: &Snapshot) -> Vec<Thing> {
    now.things.difference(&before.things).cloned().collect()
}

/// Makes this process the parent of every orphan among its descendants, so that a process that a test
/// forgot is found, whatever became of the test.
pub(crate) fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("become the parent of orphans")
}

/// Waits until nothing is left or the kernel had its time. Ends the processes that are left, since
/// they are ours, and returns everything that was.
pub(crate) fn settle(before: &Snapshot) -> Vec<Thing> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        process::reap_orphans();
        let left = compare(before, &Snapshot::take());
        if left.is_empty() || Instant::now() > deadline {
            for (pid, _) in children() {
                // One that has just ended needs no signal.
                let _ = kill(pid, Signal::SIGKILL);
            }
            return left;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect()
        },
    )
}

/// The mount points of type bpf in the text of `/proc/self/mounts`.
fn bpf_mounts(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "bpf").then(|| PathBuf::from(path))
        })
        .collect()
}

fn collect_pins(dir: &Path, depth: usize, things: &mut BTreeSet<Thing>) {
    for name in names_in(dir) {
        let path = dir.join(name);
        if depth > 1 && path.is_dir() {
            collect_pins(&path, depth - 1, things);
        }
        things.insert(Thing::Pin(path));
    }
}

/// Id and name of every loaded XDP program. Without bpftool there is no answer, and setup has
/// installed it.
fn xdp_programs() -> Vec<String> {
    let output = Command::new("bpftool")
        .args(["-j", "prog", "show"])
        .output();
    output.map_or_else(|_| Vec::new(), |output| parse_xdp_programs(&output.stdout))
}

fn parse_xdp_programs(json: &[u8]) -> Vec<String> {
    let Ok(programs) = serde_json::from_slice::<Vec<serde_json::Value>>(json) else {
        return Vec::new();
    };
    programs
        .iter()
        .filter(|program| program["type"] == "xdp")
        .map(|program| {
            let name = program["name"].as_str().unwrap_or("without a name");
            format!("{} ({name})", program["id"])
        })
        .collect()
}

fn children() -> Vec<(Pid, String)> {
    names_in(Path::new("/proc"))
        .iter()
        .filter_map(|name| {
            let pid: i32 = name.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (command, parent) = parse_stat(&stat)?;
            (parent == getpid().as_raw())
                .then(|| (Pid::from_raw(pid), format!("{pid} ({command})")))
        })
        .collect()
}

/// Command and parent from the text of `/proc/PID/stat`. The command may itself hold spaces and
/// brackets, so what follows it begins at the last bracket.
fn parse_stat(stat: &str) -> Option<(&str, i32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, command) = head.split_once('(')?;
    let parent = tail.split_whitespace().nth(1)?.parse().ok()?;
    Some((command, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(things: &[Thing]) -> Snapshot {
        Snapshot {
            things: things.iter().cloned().collect(),
        }
    }

    #[test]
    fn only_what_is_new_was_left() {
        let old = Thing::Namespace("xlb-demo".into());
        let new = Thing::Pin("/sys/fs/bpf/xlb-test-1/v1/RING".into());
        let before = snapshot(&[old.clone(), Thing::Interface("xlb0".into())]);
        let now = snapshot(&[old, new.clone()]);
        assert_eq!(compare(&before, &now), vec![new]);
    }

    #[test]
    fn bpf_mounts_are_told_from_others() {
        let mounts = "bpf /sys/fs/bpf bpf rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(bpf_mounts(mounts), vec![PathBuf::from("/sys/fs/bpf")]);
    }

    #[test]
    fn only_xdp_programs_count() {
        let json = br#"[{"id":3,"type":"cgroup_skb"},{"id":9,"type":"xdp","name":"xlb"}]"#;
        assert_eq!(parse_xdp_programs(json), vec!["9 (xlb)".to_owned()]);
    }

    #[test]
    fn a_command_with_brackets_hides_no_parent() {
        assert_eq!(parse_stat("7 (a) b) S 42 7 7"), Some(("a) b", 42)));
    }

    #[test]
    fn a_forgotten_child_is_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let seen = children().iter().any(|(seen, _)| *seen == pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen);
    }
}
