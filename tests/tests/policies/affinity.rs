//! Affinity to the client's address.

use std::collections::BTreeSet;

use xlb_tests::lab::VIP_V4;

use crate::stage::Stage;

#[test]
fn a_client_reaches_one_backend_whatever_its_port() {
    let stage = Stage::new("affinity", &[1; 4], "affinity = \"client-ip\"");
    let _servers = stage.serve();
    let client = &stage.topology.client.ns;
    let mut reached = BTreeSet::new();
    for last in 101..117 {
        let address = format!("10.80.2.{last}");
        client.ip(&format!("addr add {address}/24 dev eth0"));
        let names: BTreeSet<String> = (0..4)
            .map(|_| {
                let url = format!("http://{VIP_V4}/");
                client.exec(&["curl", "-sS", "--interface", &address, &url])
            })
            .collect();
        assert_eq!(names.len(), 1, "from {address}: {names:?}");
        reached.extend(names);
    }
    assert!(reached.len() >= 3, "of four backends {reached:?}");
    assert_eq!(
        stage.used("FLOWS") + stage.used("PENDING"),
        0,
        "a hash needs no record"
    );
}
