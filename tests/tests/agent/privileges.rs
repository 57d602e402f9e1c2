//! What the agent may do, and what it says when it may not.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use xlb_tests::lab::{Agent, Load};

use crate::stage::{PATIENCE, Run, Stage, run, usual};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// Options of `setpriv` for root with these capabilities and no others.
fn root_with(capabilities: &str) -> Vec<String> {
    vec![
        "setpriv".to_owned(),
        "--inh-caps=-all".to_owned(),
        format!("--bounding-set=-all,{capabilities}"),
        "--pdeathsig=KILL".to_owned(),
    ]
}

/// Options of `setpriv` for nobody with these capabilities and no others.
fn nobody_with(capabilities: &str) -> Vec<String> {
    let set = if capabilities.is_empty() {
        "-all".to_owned()
    } else {
        format!("-all,{capabilities}")
    };
    vec![
        "setpriv".to_owned(),
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={set}"),
        format!("--ambient-caps={set}"),
        format!("--bounding-set={set}"),
        "--pdeathsig=KILL".to_owned(),
    ]
}

const THREE: &str = "+bpf,+perfmon,+net_admin";

/// A stage whose agent anybody may start: program and files are where nobody gets at them.
fn open_stage(label: &str, backends: u8) -> Stage {
    let mut stage = Stage::prepare(label, backends, usual);
    let directory = stage.topology.lab.directory();
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("open a directory");
    };
    open(directory);
    let program = directory.join("xlb-agent");
    let binary = xlb_tests::lab::agent_binary();
    if fs::hard_link(&binary, &program).is_err() {
        fs::copy(&binary, &program).expect("copy the agent");
    }
    fs::remove_dir_all(stage.agent.directory()).expect("remove the agent's directory");
    stage.agent = Agent::prepare(
        &program,
        &stage.topology.balancer.ns,
        &usual(&stage.topology),
    );
    stage
}

/// Makes a user the owner of a directory and all that is in it.
fn give_to(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).expect("give a file away");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        give_to(&entry.path(), user);
    }
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// All requests are answered but those to a backend that has just died; of these there are some.
fn fails_over(stage: &mut Stage) {
    stage.wait_until_well();
    let load = Load::start(&stage.topology.client.ns, stage.load());
    stage.backends[0].kill9();
    stage.wait_for_state(stage.web(0), "down");
    let answered = load.answered();
    xlb_tests::lab::wait_until("answers after the failover", PATIENCE, || {
        load.answered() >= answered + 50
    });
    let requests = load.stop();
    let late = &requests[requests.len() - 25..];
    assert!(
        late.iter()
            .all(|request| request.backend() == Some("backend2")),
        "{late:?}"
    );
    stage.backends[0].start_again();
    stage.wait_until_well();
}

#[test]
fn three_capabilities_are_enough() {
    let mut stage = open_stage("capabilities", 2);
    for (launcher, user) in [(root_with(THREE), 0), (nobody_with(THREE), NOBODY)] {
        give_to(stage.agent.directory(), user);
        stage.agent.start_through(&words(&launcher));
        stage.agent.start_again();
        let status = fs::read_to_string(format!("/proc/{}/status", stage.agent.pid()));
        let status = status.expect("read the status of a process");
        assert!(status.contains("CapEff:\t000000c000001000"), "{status}");
        fails_over(&mut stage);
        // A reload, another program and more maps are no more than that.
        let more = "service add six --vip 2001:db8::10 --port 80 --forward l2-dsr --pool six";
        let file = usual(&stage.topology)
            + &crate::stage::pool(
                "six",
                &["[fd80:0:0:1::11]:80".parse().expect("an address")],
                "",
            );
        stage.agent.write_config(&file);
        assert_eq!(stage.cli("reload").code, 0);
        let added = stage.cli(more);
        assert_eq!(added.code, 0, "{added:?}");
        assert_eq!(stage.cli("service remove six").code, 0);
        stage.agent.stop();
        assert!(stage.fetch(crate::stage::WEB).is_ok());
        let mut unload = launcher.clone();
        unload.push(program(&stage).display().to_string());
        let gone = as_somebody(&stage, &unload, &["unload"]);
        assert_eq!(gone.code, 0, "{gone:?}");
    }
}

fn program(stage: &Stage) -> PathBuf {
    stage.topology.lab.directory().join("xlb-agent")
}

/// Runs the agent's program through a launcher, as the stage's agent or its client.
fn as_somebody(stage: &Stage, launcher: &[String], words: &[&str]) -> Run {
    let mut command = stage.topology.balancer.ns.command(&launcher[0]);
    command
        .args(&launcher[1..])
        .args(stage.agent.global_options())
        .args(words);
    run(&mut command)
}

#[test]
fn who_lacks_a_capability_or_a_right_is_told_which() {
    let mut stage = open_stage("refused", 1);
    let program = program(&stage).display().to_string();
    let config = stage.agent.config_path().display().to_string();
    let with = |mut launcher: Vec<String>| {
        launcher.push(program.clone());
        launcher
    };
    let lacking = [
        (root_with("+perfmon,+net_admin"), "missing CAP_BPF:"),
        (root_with("+bpf,+net_admin"), "missing CAP_PERFMON:"),
        (root_with("+bpf,+perfmon"), "missing CAP_NET_ADMIN:"),
        (nobody_with("+bpf,+perfmon"), "missing CAP_NET_ADMIN:"),
        (
            nobody_with(""),
            "missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN:",
        ),
    ];
    for (launcher, missing) in lacking {
        let launcher = with(launcher);
        for words in [&["run", "--config", &config] as &[&str], &["unload"]] {
            as_somebody(&stage, &launcher, words).refused_with(&[missing, "run as root"]);
        }
    }
    stage.topology.balancer.ns.run(|| {
        assert!(
            !stage.agent.pin_directory().exists(),
            "something was pinned"
        );
    });

    stage.agent.start_again();
    stage.wait_until_well();
    let nobody = with(nobody_with(""));
    for line in [
        "status",
        "health",
        "backend list",
        "backend disable web 10.80.1.11:8080",
        "reload",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let refused = as_somebody(&stage, &nobody, &words);
        refused.refused_with(&[
            "this user may not use the agent's socket",
            "run the command as root",
        ]);
    }
    // A file can be checked by anybody who may read it.
    let check = as_somebody(&stage, &nobody, &["check", &config]);
    assert_eq!(check.code, 0, "{check:?}");
    assert_eq!(stage.backend("web", stage.web(0))["state"], "up");
}
