//! UDP with and without tracking.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use xlb_tests::lab::{Topology, wait_until};

use crate::stage::{PORT, Stage};

const FLOWS: usize = 48;

/// Sockets that each backend answers with its number; the threads end with the test's process.
fn serve(topology: &Topology) {
    for (number, host) in (1u8..).zip(&topology.backends) {
        let address = SocketAddr::new(host.v4.into(), PORT);
        let socket = host.ns.run(|| UdpSocket::bind(address)).expect("a socket");
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&[number], from);
            }
        });
    }
}

/// Flows of a client.
struct Flows(Vec<UdpSocket>);

impl Flows {
    fn open(stage: &Stage) -> Self {
        let target = stage.target();
        let open = || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            let timeout = Some(Duration::from_millis(500));
            socket.set_read_timeout(timeout).expect("a timeout");
            socket.connect(target).expect("connect");
            socket
        };
        let client = &stage.topology.client.ns;
        Self(client.run(|| (0..FLOWS).map(|_| open()).collect()))
    }

    /// The backend that answers each flow.
    fn ask(&self) -> Vec<u8> {
        self.0
            .iter()
            .map(|socket| {
                let mut buffer = [0; 16];
                // Datagrams may be lost where a host is still looking for a neighbour.
                for _ in 0..10 {
                    socket.send(b"?").expect("send");
                    if socket.recv(&mut buffer).is_ok() {
                        return buffer[0];
                    }
                }
                panic!("no answer in ten tries");
            })
            .collect()
    }
}

fn moved(before: &[u8], after: &[u8]) -> usize {
    let pairs = before.iter().zip(after);
    pairs.filter(|(before, after)| before != after).count()
}

#[test]
fn tracked_flows_stay_until_they_are_idle_and_others_move_with_their_slots() {
    const TRACKED: &str = "protocol = \"udp\"\nudp = \"tracked\"\nudp_idle_timeout = \"3s\"";
    let stage = Stage::new("datagrams", &[1; 3], "protocol = \"udp\"");
    serve(&stage.topology);
    stage.reload(2, "protocol = \"udp\"");
    let flows = Flows::open(&stage);
    let stateless = flows.ask();
    stage.reload(3, "protocol = \"udp\"");
    let third = flows.ask();
    assert!(moved(&stateless, &third) > 0, "a share moves");
    assert_eq!(stage.used("FLOWS"), 0);

    // To track moves nothing, and what is tracked stays.
    stage.reload(3, TRACKED);
    assert_eq!(moved(&third, &flows.ask()), 0);
    assert_eq!(stage.used("FLOWS"), FLOWS as u64);
    stage.reload(2, TRACKED);
    assert_eq!(moved(&third, &flows.ask()), 0);

    wait_until("the flows are idle", Duration::from_secs(60), || {
        stage.used("FLOWS") == 0
    });
    let idle = flows.ask();
    assert!(moved(&third, &idle) > 0 && !idle.contains(&3), "{idle:?}");
}
