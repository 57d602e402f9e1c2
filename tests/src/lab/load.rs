//! An open-loop client: requests start on schedule, each on a connection of its own, and a slow
//! one delays no other.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
    sys::time::TimeSpec,
};

use super::{NetNs, http};

/// What to request, and how often.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Where to.
    pub target: SocketAddr,
    /// Time from the start of one request to the start of the next.
    pub every: Duration,
    /// Time after which a request without a whole answer has failed.
    pub timeout: Duration,
}

impl LoadOptions {
    /// A request every 4 ms, which has failed after 200 ms.
    #[must_use]
    pub const fn new(target: SocketAddr) -> Self {
        Self {
            target,
            every: Duration::from_millis(4),
            timeout: Duration::from_millis(200),
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer of this backend.
    Answered(String),
    /// The connection was refused.
    Refused,
    /// The connection was reset, or closed before the answer was whole.
    Broken,
    /// There was no whole answer in time.
    TimedOut,
    /// The network said that it does not go there, or the answer was no answer.
    Other(String),
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Request {
    /// Just before the connection was opened.
    pub started: Instant,
    /// When the outcome was known.
    pub ended: Instant,
    /// How it ended.
    pub outcome: Outcome,
}

impl Request {
    /// Whether no answer came.
    #[must_use]
    pub const fn failed(&self) -> bool {
        !matches!(self.outcome, Outcome::Answered(_))
    }

    /// Name of the backend that answered.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        if let Outcome::Answered(backend) = &self.outcome {
            Some(backend)
        } else {
            None
        }
    }
}

/// A client that is at work; it ends when this is dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<Request>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// Starts a client in `ns`.
    #[must_use]
    pub fn start(ns: &NetNs, options: LoadOptions) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = ns.spawn("load", move || generate(&options, &for_thread));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How many requests have been answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Starts no more requests, waits for those that are on their way, and returns all in the order
    /// of their starts.
    #[must_use]
    pub fn stop(mut self) -> Vec<Request> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only this takes it");
        thread.join().expect("the load generator does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn generate(options: &LoadOptions, shared: &Shared) -> Vec<Request> {
    let mut log = Vec::new();
    let mut running: Vec<Exchange> = Vec::new();
    let mut next_start = Instant::now();
    loop {
        let stopping = shared.stop.load(Ordering::Relaxed);
        let now = Instant::now();
        if !stopping && now >= next_start {
            running.push(Exchange::start(options.target, now));
            // After a pause of the machine it goes on from here: no burst makes up for it.
            next_start = (next_start + options.every).max(now);
        }
        finish(&mut running, &mut log, options.timeout, shared);
        if stopping && running.is_empty() {
            log.sort_by_key(|request| request.started);
            return log;
        }
        let first_deadline = running
            .iter()
            .map(|exchange| exchange.started + options.timeout);
        let wake = first_deadline
            .chain((!stopping).then_some(next_start))
            .min();
        wait(&mut running, wake.expect("something runs, or will start"));
    }
}

/// Moves what has ended from `running` to `log`.
fn finish(running: &mut Vec<Exchange>, log: &mut Vec<Request>, timeout: Duration, shared: &Shared) {
    running.retain_mut(|exchange| {
        let outcome = exchange.advance();
        let now = Instant::now();
        // What came in late is late, also if this thread was late to look.
        let late = now - exchange.started >= timeout;
        let outcome = if late && !matches!(outcome, Some(Outcome::Refused | Outcome::Broken)) {
            Some(Outcome::TimedOut)
        } else {
            outcome
        };
        let Some(outcome) = outcome else { return true };
        if matches!(outcome, Outcome::Answered(_)) {
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        log.push(Request {
            started: exchange.started,
            ended: now,
            outcome,
        });
        false
    });
}

/// Waits until a socket is ready, or `wake`.
fn wait(running: &mut [Exchange], wake: Instant) {
    let mut ready: Vec<PollFd<'_>> = running
        .iter()
        .filter_map(|exchange| {
            let stream = exchange.stream.as_ref()?;
            let flags = if exchange.sent {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLOUT
            };
            Some(PollFd::new(stream.as_fd(), flags))
        })
        .collect();
    let pause = TimeSpec::from_duration(wake.saturating_duration_since(Instant::now()));
    match ppoll(&mut ready, Some(pause), None) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => panic!("wait for {} sockets: {error}", ready.len()),
    }
}

/// One request on its connection.
struct Exchange {
    started: Instant,
    /// `None` if there is none to wait for: `outcome` is known.
    stream: Option<TcpStream>,
    sent: bool,
    received: Vec<u8>,
    outcome: Option<Outcome>,
    target: SocketAddr,
}

impl Exchange {
    fn start(target: SocketAddr, now: Instant) -> Self {
        let (stream, outcome) = match open(target) {
            Ok(stream) => (Some(stream), None),
            Err(errno) => (None, Some(outcome_of(&errno.into()))),
        };
        Self {
            started: now,
            stream,
            sent: false,
            received: Vec::new(),
            outcome,
            target,
        }
    }

    /// Does what can be done without waiting. Returns the outcome, once there is one.
    fn advance(&mut self) -> Option<Outcome> {
        if self.outcome.is_none() {
            self.outcome = match self.step() {
                Ok(outcome) => outcome,
                Err(error) if is_for_later(&error) => None,
                Err(error) => Some(outcome_of(&error)),
            };
        }
        self.outcome.take()
    }

    fn step(&mut self) -> io::Result<Option<Outcome>> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        if !self.sent {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            // Until the connection is open, there is no peer.
            if let Err(error) = stream.peer_addr() {
                let connecting = error.kind() == ErrorKind::NotConnected;
                return if connecting { Ok(None) } else { Err(error) };
            }
            // So few bytes fit into an empty send buffer.
            stream.write_all(http::request(&self.target.to_string(), false).as_bytes())?;
            self.sent = true;
        }
        let mut buffer = [0; 4096];
        loop {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                return Ok(Some(Outcome::Broken));
            }
            self.received.extend_from_slice(&buffer[..len]);
            if let Some(answer) = http::parse_answer(&self.received) {
                return Ok(Some(if answer.status == 200 {
                    Outcome::Answered(answer.backend)
                } else {
                    Outcome::Other(format!("status {}", answer.status))
                }));
            }
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn outcome_of(error: &io::Error) -> Outcome {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
    let kind = error.kind();
    if kind == ConnectionRefused {
        Outcome::Refused
    } else if [BrokenPipe, ConnectionAborted, ConnectionReset].contains(&kind) {
        Outcome::Broken
    } else {
        Outcome::Other(error.to_string())
    }
}

/// Begins to open a connection.
fn open(target: SocketAddr) -> nix::Result<TcpStream> {
    let family = if target.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno),
    }
}
