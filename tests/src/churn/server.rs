//! The server on a backend: it sends back what it gets, every byte changed by the backend's number.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::JoinHandle,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::NetNs;

/// How often the server looks whether it is told something, in milliseconds.
const LOOK_MS: u16 = 50;

/// A server; it ends when this is dropped.
pub(super) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The port that takes no connections; 0: none.
    closed: AtomicU16,
}

impl Server {
    /// Starts the server of backend `number` on these ports.
    pub(super) fn start(ns: &NetNs, number: u8, ports: Vec<u16>) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = ns.spawn("server", move || serve(number, &ports, &for_thread));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// From now on `port` refuses connections; those that are open go on. 0: no port does.
    pub(super) fn close(&self, port: u16) {
        self.shared.closed.store(port, Ordering::SeqCst);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic has been printed by then.
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("listen");
    listener.set_nonblocking(true).expect("a setting");
    listener
}

fn serve(number: u8, ports: &[u16], shared: &Shared) {
    let mut listeners: Vec<(u16, TcpListener)> =
        ports.iter().map(|&port| (port, listen(port))).collect();
    let mut streams: Vec<TcpStream> = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        let closed = shared.closed.load(Ordering::SeqCst);
        listeners.retain(|(port, _)| *port != closed);
        for &port in ports {
            if port != closed && listeners.iter().all(|(open, _)| *open != port) {
                listeners.push((port, listen(port)));
            }
        }
        let ready: Vec<bool> = {
            let sockets = listeners.iter().map(|(_, listener)| listener.as_fd());
            let mut sockets: Vec<PollFd<'_>> = sockets
                .chain(streams.iter().map(AsFd::as_fd))
                .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
                .collect();
            let _ = poll(&mut sockets, PollTimeout::from(LOOK_MS));
            sockets
                .iter()
                .map(|socket| socket.revents().is_some_and(|events| !events.is_empty()))
                .collect()
        };
        let (of_listeners, of_streams) = ready.split_at(listeners.len());
        let mut of_streams = of_streams.iter();
        streams
            .retain_mut(|stream| !of_streams.next().is_some_and(|&it| it) || echo(stream, number));
        for ((_, listener), _) in listeners.iter().zip(of_listeners).filter(|(_, it)| **it) {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok() {
                    streams.push(stream);
                }
            }
        }
    }
}

/// Answers what has come in. Returns whether the connection goes on.
fn echo(stream: &mut TcpStream, number: u8) -> bool {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(len) => {
            let answer: Vec<u8> = buffer[..len].iter().map(|byte| byte ^ number).collect();
            stream.write_all(&answer).is_ok()
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
