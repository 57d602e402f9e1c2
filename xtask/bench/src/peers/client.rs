//! A client that keeps several connections busy on one thread, and does a given amount of work.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
    },
};

/// Connections that are open at the same time.
const CONNECTIONS: u64 = 16;
/// Milliseconds after which it is given up when nothing happens.
const PATIENCE_MS: u16 = 10_000;
/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Where the server is.
    pub(super) target: SocketAddr,
    /// What is asked for.
    pub(super) path: &'static str,
    /// Requests in all.
    pub(super) requests: u64,
    /// Whether connections stay open from one request to the next.
    pub(super) keep_alive: bool,
}

/// Does the work. Returns the bytes of all bodies.
pub(super) fn work(work: &Work) -> Result<u64> {
    let mut client = Client {
        work: *work,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("make an epoll")?,
        connections: HashMap::new(),
        started: 0,
        done: 0,
        body_bytes: 0,
        buffer: vec![0; BUFFER_BYTES],
    };
    for _ in 0..CONNECTIONS.min(work.requests) {
        client.open()?;
    }
    let mut events = [EpollEvent::empty(); CONNECTIONS as usize];
    while client.done < work.requests {
        let ready = match client
            .epoll
            .wait(&mut events, EpollTimeout::from(PATIENCE_MS))
        {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("wait for sockets"),
        };
        ensure!(
            ready > 0,
            "{} answered nothing for {PATIENCE_MS} ms after {} of {} requests",
            work.target,
            client.done,
            work.requests
        );
        for event in &events[..ready] {
            client.advance(event.data())?;
        }
    }
    Ok(client.body_bytes)
}

struct Client {
    work: Work,
    epoll: Epoll,
    /// By descriptor.
    connections: HashMap<u64, Connection>,
    started: u64,
    done: u64,
    body_bytes: u64,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    sent: bool,
    answer: Answer,
}

impl Client {
    fn open(&mut self) -> Result<()> {
        let stream = begin_to_connect(self.work.target)
            .with_context(|| format!("connect to {}", self.work.target))?;
        let id = stream.as_raw_fd().unsigned_abs().into();
        self.epoll
            .add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, id))
            .context("watch a socket")?;
        self.started += 1;
        let connection = Connection {
            stream,
            sent: false,
            answer: Answer::default(),
        };
        self.connections.insert(id, connection);
        Ok(())
    }

    fn advance(&mut self, id: u64) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        if !connection.sent {
            send(connection, &self.work)?;
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN, id);
            self.epoll
                .modify(&connection.stream, &mut event)
                .context("watch a socket")?;
            return Ok(());
        }
        loop {
            let length = match connection.stream.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read an answer"),
            };
            let complete = connection.answer.is_complete();
            if length == 0 {
                ensure!(complete, "a connection ended within an answer");
                self.connections.remove(&id);
                self.finish_one();
                if self.started < self.work.requests {
                    self.open()?;
                }
                return Ok(());
            }
            ensure!(!complete, "more came than was asked for");
            self.body_bytes += connection.answer.take(&self.buffer[..length])?;
            if connection.answer.is_complete() && self.work.keep_alive {
                self.done += 1;
                if self.started >= self.work.requests {
                    self.connections.remove(&id);
                    return Ok(());
                }
                self.started += 1;
                connection.answer = Answer::default();
                send(connection, &self.work)?;
            }
        }
    }

    const fn finish_one(&mut self) {
        if !self.work.keep_alive {
            self.done += 1;
        }
    }
}

fn send(connection: &mut Connection, work: &Work) -> Result<()> {
    if let Some(error) = connection.stream.take_error()? {
        return Err(error).with_context(|| format!("connect to {}", work.target));
    }
    let close = if work.keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    };
    let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", work.path);
    // So few bytes fit into an empty send buffer.
    connection
        .stream
        .write_all(request.as_bytes())
        .context("send a request")?;
    connection.sent = true;
    Ok(())
}

fn begin_to_connect(target: SocketAddr) -> io::Result<TcpStream> {
    let family = if target.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// How much of an answer has come.
#[derive(Debug, Default)]
struct Answer {
    head: Vec<u8>,
    body_left: Option<u64>,
}

impl Answer {
    const fn is_complete(&self) -> bool {
        matches!(self.body_left, Some(0))
    }

    /// Takes in what has come; gives how much of it belongs to the body.
    fn take(&mut self, bytes: &[u8]) -> Result<u64> {
        let body = match self.body_left {
            Some(_) => bytes.len() as u64,
            None => self.take_head(bytes)?,
        };
        if let Some(left) = &mut self.body_left {
            *left = left
                .checked_sub(body)
                .context("more came than the answer's length")?;
        }
        Ok(body)
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<u64> {
        const END: &[u8] = b"\r\n\r\n";
        const LONGEST: usize = 4_096;
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(END.len()).position(|part| part == END) else {
            ensure!(
                self.head.len() < LONGEST,
                "an answer without an end of its head"
            );
            return Ok(0);
        };
        let head = std::str::from_utf8(&self.head[..end]).context("read an answer's head")?;
        ensure!(
            head.starts_with("HTTP/1.1 200 "),
            "the answer is {}",
            head.lines().next().unwrap_or_default()
        );
        let Some(length) = content_length(head) else {
            bail!("an answer without a length");
        };
        self.body_left = Some(length);
        Ok((self.head.len() - end - END.len()) as u64)
    }
}

fn content_length(head: &str) -> Option<u64> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn an_answer_is_complete_wherever_it_is_cut() {
        for cut in 1..ANSWER.len() {
            let (head, tail) = ANSWER.as_bytes().split_at(cut);
            let mut answer = Answer::default();
            let mut body = answer.take(head).expect("it is right");
            assert!(!answer.is_complete(), "{cut}");
            body += answer.take(tail).expect("it is right");
            assert!(answer.is_complete(), "{cut}");
            assert_eq!(body, 5, "{cut}");
        }
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for wrong in [
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
        ] {
            assert!(Answer::default().take(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    /// Answers one request on each connection, or all.
    fn serve(all: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut buffer = [0; 1_024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer) {
                        assert!(buffer[..length].ends_with(b"\r\n\r\n"));
                        stream.write_all(ANSWER.as_bytes()).expect("an answer");
                        if !all {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[test]
    fn all_the_work_is_done() {
        let closing = Work {
            target: serve(false),
            path: "/",
            requests: 40,
            keep_alive: false,
        };
        assert_eq!(work(&closing).expect("it is served"), 40 * 5);
        let kept = Work {
            target: serve(true),
            requests: 80,
            keep_alive: true,
            ..closing
        };
        assert_eq!(work(&kept).expect("it is served"), 80 * 5);
    }
}
