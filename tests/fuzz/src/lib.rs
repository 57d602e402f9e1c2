//! What is held to be true of any input of each parser. A panic is what the fuzzer looks for.

use std::{io::Cursor, net::IpAddr};

use axum::{
    body::Body,
    extract::connect_info::MockConnectInfo,
    http::{Method, Request},
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::NetlinkMessage;
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use xlb_agent::{
    daemon::api::{Caller, Command, router},
    engine::goal,
    explain,
    netlink::{Tables, decode, resolve, wanted},
    replay::{capture::Capture, carried::Carried},
};
use xlb_control::{
    api::Change,
    config::{
        Config, Decapsulation, check_invariants,
        overrides::{Touched, apply, record, record_on},
    },
};

/// A configuration that is taken is sound, and one that is not is refused in words, at a place.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match Config::parse("xlb.toml", text) {
        Ok(loaded) => {
            assert_eq!(check_invariants(&loaded.config), Vec::<String>::new());
            let _ = goal::features(&loaded.config);
        }
        Err(complaints) => assert!(complaints.render(false).contains("error: ")),
    }
    if let Err(complaints) = Decapsulation::parse("backend.toml", text) {
        assert!(complaints.render(false).contains("error: "));
    }
}

/// A capture ends, and each of its frames can be told of.
pub fn capture(input: &[u8]) {
    let source = Box::new(Cursor::new(input.to_vec()));
    let Ok(mut capture) = Capture::read("in.pcap".to_owned(), source) else {
        return;
    };
    while let Ok(Some(frame)) = capture.next_frame() {
        frame_of(&frame.bytes);
    }
}

fn frame_of(bytes: &[u8]) {
    if let Some(carried) = Carried::of_frame(bytes) {
        assert!(carried.to_string().contains(" > "));
        if let Some(flow) = carried.flow() {
            // Both addresses are of one packet.
            assert!(explain::flow_of(&flow).is_ok());
        }
    }
}

/// Whatever the kernel says of its tables, questions of them have answers.
pub fn netlink(mut input: &[u8]) {
    let mut tables = Tables::default();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(input) {
        let length = message.header.length as usize;
        let flags = message.header.flags;
        if let rtnetlink::packet_core::NetlinkPayload::InnerMessage(inner) = message.payload
            && let Some(change) = decode::change(&inner, flags)
        {
            tables.apply(change);
        }
        match input.get(length.next_multiple_of(4)..) {
            Some(rest) if length > 0 => input = rest,
            _ => break,
        }
    }
    let allowed = (1..8).collect();
    for address in ["10.0.1.7", "203.0.113.9", "2001:db8::7", "fe80::1"] {
        let Ok(address) = address.parse::<IpAddr>() else {
            continue;
        };
        let _ = resolve(&tables, address, &allowed);
        let _ = wanted(&tables, address, &allowed);
    }
    let _ = xlb_agent::netlink::client_routes(&tables, &allowed, 64);
}

/// The file that the control API's changes are on top of.
const FILE: &str = r#"
[dataplane]
interfaces = ["eth0"]
[[pool]]
name = "web"
backends = [{ address = "10.0.1.1", port = 80 }, { address = "10.0.1.2", port = 80, weight = 5 }]
[[service]]
name = "front"
vip = "192.0.2.10"
port = 443
forward = "dnat"
pool = "web"
[[service]]
name = "dns"
vip = "192.0.2.10"
port = 53
protocol = "udp"
forward = "dnat"
backends = [{ address = "10.0.2.1", port = 53 }]
"#;

/// Requests, one a line: method, path and body, as they come in over the socket. Each has an answer, and
/// the configuration stays sound whatever is changed.
pub fn api(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else {
        return;
    };
    runtime.block_on(async {
        let (sender, commands) = mpsc::channel(8);
        let agent = tokio::spawn(answer(commands));
        let router = router(sender).layer(MockConnectInfo(Caller { uid: Some(0) }));
        for line in text.lines().take(16) {
            let mut words = line.splitn(3, ' ');
            let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let request = Request::builder()
                .method(Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST))
                .uri(path)
                .header("content-type", "application/json")
                .body(Body::from(words.next().unwrap_or("").to_owned()));
            if let Ok(request) = request {
                // The router never fails: what is wrong with a request is the answer's status.
                let _ = router.clone().oneshot(request).await;
            }
        }
        drop(router);
        if let Err(error) = agent.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    });
}

/// Takes changes as the agent does, and answers nothing else.
async fn answer(mut commands: mpsc::Receiver<Command>) {
    let Ok(loaded) = Config::parse("xlb.toml", FILE) else {
        return;
    };
    let file = loaded.config;
    let mut changes: Vec<Change> = Vec::new();
    let mut merged = apply(&file, &changes);
    while let Some(command) = commands.recv().await {
        match command {
            Command::Change(change, _, reply) => {
                let before = changes.clone();
                let expected = record(&mut before.clone(), change.clone(), &file);
                let done = record_on(&mut changes, change, &file, &mut merged);
                match &done {
                    Ok((_, Touched::Services)) => merged = apply(&file, &changes),
                    Ok((_, Touched::Pool { .. })) => {}
                    Err(_) => assert_eq!(changes, before),
                }
                assert_eq!(merged, apply(&file, &changes));
                assert_eq!(check_invariants(&merged.config), Vec::<String>::new());
                assert_eq!(merged.stale, Vec::new());
                let done = done.map(|(changed, _)| changed);
                assert_eq!(done, expected);
                drop(reply.send(done));
            }
            Command::Diff(request, reply) => {
                let refused = request
                    .config
                    .map(|config| Config::parse(&config.name, &config.text));
                drop(reply.send(Err(format!("{:?}", refused.is_some()))));
            }
            Command::Explain(packet, reply) => {
                let key = explain::flow_of(&packet);
                drop(reply.send(Err(format!("{:?}", key.is_ok()))));
            }
            Command::Status(_)
            | Command::Metrics(_)
            | Command::Services(_)
            | Command::Backends(_)
            | Command::Health(..)
            | Command::Nat(..)
            | Command::Reload(..) => {}
        }
    }
}
