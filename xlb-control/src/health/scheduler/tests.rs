use std::{future, net::Ipv4Addr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc::{Receiver, channel},
    time::{Instant, advance, sleep, timeout},
};

use super::*;
use crate::health::{
    Code,
    testing::{FullListener, refusing},
};

fn check(interval_ms: u64, timeout_ms: u64) -> Check {
    Check {
        kind: CheckKind::Tcp,
        interval: Duration::from_millis(interval_ms),
        timeout: Duration::from_millis(timeout_ms),
        rise: 2,
        fall: 2,
        port: None,
    }
}

fn numbered(number: u16, check: &Check) -> Target {
    Target::new(SocketAddr::from((Ipv4Addr::LOCALHOST, number)), check)
}

fn unknown(targets: impl IntoIterator<Item = Target>) -> HashMap<Target, Option<Verdict>> {
    targets.into_iter().map(|target| (target, None)).collect()
}

fn well() -> Outcome {
    Outcome {
        result: ProbeResult::Ok,
        latency: Duration::from_millis(1),
    }
}

/// Starts of probes by target, as a fake probe that takes `duration` saw them.
#[derive(Clone, Default)]
struct Starts(Arc<Mutex<HashMap<Target, Vec<Instant>>>>);

impl Starts {
    fn checker(&self, duration: Duration) -> (Checker, Receiver<HealthEvent>) {
        let (events, received) = channel(4096);
        let starts = self.clone();
        let checker = Checker::with_probe(events, MAX_PROBES_IN_FLIGHT, move |target| {
            let now = Instant::now();
            lock(&starts.0).entry(target.clone()).or_default().push(now);
            Box::pin(async move {
                sleep(duration).await;
                well()
            })
        });
        (checker, received)
    }

    fn of(&self, target: &Target) -> Vec<Instant> {
        lock(&self.0).get(target).cloned().unwrap_or_default()
    }

