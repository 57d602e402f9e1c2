//! A client that sends numbered UDP datagrams at a rate, and counts what comes back.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{NetNs, serve};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct DatagramOptions {
    /// Where an echo is.
    pub target: SocketAddr,
    /// Datagrams per second.
    pub rate_per_s: u32,
    /// Sockets, hence flows, that take turns.
    pub flows: u16,
    /// How long to wait for answers after the last datagram.
    pub linger: Duration,
}

impl DatagramOptions {
    /// 2,000 datagrams per second in 16 flows, and a wait of 500 ms at the end.
    #[must_use]
    pub const fn new(target: SocketAddr) -> Self {
        Self {
            target,
            rate_per_s: 2_000,
            flows: 16,
            linger: Duration::from_millis(500),
        }
    }
}

/// What became of the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams whose echo did not come, each counted once.
    pub lost: u64,
    /// Echoes beyond the first.
    pub repeated: u64,
}

/// A client at work; it ends when this is dropped.
pub struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<DatagramReport>>,
}

impl Datagrams {
    /// Starts a client in `ns`.
    #[must_use]
    pub fn start(ns: &NetNs, options: DatagramOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&stop);
        let thread = ns.spawn("datagrams", move || run(&options, &for_thread));
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Sends no more, waits for answers that are on their way, and says what became of all.
    #[must_use]
    pub fn stop(mut self) -> DatagramReport {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only this takes it");
        thread.join().expect("the client does not panic")
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(options: &DatagramOptions, stop: &AtomicBool) -> DatagramReport {
    let sockets: Vec<UdpSocket> = (0..options.flows).map(|_| open(options.target)).collect();
    let mut answered: Vec<bool> = Vec::new();
    let mut repeated = 0;
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_secs_f64() * f64::from(options.rate_per_s);
        while (answered.len() as f64) < due {
            let number = answered.len();
            let socket = &sockets[number % sockets.len()];
            // A datagram that cannot be sent is one that is lost: it has its number all the same.
            let _ = socket.send(&(number as u64).to_be_bytes());
            answered.push(false);
        }
        repeated += collect(&sockets, &mut answered);
        thread::sleep(Duration::from_micros(500));
    }
    let end = Instant::now();
    while end.elapsed() < options.linger && answered.contains(&false) {
        repeated += collect(&sockets, &mut answered);
        thread::sleep(Duration::from_millis(1));
    }
    DatagramReport {
        sent: answered.len() as u64,
        lost: answered.iter().filter(|answered| !**answered).count() as u64,
        repeated,
    }
}

fn open(target: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if target.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    }
    .parse()
    .expect("a literal address");
    let socket = UdpSocket::bind(any).expect("open a UDP socket");
    serve::receive_buffer(&socket);
    socket
        .set_nonblocking(true)
        .expect("set a socket to non-blocking");
    socket.connect(target).expect("connect a UDP socket");
    socket
}

/// Notes the answers that have come in, and returns how many had come before.
fn collect(sockets: &[UdpSocket], answered: &mut [bool]) -> u64 {
    let mut repeated = 0;
    let mut buffer = [0; 8];
    for socket in sockets {
        loop {
            match socket.recv(&mut buffer) {
                Ok(8) => {
                    let number = usize::try_from(u64::from_be_bytes(buffer)).unwrap_or(usize::MAX);
                    if let Some(answered) = answered.get_mut(number) {
                        repeated += u64::from(*answered);
                        *answered = true;
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // A host said that a datagram could not be delivered; more may be waiting.
                Err(_) => {}
            }
        }
    }
    repeated
}
