//! The parts of the demonstration, in order. Each leaves the stage as it found it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    report::{Report, failed, failed_before, failover_bound_ms, failover_ms, smallest_share},
    show::Show,
    stage::Stage,
};
use crate::lab::{Datagrams, KeepAlive, Load, Request, wait_until};

/// How long the load runs before something happens.
const BEFORE: Duration = Duration::from_secs(1);
/// How long it runs after that; more than twice the bound of a failover.
const AFTER: Duration = Duration::from_millis(1500);
/// How long an answer may take until it counts as a standstill.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Requests spread over the backends.
pub(super) fn spread(stage: &Stage, show: &Show, report: &mut Report) {
    show.title("Requests spread over the backends");
    let load = Load::start(&stage.topology.client.ns, stage.load());
    thread::sleep(2 * BEFORE);
    let requests = load.stop();
    for name in stage.names() {
        let count = requests
            .iter()
            .filter(|request| request.backend() == Some(name))
            .count();
        show.line(&format!("{name}: {count} of {}", requests.len()));
    }
    report.smallest_share = smallest_share(&requests, stage.names());
    report.failed_before_fault += failed(&requests);
    report.count(&requests);
}

/// A backend is killed: its host refuses connections.
pub(super) fn kill(stage: &mut Stage, show: &Show, report: &mut Report) {
    const VICTIM: usize = 0;
    let name = stage.backends[VICTIM].name().to_owned();
    show.title(&format!("The server on {name} is killed under load"));
    let clients = Clients::start(stage);
    let fault = Instant::now();
    stage.backends[VICTIM].kill9();
    report.failover_ms.kill = clients.finish(fault, &name, show, report);
    stage.backends[VICTIM].start_again();
    stage.wait_until_well();
    show.line(&format!("{name} was started again, and is up"));
}

/// A backend is cut off: packets to it vanish.
pub(super) fn black_hole(stage: &Stage, show: &Show, report: &mut Report) {
    let host = &stage.topology.backends[1];
    let name = host.name().to_owned();
    show.title(&format!("{name} is cut off under load: a black hole"));
    let clients = Clients::start(stage);
    let fault = Instant::now();
    stage.topology.cut(host);
    report.failover_ms.blackhole = clients.finish(fault, &name, show, report);
    stage.topology.mend(host);
    stage.wait_until_well();
    show.line(&format!("{name} was connected again, and is up"));
}

/// What runs while a backend fails.
struct Clients {
    load: Load,
    keep_alive: KeepAlive,
}

impl Clients {
    fn start(stage: &Stage) -> Self {
        let client = &stage.topology.client.ns;
        let keep_alive = KeepAlive::start(client, stage.keep_alive());
        let load = Load::start(client, stage.load());
        thread::sleep(BEFORE);
        Self { load, keep_alive }
    }

    /// Goes on for a while after the fault, and says when the last request failed.
    fn finish(
        self,
        fault: Instant,
        backend: &str,
        show: &Show,
        report: &mut Report,
    ) -> Option<f64> {
        thread::sleep(AFTER);
        let requests = self.load.stop();
        let kept = self.keep_alive.stop();
        report.failed_before_fault += failed_before(&requests, fault);
        report.count(&requests);
        report.count_kept(&kept, backend);
        let failover_ms = failover_ms(&requests, fault);
        show.line(&format!(
            "{} of {} requests failed",
            failed(&requests),
            requests.len()
        ));
        if let Some(ms) = failover_ms {
            show.line(&format!(
                "the last of them started {ms:.0} ms after the fault (bound: {:.0} ms)",
                failover_bound_ms()
            ));
        }
        let own = kept
            .iter()
            .filter(|connection| connection.backend == backend)
            .count();
        let broken = kept
            .iter()
            .filter(|connection| connection.broken.is_some())
            .count();
        show.line(&format!(
            "of {} connections that were kept open, {own} were on {backend}; {broken} broke",
            kept.len()
        ));
        failover_ms
    }
}

/// A backend drains: it keeps its connections, and gets no new ones.
pub(super) fn drain(stage: &Stage, show: &Show, report: &mut Report) {
    let index = stage.backends.len() - 1;
    let (name, endpoint) = (stage.backends[index].name(), stage.endpoint(index));
    let endpoint_text = endpoint.to_string();
    show.title(&format!("{name} drains under load"));
    let client = &stage.topology.client.ns;
    let keep_alive = KeepAlive::start(client, stage.keep_alive());
    wait_until("every kept connection is answered", STANDSTILL, || {
        keep_alive
            .snapshot()
            .iter()
            .all(|kept| kept.answers > 0 || kept.broken.is_some())
    });
    let load = Load::start(client, stage.load());
    thread::sleep(BEFORE);
    stage
        .agent
        .cli(&["backend", "drain", "web", &endpoint_text, "-o", "json"]);
    let drained = Instant::now();
    thread::sleep(AFTER);
    let requests = load.stop();
    let kept = keep_alive.stop();

    let on_backend = |request: &&Request| request.backend() == Some(name);
    let before = requests
        .iter()
        .filter(on_backend)
        .filter(|request| request.started < drained);
    let after = requests
        .iter()
        .filter(on_backend)
        .filter(|request| request.started >= drained);
    report.drain.new_connections_after = after.count() as u64;
    report.drain.kept_connections = kept
        .iter()
        .filter(|connection| connection.backend == name)
        .count() as u64;
    report.drain.broken = kept
        .iter()
        .filter(|connection| connection.broken.is_some())
        .count() as u64;
    report.drain.requests_failed = failed(&requests);
    report.count(&requests);
    show.line(&format!(
        "new connections to it: {} before the command returned, {} after",
        before.count(),
        report.drain.new_connections_after
    ));
    show.line(&format!(
        "connections that it keeps: {}; connections broken: {}",
        report.drain.kept_connections, report.drain.broken
    ));
    for kept in kept
        .iter()
        .filter_map(|connection| connection.broken.as_ref())
    {
        show.line(&format!("broken: {}", kept.1));
    }
    stage
        .agent
        .cli(&["backend", "undrain", "web", &endpoint_text, "-o", "json"]);
    wait_until("the backend is up again", STANDSTILL, || {
        stage.state(endpoint) == "up"
    });
    show.line(&format!("{name} serves again"));
}

/// The agent is killed; the data path goes on, and a new agent adopts it.
pub(super) fn agent_kill(stage: &mut Stage, show: &Show, report: &mut Report) {
    show.title("The agent is killed under load, and started again");
    let client = stage.topology.client.ns.clone();
    let datagrams = Datagrams::start(&client, stage.datagrams());
    let load = Load::start(&client, stage.load());
    thread::sleep(BEFORE / 2);
    stage.agent.kill9();
    thread::sleep(BEFORE);
    stage.agent.start_again();
    thread::sleep(BEFORE);
    let packets = datagrams.stop();
    let requests = load.stop();
    report.agent_kill.packets_sent = packets.sent;
    report.agent_kill.packets_lost = packets.lost;
    report.agent_kill.requests_failed = failed(&requests);
    report.count(&requests);
    show.line(&format!(
        "UDP: {} packets sent, {} lost",
        packets.sent, packets.lost
    ));
    show.line(&format!(
        "TCP: {} requests, {} failed",
        requests.len(),
        report.agent_kill.requests_failed
    ));
    stage.wait_until_well();
}
