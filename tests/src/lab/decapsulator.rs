//! The real `xlb-agent backend run` on a backend of the lab.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{NetNs, Process, VIP_V4, VIP_V6, agent_binary, checked_output, wait_until};

/// How long it may take until it is ready, or has read its file again, on a machine that is emulated, too.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A backend that unpacks what balancers send. When this is dropped, its process is killed; what it
/// has made goes with the lab. If a test panics, its log is printed.
pub struct Decapsulator {
    ns: NetNs,
    binary: PathBuf,
    directory: PathBuf,
    process: Option<Process>,
}

impl Decapsulator {
    /// Starts it on a backend of a topology, for both VIPs, all balancers and as a peer of all
    /// backends there, and waits until it is ready.
    #[track_caller]
    pub fn start(ns: &NetNs) -> Self {
        let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)];
        let peers = "peers = [\"10.80.1.0/24\", \"fd80:0:0:1::/64\"]\n";
        let config = Self::config(&["10.80.0.0/16", "fd80::/32"], &vips);
        Self::start_with(ns, &(config + peers))
    }

    /// A configuration for `eth0`.
    #[must_use]
    pub fn config(balancers: &[&str], vips: &[IpAddr]) -> String {
        let vips: Vec<String> = vips.iter().map(ToString::to_string).collect();
        format!("[backend]\ninterfaces = [\"eth0\"]\nbalancers = {balancers:?}\nvips = {vips:?}\n")
    }

    /// Starts it with the text of a configuration file, and waits until it is ready.
    #[track_caller]
    pub fn start_with(ns: &NetNs, config: &str) -> Self {
        let directory = ns.lab().directory().join(format!("backend-{}", ns.name()));
        fs::create_dir(&directory).expect("make the backend's directory");
        let mut this = Self {
            ns: ns.clone(),
            binary: fs::canonicalize(agent_binary()).expect("find the agent"),
            directory,
            process: None,
        };
        this.write_config(config);
        this.start_again();
        this
    }

    /// Replaces the configuration file; [`Decapsulator::reload`] applies it.
    pub fn write_config(&self, config: &str) {
        fs::write(self.config_path(), config).expect("write the configuration");
    }

    /// Path of the configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("backend.toml")
    }

    /// Directory under which it pins.
    #[must_use]
    pub fn pin_directory(&self) -> PathBuf {
        self.ns.lab().bpffs().join(self.ns.name())
    }

    /// What it has written to its standard error, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("backend.log")
    }

    /// The command `xlb-agent ARGUMENTS` on this backend.
    #[must_use]
    pub fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.ns.command(&self.binary);
        command
            .arg("--pin-dir")
            .arg(self.pin_directory())
            .args(arguments);
        command
    }

    /// Starts it after [`Decapsulator::kill9`] or [`Decapsulator::stop`], and waits until it is
    /// ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the backend's log");
        let before = self.log().len();
        let mut command = self.cli_command(&["backend", "run", "--config"]);
        command
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = Process::start(self.ns.lab(), "xlb-agent backend", command);
        wait_until("the backend is ready", START_LIMIT, || {
            assert!(process.is_running(), "the backend ended:\n{}", self.log());
            self.log()[before..].contains("ready")
        });
        self.process = Some(process);
    }

    /// Runs the CLI to its end, whatever that is.
    #[track_caller]
    pub fn cli_output(&self, arguments: &[&str]) -> Output {
        self.cli_command(arguments)
            .output()
            .unwrap_or_else(|error| panic!("run {}: {error}", self.binary.display()))
    }

    /// What `backend status -o json` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        let text = checked_output(&mut self.cli_command(&["backend", "status", "-o", "json"]));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("read the status: {error}\n{text}"))
    }

    /// Packets that left its program for a reason, such as `delivered`.
    #[track_caller]
    pub fn packets(&self, reason: &str) -> u64 {
        let status = self.status();
        let mut reasons = status["reasons"].as_array().into_iter().flatten();
        reasons
            .find(|it| it["reason"] == reason)
            .and_then(|it| it["packets"].as_u64())
            .unwrap_or_else(|| panic!("no reason {reason} in {status}"))
    }

    /// Lets it read its file again, and waits until that is in force or refused.
    #[track_caller]
    pub fn reload(&self) {
        let before = self.log().len();
        let process = self.process.as_ref().expect("it runs");
        process.signal(Signal::SIGHUP);
        wait_until("the file is read again", START_LIMIT, || {
            let log = &self.log()[before..];
            log.contains("is in force") || log.contains("ERROR")
        });
    }

    /// Kills it with SIGKILL. Packets are unpacked on.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9();
    }

    /// Ends it with SIGTERM and waits until it is gone. Packets are unpacked on.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        assert!(status.success(), "it ended with {status}; its log follows");
    }

    /// Undoes everything, with `xlb-agent backend unload`.
    #[track_caller]
    pub fn unload(&self) -> String {
        checked_output(&mut self.cli_command(&["backend", "unload"]))
    }
}

impl Drop for Decapsulator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of the backend on {} ---\n{}---",
                self.ns.name(),
                self.log()
            );
        }
    }
}
