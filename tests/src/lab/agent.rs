//! The real agent on a host of the lab.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Lab, NetNs, Process, checked_output};

/// How long the agent may take until it answers, on a machine that is emulated, too.
const START_LIMIT: Duration = Duration::from_secs(60);

/// An agent. When this is dropped, it is killed; its data path goes with the lab. If a test
/// panics, its log is printed.
pub struct Agent {
    ns: NetNs,
    binary: PathBuf,
    launcher: Vec<String>,
    run_options: Vec<String>,
    directory: PathBuf,
    pin_directory: PathBuf,
    process: Option<Process>,
}

/// The agent's binary: `$XLB_AGENT`, or `xlb-agent` next to this program, or, if this is a test,
/// one directory up.
#[must_use]
pub fn agent_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("XLB_AGENT") {
        return path.into();
    }
    let this = std::env::current_exe().expect("a process knows its program");
    let mut found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|path| path.join("xlb-agent"));
    found.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no xlb-agent near {}: cargo build -p xlb-agent, or set XLB_AGENT",
            this.display()
        )
    })
}

impl Agent {
    /// Starts an agent in `ns` with the text of a configuration file, and waits until it answers.
    #[track_caller]
    pub fn start(ns: &NetNs, config: &str) -> Self {
        Self::start_binary(&agent_binary(), ns, config)
    }

    /// As [`Agent::start`], with a binary that need not be the usual one.
    #[track_caller]
    pub fn start_binary(binary: &Path, ns: &NetNs, config: &str) -> Self {
        let mut agent = Self::prepare(binary, ns, config);
        agent.start_again();
        agent
    }

    /// Puts everything in place and starts nothing; [`Agent::start_again`] does.
    #[must_use]
    pub fn prepare(binary: &Path, ns: &NetNs, config: &str) -> Self {
        let binary = fs::canonicalize(binary)
            .unwrap_or_else(|error| panic!("find the agent {}: {error}", binary.display()));
        let directory = ns.lab().directory().join(format!("agent-{}", ns.name()));
        fs::create_dir(&directory).expect("make the agent's directory");
        let pin_directory = ns.lab().bpffs().join(ns.name());
        let agent = Self {
            ns: ns.clone(),
            binary,
            launcher: Vec::new(),
            run_options: Vec::new(),
            directory,
            pin_directory,
            process: None,
        };
        agent.write_config(config);
        agent
    }

    /// From now on it is started by a program that becomes it, such as `setpriv` with options.
    pub fn start_through(&mut self, launcher: &[&str]) {
        self.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
    }

    /// From now on `xlb-agent run` gets these options too.
    pub fn run_with(&mut self, options: &[&str]) {
        self.run_options = options.iter().map(|&word| word.to_owned()).collect();
    }

    /// Directory of its socket, state, log and configuration.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces the configuration file; [`Agent::cli`] with `reload` applies it.
    pub fn write_config(&self, config: &str) {
        fs::write(self.config_path(), config).expect("write the configuration");
    }

    /// Path of the configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("xlb.toml")
    }

    /// Directory under which it pins.
    #[must_use]
    pub fn pin_directory(&self) -> &Path {
        &self.pin_directory
    }

    /// Path of its socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.directory.join("xlb.sock")
    }

    /// What it has written to its standard error, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Path of what it writes to its standard error.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Process id; panics if it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the agent runs").pid()
    }

    /// The options that tell this agent from others, `--config` not among them.
    #[must_use]
    pub fn global_options(&self) -> Vec<String> {
        let options = [
            ("--socket", self.socket_path()),
            ("--pin-dir", self.pin_directory.clone()),
            ("--state-dir", self.directory.join("state")),
        ];
        options
            .into_iter()
            .flat_map(|(option, path)| [option.to_owned(), path.display().to_string()])
            .collect()
    }

    /// The command that runs this agent, for tests that run it in a way of their own.
    #[must_use]
    pub fn run_command(&self) -> Command {
        let mut command = match self.launcher.split_first() {
            None => self.ns.command(&self.binary),
            Some((program, options)) => {
                let mut command = self.ns.command(program);
                command.args(options).arg(&self.binary);
                command
            }
        };
        command
            .args(self.global_options())
            .args(["run", "--config"])
            .arg(self.config_path())
            .args(&self.run_options);
        command
    }

    /// The command `xlb-agent ARGUMENTS` as a client of this agent.
    #[must_use]
    pub fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ns.command(&self.binary);
        command.args(self.global_options()).args(arguments);
        command
    }

    /// Starts it after [`Agent::kill9`] or [`Agent::stop`], and waits until it answers.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "the agent runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the agent's log");
        let mut command = self.run_command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = Process::start(self.ns.lab(), "xlb-agent", command);
        let start = Instant::now();
        loop {
            let status = self.cli_output(&["status", "-o", "json"]);
            // An agent answers also when what it says is bad news.
            if answer(&status).is_some() {
                break;
            }
            assert!(process.is_running(), "the agent ended; its log follows");
            assert!(
                start.elapsed() < START_LIMIT,
                "the agent does not answer after {START_LIMIT:?}: {}",
                String::from_utf8_lossy(&status.stderr)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
    }

    /// Runs the CLI to its end, whatever that is.
    #[track_caller]
    pub fn cli_output(&self, arguments: &[&str]) -> Output {
        self.cli_command(arguments)
            .output()
            .unwrap_or_else(|error| panic!("run {}: {error}", self.binary.display()))
    }

    /// Runs the CLI and reads the JSON that it prints; `arguments` ask for it with `-o json`. An
    /// exit code that says that not all is well is no failure here.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Value {
        let output = self.cli_output(arguments);
        answer(&output).unwrap_or_else(|| {
            panic!(
                "{arguments:?}: {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// Kills it with SIGKILL. The data path goes on.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.take().expect("the agent runs").kill9();
    }

    /// Ends it with SIGTERM and waits until it is gone. The data path goes on.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the agent runs");
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        assert!(
            status.success(),
            "the agent ended with {status}; its log follows"
        );
    }

    /// Stops it and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Removes the data path and all that is pinned, with `xlb-agent unload`.
    #[track_caller]
    pub fn unload(&self) -> String {
        checked_output(&mut self.cli_command(&["unload"]))
    }

    /// The lab that it is part of.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        self.ns.lab()
    }
}

/// The JSON that the CLI printed. With exit code 1 it may be an answer all the same: `status` and
/// others say so that not all is well.
fn answer(output: &Output) -> Option<Value> {
    matches!(output.status.code(), Some(0 | 1))
        .then(|| serde_json::from_slice(&output.stdout).ok())
        .flatten()
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the agent on {} ---\n{}---",
                self.ns.name(),
                self.log()
            );
        }
    }
}
