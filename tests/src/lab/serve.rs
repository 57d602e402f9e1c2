//! The small server that runs on backends: HTTP/1.1 that answers with the backend's name, and an
//! echo of UDP datagrams.
//!
//! It is a process of its own, so that it can be killed like a server: [`main`] is what the `demo`
//! binary runs as `demo serve`.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use super::http;

/// What [`main`] prints when every socket is open.
pub(super) const READY: &str = "ready";

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// Name of the backend.
    #[arg(long)]
    pub name: String,
    /// Address and port to answer HTTP on.
    #[arg(long)]
    pub http: Vec<SocketAddr>,
    /// Address and port to echo UDP datagrams on.
    #[arg(long)]
    pub udp: Vec<SocketAddr>,
}

/// Serves until the process is killed.
///
/// # Errors
///
/// When a socket cannot be opened.
pub fn main(options: &ServeOptions) -> io::Result<()> {
    for address in &options.udp {
        let socket = UdpSocket::bind(address)?;
        receive_buffer(&socket);
        thread::spawn(move || echo(&socket));
    }
    for address in &options.http {
        let listener = TcpListener::bind(address)?;
        let name = options.name.clone();
        thread::spawn(move || accept(&listener, &name));
    }
    println!("{READY}");
    loop {
        thread::park();
    }
}

/// Makes room for what arrives while a busy machine runs something else.
pub(super) fn receive_buffer(socket: &UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    const BYTES: usize = 8 << 20;
    setsockopt(socket, RcvBufForce, &BYTES).expect("root may enlarge a receive buffer");
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 65_536];
    loop {
        // An error is an ICMP message about an earlier answer: its client is gone.
        if let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], peer);
        }
    }
}

fn accept(listener: &TcpListener, name: &str) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        // A client that goes away in the middle of a request is nothing that a server can help.
        thread::spawn(move || drop(answer(stream, &name)));
    }
}

/// Answers the requests of one connection.
fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    const LONGEST_HEAD: usize = 16_384;
    stream.set_nodelay(true)?;
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let Some((head, head_len)) = http::parse_head(&pending) else {
            let len = stream.read(&mut buffer)?;
            if len == 0 || pending.len() > LONGEST_HEAD {
                return Ok(());
            }
            pending.extend_from_slice(&buffer[..len]);
            continue;
        };
        let close = http::field(head, "Connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let body = body(head, name);
        pending.drain(..head_len);
        let mut message = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{}: {name}\r\nContent-Length: {}\r\n\
             Connection: {}\r\n\r\n",
            http::BACKEND_FIELD,
            body.len(),
            if close { "close" } else { "keep-alive" },
        )
        .into_bytes();
        message.extend_from_slice(&body);
        stream.write_all(&message)?;
        if close {
            return Ok(());
        }
    }
}

/// The backend's name; or, for `/bytes/N`, as many bytes.
fn body(head: &str, name: &str) -> Vec<u8> {
    const MOST_BYTES: usize = 64 << 20;
    let path = head.split(' ').nth(1).unwrap_or("/");
    match path
        .strip_prefix("/bytes/")
        .and_then(|number| number.parse::<usize>().ok())
    {
        Some(len) => vec![b'x'; len.min(MOST_BYTES)],
        None => format!("{name}\n").into_bytes(),
    }
}
