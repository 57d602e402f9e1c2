use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use super::*;

/// A server that answers one call with bytes of the test's choice, and hands out what it was asked.
struct Server {
    directory: TempDir,
    asked: JoinHandle<String>,
}

impl Server {
    fn start(answer: String) -> Self {
        let directory = TempDir::new().expect("make a directory");
        let listener = UnixListener::bind(directory.path().join("sock")).expect("bind");
        let asked = tokio::spawn(async move {
            let (mut stream, _peer) = listener.accept().await.expect("accept the call");
            let request = read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.expect("answer");
            request
        });
        Self { directory, asked }
    }

    fn client(&self) -> Client {
        Client::new(self.directory.path().join("sock"))
    }

    async fn asked(self) -> String {
        self.asked.await.expect("the server saw a request")
    }
}

async fn read_request(stream: &mut UnixStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                return String::from_utf8(request).expect("UTF-8");
            }
        }
        let read = stream.read_buf(&mut request).await.expect("read");
        assert_ne!(read, 0, "the client hung up: {text}");
    }
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn request_line(request: &str) -> &str {
    request.lines().next().expect("a request has a line")
}

fn changed() -> String {
    http("200 OK", r#"{"done":["drained"],"warnings":["slow"]}"#)
}

#[tokio::test]
async fn lists_are_asked_for_and_decoded() {
    let backend = json!([{
        "pool": "web", "endpoint": "[2001:db8::1]:80", "weight": 3, "state": "draining",
        "number": 7, "slots": 100, "leaving_slots": 5, "next_hop": null, "origin": "file",
        "counters": {"packets": 1, "bytes": 2, "connections": 3, "reply_packets": 4,
                     "reply_bytes": 5},
    }]);
    let server = Server::start(http("200 OK", &backend.to_string()));
    let backends = server.client().backends().await.expect("an answer");
    assert_eq!(backends[0].weight, 3);
    assert_eq!(backends[0].counters.reply_bytes, 5);
    let request = server.asked().await;
    assert_eq!(request_line(&request), "GET /v1/backends HTTP/1.1");
    assert!(
        request.to_ascii_lowercase().contains("\r\nhost: xlb\r\n"),
        "{request}"
    );

    let server = Server::start(http("200 OK", "[]"));
    assert!(server.client().services().await.expect("answer").is_empty());
    let request = server.asked().await;
    assert_eq!(request_line(&request), "GET /v1/services HTTP/1.1");
}

#[tokio::test]
async fn the_status_is_asked_for_and_decoded() {
    let status = json!({
        "version": "0.1.0", "pid": 42, "uptime_s": 1, "config": "/etc/xlb/xlb.toml",
        "config_revision": 1, "last_reload_error": null, "health": "panic",
        "program": {"id": 1, "features": [], "translated_bytes": 1, "jited_bytes": 1,
                    "verified_instructions": 1},
        "interfaces": [], "pools": [], "services": [], "changes": [], "maps": [],
        "reasons": [],
    });
    let server = Server::start(http("200 OK", &status.to_string()));
    assert_eq!(server.client().status().await.expect("an answer").pid, 42);
    let request = server.asked().await;
    assert_eq!(request_line(&request), "GET /v1/status HTTP/1.1");
}

#[tokio::test]
async fn the_service_of_a_health_request_is_encoded() {
    for (service, path) in [
        (None, "/v1/health"),
        (Some("web-1"), "/v1/health?service=web-1"),
        (Some("a b&c=ü"), "/v1/health?service=a%20b%26c%3D%C3%BC"),
    ] {
        let server = Server::start(http("200 OK", "[]"));
        server.client().health(service).await.expect("an answer");
        let request = server.asked().await;
        assert_eq!(request_line(&request), format!("GET {path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn a_change_is_sent_as_json() {
    let change = Change::BackendWeight {
        pool: "web".to_owned(),
        endpoint: "10.0.1.7:8080".parse().expect("an endpoint"),
        weight: 5,
    };
    let server = Server::start(changed());
    let answer = server.client().change(&change).await.expect("an answer");
    assert_eq!(answer.done, ["drained"]);
    assert_eq!(answer.warnings, ["slow"]);
    let request = server.asked().await;
    assert_eq!(request_line(&request), "POST /v1/changes HTTP/1.1");
    assert!(
        request
            .to_ascii_lowercase()
            .contains("\r\ncontent-type: application/json\r\n"),
        "{request}"
    );
    let (_head, body) = request.split_once("\r\n\r\n").expect("a body");
    let sent: Change = serde_json::from_str(body).expect("a change");
    assert_eq!(sent, change);
}

#[tokio::test]
async fn a_reload_is_a_post_without_a_body() {
    let server = Server::start(changed());
    server.client().reload().await.expect("an answer");
    let request = server.asked().await;
    assert_eq!(request_line(&request), "POST /v1/reload HTTP/1.1");
    assert!(request.ends_with("\r\n\r\n"), "{request}");
}

#[tokio::test]
async fn an_error_of_the_agent_comes_with_its_text_and_status() {
    let text = "pool `webb` does not exist; did you mean `web`?";
    let body = json!({ "error": text }).to_string();
    let server = Server::start(http("404 Not Found", &body));
    let error = server.client().reload().await.expect_err("an error");
    assert_eq!(error.to_string(), text);
    assert!(
        matches!(error, ClientError::Api { status: 404, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn answers_that_no_agent_gives_are_bad() {
    for (answer, expected) in [
        (http("200 OK", "hello"), 200),
        (http("502 Bad Gateway", "<html>"), 502),
        (http("302 Found", "{}"), 302),
    ] {
        let server = Server::start(answer);
        let error = server.client().status().await.expect_err("an error");
        assert!(
            matches!(error, ClientError::BadAnswer { status, .. } if status == expected),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_call_that_is_broken_off_says_so() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"done\"",
    ] {
        let server = Server::start(answer.to_owned());
        let error = server.client().reload().await.expect_err("an error");
        assert!(matches!(error, ClientError::Broken(_)), "{error:?}");
    }
}

#[tokio::test]
async fn without_a_listener_the_agent_is_down() {
    let directory = TempDir::new().expect("make a directory");
    let path = directory.path().join("sock");
    for leftover in [false, true] {
        if leftover {
            drop(UnixListener::bind(&path).expect("bind"));
        }
        let error = Client::new(&path).status().await.expect_err("no agent");
        assert!(matches!(error, ClientError::AgentDown { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().expect("UTF-8")), "{text}");
        assert!(text.contains("xlb-agent run"), "{text}");
    }
}

#[test]
fn a_forbidden_socket_is_told_from_one_without_an_agent() {
    // Root may use every socket, so the kernel's answer is what is tested here.
    let denied = std::io::Error::from_raw_os_error(libc::EACCES);
    let error = ClientError::connecting(Path::new("/run/xlb/agent.sock"), denied);
    assert!(
        matches!(error, ClientError::PermissionDenied { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_path_that_can_be_no_socket_is_neither() {
    let path = PathBuf::from("/").join("x".repeat(200));
    let error = Client::new(path).status().await.expect_err("too long");
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn an_agent_that_hangs_is_given_up() {
    let directory = TempDir::new().expect("make a directory");
    let path = directory.path().join("sock");
    let _listener = UnixListener::bind(&path).expect("bind");
    let timeout = Duration::from_millis(50);
    let client = Client::new(&path).with_timeout(timeout);
    let error = client.status().await.expect_err("no answer");
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
}
