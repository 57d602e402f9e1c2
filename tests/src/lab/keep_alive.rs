//! A client that sends many requests over a few connections that stay open.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{NetNs, http};

/// What to request.
#[derive(Clone, Copy, Debug)]
pub struct KeepAliveOptions {
    /// Where to.
    pub target: SocketAddr,
    /// Connections.
    pub connections: usize,
    /// Pause between an answer and the next request on the same connection.
    pub pause: Duration,
    /// Time after which a connection that is silent is taken as broken.
    pub timeout: Duration,
}

impl KeepAliveOptions {
    /// Requests on `connections` connections, with pauses of 10 ms and a timeout of 1 s.
    #[must_use]
    pub const fn new(target: SocketAddr, connections: usize) -> Self {
        Self {
            target,
            connections,
            pause: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
        }
    }
}

/// What became of a connection.
#[derive(Clone, Debug, Default)]
pub struct KeepAliveConnection {
    /// Backend that answered first; empty until then.
    pub backend: String,
    /// Answers.
    pub answers: u64,
    /// When and how it broke. A connection that broke is not opened again.
    pub broken: Option<(Instant, String)>,
}

/// Connections at work; they end when this is dropped.
pub struct KeepAlive {
    stop: Arc<AtomicBool>,
    connections: Vec<Arc<Mutex<KeepAliveConnection>>>,
    threads: Vec<JoinHandle<()>>,
}

impl KeepAlive {
    /// Opens the connections in `ns`.
    #[must_use]
    pub fn start(ns: &NetNs, options: KeepAliveOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let connections: Vec<_> = (0..options.connections).map(|_| Arc::default()).collect();
        let threads = connections
            .iter()
            .map(|connection| {
                let (stop, connection) = (Arc::clone(&stop), Arc::clone(connection));
                ns.spawn("keep-alive", move || {
                    if let Err(error) = talk(&options, &stop, &connection) {
                        lock(&connection).broken = Some((Instant::now(), error.to_string()));
                    }
                })
            })
            .collect();
        Self {
            stop,
            connections,
            threads,
        }
    }

    /// What has become of the connections so far.
    #[must_use]
    pub fn snapshot(&self) -> Vec<KeepAliveConnection> {
        self.connections
            .iter()
            .map(|connection| lock(connection).clone())
            .collect()
    }

    /// Ends the connections, and says what became of them.
    #[must_use]
    pub fn stop(mut self) -> Vec<KeepAliveConnection> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("the client does not panic");
        }
        self.snapshot()
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(connection: &Mutex<KeepAliveConnection>) -> std::sync::MutexGuard<'_, KeepAliveConnection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn talk(
    options: &KeepAliveOptions,
    stop: &AtomicBool,
    connection: &Mutex<KeepAliveConnection>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&options.target, options.timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(options.timeout))?;
    let request = http::request(&options.target.to_string(), true);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes())?;
        let backend = read_answer(&mut stream)?;
        let mut connection = lock(connection);
        if connection.answers == 0 {
            connection.backend.clone_from(&backend);
        } else if connection.backend != backend {
            let message = format!("{} began to answer for {}", backend, connection.backend);
            return Err(io::Error::other(message));
        }
        connection.answers += 1;
        drop(connection);
        std::thread::sleep(options.pause);
    }
    Ok(())
}

/// Reads one answer and returns the backend's name.
fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Err(io::Error::other("closed by the peer"));
        }
        received.extend_from_slice(&buffer[..len]);
        if let Some(answer) = http::parse_answer(&received) {
            return Ok(answer.backend);
        }
    }
}
