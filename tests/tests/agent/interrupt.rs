//! Ctrl-C in the middle of the demonstration.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use xlb_tests::lab::{agent_binary, wait_until};

use crate::stage::{PATIENCE, run};

/// A demonstration in a process group of its own, killed if the test fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes whose command line names a lab.
fn processes_of(lab: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").into_iter().flatten().flatten();
    commands
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|words| String::from_utf8_lossy(&words).replace('\0', " "))
        .filter(|line| line.contains(lab))
        .collect()
}

fn directories_of(lab: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.display().to_string().contains(lab))
        .collect()
}

fn namespaces_of(lab: &str) -> usize {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    names
        .filter(|name| name.file_name().to_string_lossy().starts_with(lab))
        .count()
}

/// The number of the program that the demonstration's agent has loaded.
fn program_of(directory: &Path) -> String {
    let mut status = Command::new(agent_binary());
    status
        .arg("--socket")
        .arg(directory.join("agent-balancer/xlb.sock"))
        .args(["status", "-o", "json"]);
    run(&mut status).json()["program"]["id"].to_string()
}

fn interrupt(options: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .arg("--agent")
        .arg(agent_binary())
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut demo = Demo(command.spawn().expect("start the demonstration"));
    let lab = format!("xlb-demo-{}-", demo.0.id());
    let mut lines = BufReader::new(demo.0.stdout.take().expect("a pipe")).lines();
    let under_load = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("is killed under load"));
    assert!(
        under_load,
        "the demonstration ended before anything happened"
    );
    let directories = directories_of(&lab);
    let program = program_of(&directories[0]);
    // The demonstration itself, its guardian, its agent, and servers on its backends.
    assert!(processes_of(&lab).len() >= 2, "{:?}", processes_of(&lab));

    let group = Pid::from_raw(i32::try_from(demo.0.id()).expect("pids fit"));
    killpg(group, Signal::SIGINT).expect("interrupt the demonstration");
    let ended = demo.0.wait().expect("wait for the demonstration");
    assert!(!ended.success());
    wait_until("its processes are gone", PATIENCE, || {
        processes_of(&lab).is_empty()
    });
    wait_until("its files are gone", PATIENCE, || {
        directories_of(&lab).is_empty()
    });
    assert_eq!(namespaces_of(&lab), 0);
    wait_until("its program is gone", PATIENCE, || {
        let mut show = Command::new("bpftool");
        run(show.args(["prog", "show", "id", &program])).code != 0
    });
}

#[test]
fn a_demonstration_that_is_interrupted_leaves_nothing() {
    interrupt(&[]);
    interrupt(&["--keep"]);
}
