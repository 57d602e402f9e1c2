//! An agent whose start is timed, whose log is read, and whose control API is asked without the
//! command line.

use std::{
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::signal::Signal;
use xlb_control::api::{Client, ClientError};
use xlb_tests::lab::{Agent, NetNs, Process};

/// How long an agent may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long a call may take.
const CALL_LIMIT: Duration = Duration::from_secs(300);
/// Time between two attempts to reach an agent that starts.
const RETRY: Duration = Duration::from_millis(1);

/// An agent on a host of a lab.
pub struct Daemon {
    process: Option<Process>,
    agent: Agent,
    ns: NetNs,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Daemon {
    /// Puts everything in place; [`Daemon::start`] starts it.
    #[must_use]
    pub fn prepare(binary: &Path, ns: &NetNs, config: &str) -> Self {
        let agent = Agent::prepare(binary, ns, config);
        let client = Client::new(agent.socket_path()).with_timeout(CALL_LIMIT);
        Self {
            process: None,
            agent,
            ns: ns.clone(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the client"),
            client,
        }
    }

    /// Starts it. Returns the time until it answers, which is once all of the configuration is in
    /// the maps. `service` is one that it has.
    pub fn start(&mut self, service: &str) -> Duration {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.agent.log_path())
            .expect("open the agent's log");
        let mut command = self.agent.run_command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let started = Instant::now();
        let mut process = Process::start(self.agent.lab(), "xlb-agent", command);
        loop {
            match self.call(async |client| client.health(Some(service)).await) {
                Ok(_) => break,
                Err(error) => assert!(
                    process.is_running() && started.elapsed() < START_LIMIT,
                    "the agent does not answer ({error}); its log follows\n{}",
                    self.agent.log()
                ),
            }
            std::thread::sleep(RETRY);
        }
        self.process = Some(process);
        started.elapsed()
    }

    /// Ends it with SIGTERM. The data path stays.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        process.signal(Signal::SIGTERM);
        let status = process.wait();
        assert!(
            status.success(),
            "the agent ended with {status}; its log follows\n{}",
            self.agent.log()
        );
    }

    /// Calls the control API.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn call<T>(
        &self,
        call: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.wait_for(call(&self.client))
    }

    fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The agent as the lab knows it.
    #[must_use]
    pub const fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Path of a pinned map or program.
    #[must_use]
    pub fn pin(&self, name: &str) -> PathBuf {
        self.agent
            .pin_directory()
            .join(xlb_common::maps::LAYOUT_VERSION)
            .join(name)
    }

    /// The host that it runs on.
    #[must_use]
    pub const fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Process id; it must run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the agent runs").pid()
    }

    /// Length of the log so far.
    #[must_use]
    pub fn log_length(&self) -> usize {
        self.agent.log().len()
    }

    /// When the first line with all of `words` was logged, beyond the first `from` bytes of the log.
    #[must_use]
    pub fn logged_at(&self, from: usize, words: &[&str]) -> Option<Instant> {
        let log = self.agent.log();
        let time = time_of_line(log.get(from..)?, words)?;
        let (now, wall) = (Instant::now(), SystemTime::now());
        now.checked_sub(wall.duration_since(time).unwrap_or_default())
    }
}

fn time_of_line(log: &str, words: &[&str]) -> Option<SystemTime> {
    let line = log
        .lines()
        .find(|line| words.iter().all(|word| line.contains(word)))?;
    humantime::parse_rfc3339(line.split_whitespace().next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_line_is_found_by_its_words() {
        let log = "2026-01-02T03:04:05.250000Z  INFO xlb: ready\n\
                   2026-01-02T03:04:06.500000Z  WARN xlb: backend is down backend=10.0.0.1:80\n\
                   2026-01-02T03:04:07.500000Z  WARN xlb: backend is down backend=10.0.0.2:80\n";
        let at = |words: &[&str]| {
            let time = time_of_line(log, words)?;
            Some(humantime::format_rfc3339_millis(time).to_string())
        };
        let second = at(&["backend is down", "10.0.0.2:80"]);
        assert_eq!(second.as_deref(), Some("2026-01-02T03:04:07.500Z"));
        assert_eq!(at(&["backend is up"]), None);
    }
}
