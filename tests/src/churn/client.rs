//! Connections that stay open and exchange numbered messages, compared byte for byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::lab::NetNs;

/// Time from one message of a connection to the next.
const EVERY: Duration = Duration::from_millis(300);
/// How often connections are looked at.
const TICK: Duration = Duration::from_millis(15);
/// Time after which a connection without an answer is broken.
const SILENCE: Duration = Duration::from_secs(6);
/// Bytes of a message.
const MESSAGE_BYTES: usize = 32;
/// Threads that open connections.
const OPENERS: usize = 4;

/// A connection and what became of it.
pub(super) struct Connection {
    stream: TcpStream,
    id: u32,
    sequence: u32,
    /// When the message was sent whose answer is missing.
    sent: Option<Instant>,
    next: Instant,
    answer: Vec<u8>,
    /// The client's end.
    pub(super) local: SocketAddr,
    /// Number of the backend that answers; 0 before the first answer.
    pub(super) backend: u8,
    /// When it last exchanged a message.
    pub(super) last: Option<Instant>,
    /// When it first did after [`Client::mark`].
    pub(super) first_after: Option<Instant>,
    /// How it broke.
    pub(super) broken: Option<String>,
    /// Whether it began while slots moved.
    pub(super) late: bool,
}

/// Connections at work; they end when this is dropped.
pub(super) struct Client {
    ns: NetNs,
    connections: Arc<Mutex<Vec<Connection>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    pub(super) fn start(ns: &NetNs) -> Self {
        let connections = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (for_thread, stopped) = (Arc::clone(&connections), Arc::clone(&stop));
        let thread = ns.spawn("client", move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                for connection in lock(&for_thread).iter_mut() {
                    connection.step(now);
                }
                thread::sleep(TICK);
            }
        });
        Self {
            ns: ns.clone(),
            connections,
            stop,
            thread: Some(thread),
        }
    }

    /// Opens connections, and waits until each has exchanged a message.
    pub(super) fn open(&self, target: SocketAddr, count: usize, late: bool) {
        let first = self.lock().len();
        thread::scope(|scope| {
            for part in 0..OPENERS {
                scope.spawn(move || {
                    self.ns.run(|| {
                        for id in (part..count).step_by(OPENERS) {
                            let connection = Connection::open(target, (first + id) as u32, late);
                            self.lock().push(connection);
                        }
                    });
                });
            }
        });
        crate::lab::wait_until("every connection answers", Duration::from_secs(20), || {
            self.lock()
                .iter()
                .all(|it| it.last.is_some() || it.broken.is_some())
        });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        lock(&self.connections)
    }

    /// From now on exchanges count as after the change. Returns the connections that had none in
    /// the second before.
    pub(super) fn mark(&self) -> usize {
        let now = Instant::now();
        let mut connections = self.lock();
        for connection in connections.iter_mut() {
            connection.first_after = None;
        }
        let recent = |it: &&Connection| it.last.is_some_and(|last| now - last < EVERY * 3);
        connections.len() - connections.iter().filter(recent).count()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}

fn lock(connections: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    fn open(target: SocketAddr, id: u32, late: bool) -> Self {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(15))
            .unwrap_or_else(|error| panic!("open connection {id}: {error}"));
        stream.set_nodelay(true).expect("a setting");
        stream.set_nonblocking(true).expect("a setting");
        Self {
            local: stream.local_addr().expect("an address"),
            stream,
            id,
            sequence: 0,
            sent: None,
            next: Instant::now(),
            answer: Vec::new(),
            backend: 0,
            last: None,
            first_after: None,
            broken: None,
            late,
        }
    }

    fn step(&mut self, now: Instant) {
        if self.broken.is_some() {
            return;
        }
        if let Err(how) = self.exchange(now) {
            self.broken = Some(how);
        }
    }

    fn exchange(&mut self, now: Instant) -> Result<(), String> {
        let Some(sent) = self.sent else {
            if now >= self.next {
                let message = message(self.id, self.sequence);
                self.stream
                    .write_all(&message)
                    .map_err(|error| format!("send: {error}"))?;
                self.sent = Some(now);
                self.next = now + EVERY;
            }
            return Ok(());
        };
        let mut buffer = [0; 256];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("closed by the peer".into()),
            Ok(len) => self.answer.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if now - sent > SILENCE {
                    return Err("no answer".into());
                }
            }
            Err(error) => return Err(format!("receive: {error}")),
        }
        if self.answer.len() >= MESSAGE_BYTES {
            self.compare()?;
            self.sequence += 1;
            self.answer.clear();
            self.sent = None;
            self.last = Some(now);
            self.first_after.get_or_insert(now);
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<(), String> {
        let message = message(self.id, self.sequence);
        let backend = self.answer[0] ^ message[0];
        if self.backend == 0 {
            self.backend = backend;
        }
        let expected: Vec<u8> = message.iter().map(|byte| byte ^ self.backend).collect();
        if self.answer != expected {
            return Err(format!("message {} came back otherwise", self.sequence));
        }
        Ok(())
    }
}

/// A message: connection, number, and bytes that follow from both.
fn message(id: u32, sequence: u32) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[..4].copy_from_slice(&id.to_be_bytes());
    message[4..8].copy_from_slice(&sequence.to_be_bytes());
    let mut state = u64::from(id) << 32 | u64::from(sequence);
    for byte in &mut message[8..] {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    message
}
