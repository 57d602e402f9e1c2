//! Servers on backends.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use super::{Host, Lab, NetNs, Process, serve, wait_until};

/// Which server a backend runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// The small server of [`super::serve`]: HTTP, and an echo of UDP datagrams.
    BuiltIn {
        /// Sockets for HTTP.
        http: Vec<SocketAddr>,
        /// Sockets for the echo.
        udp: Vec<SocketAddr>,
    },
    /// nginx, which answers every request with the backend's name, and with the client's address
    /// in the header field `X-Client`.
    Nginx {
        /// Sockets for HTTP.
        http: Vec<SocketAddr>,
    },
    /// The same with an answer that takes about two seconds.
    SlowNginx {
        /// Sockets for HTTP.
        http: Vec<SocketAddr>,
    },
    /// iperf3 on every address of the host. It has one client at a time.
    Iperf {
        /// Port.
        port: u16,
    },
}

/// A server on a host of the lab; it can be killed and started again.
pub struct Backend {
    name: String,
    ns: NetNs,
    kind: BackendKind,
    process: Option<Process>,
}

impl Backend {
    /// Starts a server in `ns` under `name`, and waits until it serves.
    #[track_caller]
    pub fn start(ns: &NetNs, name: &str, kind: BackendKind) -> Self {
        let mut backend = Self {
            name: name.to_owned(),
            ns: ns.clone(),
            kind,
            process: None,
        };
        backend.start_again();
        backend
    }

    /// Starts the small server on a host's own addresses, both families.
    #[track_caller]
    pub fn on_host(host: &Host, http_port: u16, udp_port: u16) -> Self {
        let sockets = |port| {
            [false, true]
                .map(|v6| SocketAddr::new(host.address(v6), port))
                .to_vec()
        };
        let kind = BackendKind::BuiltIn {
            http: sockets(http_port),
            udp: sockets(udp_port),
        };
        Self::start(&host.ns, host.name(), kind)
    }

    /// Its name, with which it answers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills the server with SIGKILL. From now on its host refuses connections.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// Starts the server after [`Backend::kill9`], and waits until it serves.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(match &self.kind {
            BackendKind::BuiltIn { http, udp } => start_built_in(&self.ns, &self.name, http, udp),
            BackendKind::Nginx { http } => start_nginx(&self.ns, &self.name, http, Pace::Fast),
            BackendKind::SlowNginx { http } => start_nginx(&self.ns, &self.name, http, Pace::Slow),
            BackendKind::Iperf { port } => start_iperf(&self.ns, &self.name, *port),
        });
    }
}

fn start_built_in(ns: &NetNs, name: &str, http: &[SocketAddr], udp: &[SocketAddr]) -> Process {
    let mut command = ns.command(helper_binary());
    command
        .args(["serve", "--name", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for address in http {
        command.arg("--http").arg(address.to_string());
    }
    for address in udp {
        command.arg("--udp").arg(address.to_string());
    }
    let mut process = Process::start(ns.lab(), name, command);
    let stdout = process
        .child_mut()
        .stdout
        .take()
        .expect("its output is a pipe");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("read from the server");
    assert_eq!(
        line.trim_end(),
        serve::READY,
        "the server {name} did not start"
    );
    process
}

/// How fast nginx answers.
#[derive(Clone, Copy)]
enum Pace {
    /// At once.
    Fast,
    /// At a rate at which the answer takes about two seconds.
    Slow,
}

fn start_nginx(ns: &NetNs, name: &str, http: &[SocketAddr], pace: Pace) -> Process {
    let lab = ns.lab();
    let log = lab.directory().join(format!("{name}-nginx.log"));
    let config = lab.write_file(
        &format!("{name}-nginx.conf"),
        &nginx_config(lab, name, http, pace),
    );
    let mut command = ns.command("nginx");
    command
        .arg("-c")
        .arg(config)
        .arg("-e")
        .arg(&log)
        .stdin(Stdio::null());
    let mut process = Process::start(lab, name, command);
    wait_until(
        &format!("nginx serves on {name}"),
        Duration::from_secs(5),
        || {
            assert!(
                process.is_running(),
                "nginx on {name} ended:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            http.iter()
                .all(|address| ns.run(|| std::net::TcpStream::connect(address)).is_ok())
        },
    );
    process
}

fn start_iperf(ns: &NetNs, name: &str, port: u16) -> Process {
    let lab = ns.lab();
    let log = lab.directory().join(format!("{name}-iperf.log"));
    let mut command = ns.command("iperf3");
    command
        .args(["--server", "--forceflush", "--port", &port.to_string()])
        .arg("--logfile")
        .arg(&log)
        .stdin(Stdio::null());
    let mut process = Process::start(lab, name, command);
    // To connect would be to be its client.
    let what = format!("iperf3 listens on {name}");
    wait_until(&what, Duration::from_secs(5), || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(process.is_running(), "iperf3 on {name} ended:\n{log}");
        log.contains("listening")
    });
    process
}

/// One process: workers would outlive a master that is killed.
fn nginx_config(lab: &Lab, name: &str, http: &[SocketAddr], pace: Pace) -> String {
    let directory = lab.directory().join(format!("{name}-nginx"));
    std::fs::create_dir_all(&directory).expect("make nginx's directory");
    let directory = directory.display();
    let listen: String = http
        .iter()
        .map(|address| format!("listen {address};\n"))
        .collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {directory}/{kind};\n"))
        .concat();
    // nginx sends what a second has room for, and then as much in each second.
    let (limit, body) = match pace {
        Pace::Fast => ("", format!("{name}\\n")),
        Pace::Slow => ("limit_rate 500; ", "x".repeat(1400)),
    };
    format!(
        "user root;\ndaemon off;\nmaster_process off;\npid {directory}/pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000;\n{temporary}\
         server {{\n{listen}location / {{ add_header X-Backend {name}; \
         add_header X-Client $remote_addr; {limit}return 200 \"{body}\"; \
         }}\n}}\n}}\n"
    )
}

/// The binary whose `serve` command is the small server: `demo`, which cargo puts next to this
/// one, or, if this is a test, one directory up.
fn helper_binary() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its program");
    let found = this
        .ancestors()
        .skip(1)
        .take(2)
        .map(|path| path.join("demo"));
    found
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "no `demo` next to {}: cargo build -p xlb-tests --bin demo",
                this.display()
            )
        })
}
