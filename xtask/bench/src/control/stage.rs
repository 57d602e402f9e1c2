//! A host with an agent, and one that answers for all of its backends.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use xlb_control::api::{BackendState, Change};
use xlb_tests::lab::{Lab, NetNs, wait_until};

use super::{
    plan::{BACKEND_PORT, BACKENDS, POOL, Plan, SERVICE, VICTIM_PORT},
    watch::Slots,
};
use crate::daemon::Daemon;

/// How long the slots must have been still for a change to be over.
const QUIET: Duration = Duration::from_millis(15);
/// How long anything may take that an agent is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A host with an agent, and one that answers for all of its backends.
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) daemon: Daemon,
    backends: NetNs,
    _always: Server,
    victim: Option<Server>,
    _lab: Lab,
}

/// What a change by the control API took.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeTimes {
    /// From the request to the answer.
    pub(super) api: Duration,
    /// From the agent's log of the request to the last slot, if both were seen.
    pub(super) apply: Option<Duration>,
}

impl Stage {
    /// Builds the lab; the agent is not started yet.
    pub(super) fn build(binary: &Path, plan: Plan) -> Self {
        let lab = Lab::new("bench-control");
        let (balancer, backends) = (lab.namespace("balancer"), lab.namespace("backends"));
        balancer.cable("eth0", &backends, "eth0", None);
        balancer.ip("addr add 10.80.1.1/24 dev eth0");
        backends.ip("addr add 10.80.1.254/24 dev eth0");
        balancer.ip(&format!("route add {BACKENDS} via 10.80.1.254"));
        // Whoever has a backend's address is asked for, this host answers.
        backends.ip(&format!("route add local {BACKENDS} dev lo"));
        Self {
            plan,
            daemon: Daemon::prepare(binary, &balancer, &plan.config()),
            _always: Server::start(&backends, BACKEND_PORT),
            victim: Some(Server::start(&backends, VICTIM_PORT)),
            backends,
            _lab: lab,
        }
    }

    /// Starts the agent and returns how long that took.
    pub(super) fn start(&mut self) -> Duration {
        self.daemon.start(SERVICE)
    }

    /// Gives the victim another weight.
    pub(super) fn change(&self, slots: &Arc<Slots>, weight: u16) -> ChangeTimes {
        let from = self.daemon.log_length();
        let watch = slots.watch();
        let asked = Instant::now();
        let change = Change::BackendWeight {
            pool: POOL.to_owned(),
            endpoint: Plan::victim(),
            weight,
        };
        self.daemon
            .call(async |client| client.change(&change).await)
            .unwrap_or_else(|error| panic!("change a weight: {error}"));
        let api = asked.elapsed();
        std::thread::sleep(QUIET);
        let last = watch.stop().last;
        let decided = self.daemon.logged_at(from, &["a change is asked for"]);
        ChangeTimes {
            api,
            apply: between(decided, last),
        }
    }

    /// The same by the command line; returns how long the command took. `None`: the agent took
    /// longer than the command waits.
    pub(super) fn change_by_command(&self, weight: u16) -> Option<Duration> {
        let endpoint = Plan::victim().to_string();
        let weight = weight.to_string();
        let mut command = self
            .daemon
            .agent()
            .cli_command(&["backend", "weight", POOL, &endpoint, &weight]);
        let started = Instant::now();
        let output = command.output().expect("run the command line");
        let time = started.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || said.contains("did not answer"),
            "backend weight: {said}"
        );
        output.status.success().then_some(time)
    }

    /// Has the victim refuse connections. Returns the time from the agent's log of the finding to
    /// the last slot. The victim is well again when this returns.
    pub(super) fn fail_over(&mut self, slots: &Arc<Slots>) -> Option<Duration> {
        let from = self.daemon.log_length();
        let watch = slots.watch();
        self.victim = None;
        let victim = Plan::victim().to_string();
        let down = ["backend is down", &victim];
        self.wait_for_log(from, &down);
        std::thread::sleep(QUIET);
        let last = watch.stop().last;
        let decided = self.daemon.logged_at(from, &down);
        let from = self.daemon.log_length();
        self.victim = Some(Server::start(&self.backends, VICTIM_PORT));
        self.wait_for_log(from, &["backend is up", &victim]);
        std::thread::sleep(QUIET);
        between(decided, last)
    }

    fn wait_for_log(&self, from: usize, words: &[&str]) {
        let what = format!("the agent logs {words:?}");
        wait_until(&what, LIMIT, || {
            self.daemon.logged_at(from, words).is_some()
        });
    }

    /// Waits until every backend of the first pool was probed and found well.
    pub(super) fn wait_until_probed(&self) {
        wait_until("every backend is up", LIMIT, || {
            let health = self
                .daemon
                .call(async |client| client.health(Some(SERVICE)).await);
            let states = health.unwrap_or_else(|error| panic!("ask for health: {error}"));
            states
                .iter()
                .all(|backend| backend.state == BackendState::Up)
        });
    }
}

/// `None` if the end was not seen, or lies before the beginning: then it is another change's.
fn between(from: Option<Instant>, to: Option<Instant>) -> Option<Duration> {
    to?.checked_duration_since(from?)
}

/// Accepts connections and closes them.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(ns: &NetNs, port: u16) -> Self {
        /// Connections wait in the kernel meanwhile, established; a probe is content with that.
        const PAUSE: Duration = Duration::from_millis(2);
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let listener = ns
            .run(|| TcpListener::bind(address))
            .unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        listener
            .set_nonblocking(true)
            .expect("a socket can be non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((stream, _)) = listener.accept() {
                    drop(stream);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The port is free, or refuses, when this returns.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