    fn gaps_ms(&self, target: &Target) -> Vec<u128> {
        let starts = self.of(target);
        let gaps = starts
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis());
        gaps.collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_targets_are_decided_soon_and_then_spread_over_the_interval() {
    let starts = Starts::default();
    let (mut checker, _events) = starts.checker(Duration::ZERO);
    let check = check(1_000, 1_000);
    let targets: Vec<Target> = (1..=1_000).map(|number| numbered(number, &check)).collect();
    let begin = Instant::now();
    checker.set_targets(&unknown(targets.iter().cloned()));
    sleep(Duration::from_millis(110)).await;
    for target in &targets {
        assert_eq!(checker.state(target), Some(State::Up));
    }
    sleep(Duration::from_secs(10)).await;

    // By then the phases are what they stay: the starts within one interval, in tenths of it.
    let mut tenths = [0_u32; 10];
    for target in &targets {
        let starts = starts.of(target);
        let in_interval = starts
            .iter()
            .map(|start| (*start - begin).as_millis())
            .find(|start| (5_000..6_000).contains(start))
            .expect("each interval has a probe of each target");
        tenths[(in_interval as usize - 5_000) / 100] += 1;
    }
    // 100 are expected in each, with a standard deviation of 9.5.
    assert!(
        tenths.iter().all(|count| (40..160).contains(count)),
        "{tenths:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_period_is_the_interval_and_does_not_drift() {
    let starts = Starts::default();
    let (mut checker, _events) = starts.checker(Duration::from_millis(7));
    let target = numbered(1, &check(100, 100));
    checker.set_targets(&unknown([target.clone()]));
    sleep(Duration::from_secs(20)).await;
    let starts = starts.of(&target);
    assert!(starts.len() >= 200, "{} probes in 20 s", starts.len());
    assert!(starts[1] - starts[0] <= Duration::from_millis(101));
    for (periods, start) in (0_u32..).zip(&starts[1..]) {
        let expected = starts[1] + Duration::from_millis(100) * periods;
        // The clock of the runtime ticks once a millisecond.
        let off = start.max(&expected).duration_since(*start.min(&expected));
        assert!(off <= Duration::from_millis(1), "off by {off:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_never_probed_twice_at_once() {
    let starts = Starts::default();
    let (mut checker, _events) = starts.checker(Duration::from_millis(250));
    let target = numbered(1, &check(100, 1_000));
    checker.set_targets(&unknown([target.clone()]));
    sleep(Duration::from_secs(5)).await;
    let gaps = starts.gaps_ms(&target);
    assert!(!gaps.is_empty());
    assert!(gaps.iter().all(|gap| (250..=251).contains(gap)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn targets_that_stay_keep_state_and_schedule() {
    let starts = Starts::default();
    let (mut checker, mut events) = starts.checker(Duration::ZERO);
    let check = check(100, 100);
    let (stays, goes, comes) = (
        numbered(1, &check),
        numbered(2, &check),
        numbered(3, &check),
    );
    checker.set_targets(&unknown([stays.clone(), goes.clone()]));
    sleep(Duration::from_secs(1)).await;
    let before = checker.snapshot(&stays).expect("it is watched");
    let probes_of_gone = starts.of(&goes).len();

    checker.set_targets(&unknown([stays.clone(), comes.clone()]));
    assert_eq!(checker.snapshot(&stays), Some(before));
    assert_eq!(checker.snapshot(&goes), None);
    assert_eq!(checker.state(&comes), Some(State::Unknown));
    sleep(Duration::from_secs(1)).await;

    assert_eq!(starts.of(&goes).len(), probes_of_gone);
    let gaps = &starts.gaps_ms(&stays)[1..];
    assert!(gaps.iter().all(|gap| (99..=101).contains(gap)), "{gaps:?}");
    let mut news = Vec::new();
    while let Ok(event) = events.try_recv() {
        news.push((event.target.address().port(), event.transition.to));
    }
    news.sort_by_key(|(port, _)| *port);
    assert_eq!(news, vec![(1, State::Up), (2, State::Up), (3, State::Up)]);
}

#[tokio::test(start_paused = true)]
async fn one_probe_serves_all_who_share_a_target() {
    let starts = Starts::default();
    let (mut checker, _events) = starts.checker(Duration::ZERO);
    let own_port = check(100, 100);
    let other_port = Check {
        port: Some(1),
        ..own_port.clone()
    };
    let shared = numbered(1, &own_port);
    assert_eq!(shared, numbered(2, &other_port));
    checker.set_targets(&unknown([shared.clone(), numbered(2, &other_port)]));
    sleep(Duration::from_millis(1_050)).await;
    let probes = starts.of(&shared).len();
    assert!((10..=12).contains(&probes), "{probes} probes");
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_check_changes_keeps_its_state() {
    let starts = Starts::default();
    let (mut checker, mut events) = starts.checker(Duration::ZERO);
    let (old, new) = (numbered(1, &check(100, 100)), numbered(1, &check(200, 100)));
    checker.set_targets(&unknown([old]));
    sleep(Duration::from_millis(50)).await;
    assert!(events.try_recv().is_ok());
    checker.set_targets(&unknown([new.clone()]));
    assert_eq!(checker.state(&new), Some(State::Up));
    sleep(Duration::from_secs(2)).await;
    assert!(events.try_recv().is_err());
    let gaps = starts.gaps_ms(&new);
    assert!(gaps.iter().all(|gap| (199..=201).contains(gap)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn probes_in_flight_are_bounded() {
    let (events, _received) = channel(1);
    let in_flight = Arc::new(Mutex::new(0_usize));
    let seen = Arc::clone(&in_flight);
    let mut checker = Checker::with_probe(events, 700, move |_target| {
        *lock(&seen) += 1;
        Box::pin(future::pending())
    });
    let check = check(1_000, 1_000);
    let targets = (1..=1_000).map(|number| numbered(number, &check));
    checker.set_targets(&unknown(targets));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(*lock(&in_flight), 700);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_checker_ends_its_probes() {
    let starts = Starts::default();
    let (mut checker, _events) = starts.checker(Duration::ZERO);
    let target = numbered(1, &check(100, 100));
    checker.set_targets(&unknown([target.clone()]));
    sleep(Duration::from_millis(500)).await;
    drop(checker);
    let probes = starts.of(&target).len();
    advance(Duration::from_secs(1)).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(starts.of(&target).len(), probes);
}

/// A checker with real probes of one target.
fn real(target: &Target, known: Option<Verdict>) -> (Checker, Receiver<HealthEvent>) {
    let (events, received) = channel(16);
    let mut checker = Checker::new(events, MAX_PROBES_IN_FLIGHT);
    checker.set_targets(&HashMap::from([(target.clone(), known)]));
    (checker, received)
}

async fn next(events: &mut Receiver<HealthEvent>) -> (State, Code) {
    let event = timeout(Duration::from_secs(10), events.recv());
    let event = event.await.expect("an event in time").expect("an event");
    (event.transition.to, event.transition.code)
}

/// What failover may take beyond `interval * fall + timeout` on a machine that is busy with tests.
const SLACK: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_backend_that_is_killed_is_down_in_time_and_recovers() {
    let (socket, address) = refusing();
    let listener = socket.listen(16).expect("listen");
    let target = Target::new(address, &check(50, 50));
    let (checker, mut events) = real(&target, None);
    assert_eq!(next(&mut events).await, (State::Up, Code::L4Ok));
    let snapshot = checker.snapshot(&target).expect("it is watched");
    assert!(snapshot.latency.is_some());

    drop(listener);
    let fault = Instant::now();
    assert_eq!(next(&mut events).await, (State::Down, Code::L4Con));
    assert!(
        fault.elapsed() <= Duration::from_millis(150) + SLACK,
        "{:?}",
        fault.elapsed()
    );

    let socket = TcpSocket::new_v4().expect("make a socket");
    socket.set_reuseaddr(true).expect("reuse the address");
    socket.bind(address).expect("bind again");
    let _listener = socket.listen(16).expect("listen");
    assert_eq!(next(&mut events).await, (State::Up, Code::L4Ok));
}

#[tokio::test]
async fn a_backend_that_falls_silent_is_down_in_time_and_recovers() {
    let full = FullListener::start().await;
    let target = Target::new(full.address(), &check(50, 50));
    let begin = Instant::now();
    let (_checker, mut events) = real(&target, Some(Verdict::Up));
    assert_eq!(next(&mut events).await, (State::Down, Code::L4Tout));
    assert!(
        begin.elapsed() <= Duration::from_millis(150) + SLACK,
        "{:?}",
        begin.elapsed()
    );
    tokio::select! {
        () = full.recover() => {}
        news = next(&mut events) => assert_eq!(news, (State::Up, Code::L4Ok)),
    }
}

#[tokio::test]
async fn an_adopted_backend_that_is_as_it_was_makes_no_news() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bind on loopback");
    let address = listener.local_addr().expect("address of a bound socket");
    let target = Target::new(address, &check(20, 1_000));
    let (checker, mut events) = real(&target, Some(Verdict::Up));
    let snapshot = checker.snapshot(&target).expect("it is watched");
    assert_eq!((snapshot.state, snapshot.code), (State::Up, Code::Unk));
    while checker.snapshot(&target).is_none_or(|now| now.rise < 3) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(events.try_recv().is_err());
}
