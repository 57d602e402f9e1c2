//! Made, adopted, refused, removed.

use std::{fs, os::fd::AsFd};

use aya::maps::{Array, MapData};
use caps::{CapSet, Capability};
use xlb_agent::{
    dataplane::{self, AttachMode, Dataplane, DataplaneError, Events},
    lock::Lock,
};
use xlb_common::maps::Service;

use crate::sandbox::{in_sandbox, larger, program_on, spec};

#[test]
fn a_fresh_data_path_is_pinned_whole() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let (dataplane, adopted) =
            Dataplane::open(&sandbox.pin_dir(), &spec(&[eth])).expect("open");

        assert!(!adopted.found);
        assert_eq!(adopted.attached, [("eth0".to_owned(), AttachMode::Native)]);
        let status = dataplane.status().expect("status");
        assert_eq!(program_on("eth0"), Some(u64::from(status.program.id)));
        assert!(status.program.translated_bytes > 0 && status.program.jited_bytes > 0);
        assert!(status.program.verified_instructions > 0);
        assert_eq!(status.interfaces[0].mode, Some(AttachMode::Native));
        for map in &status.maps {
            // A trie takes memory by the entry.
            assert!(map.memory_bytes > Some(0) || map.used == Some(0), "{map:?}");
        }
        // 31 maps, the program, a link, and three directories.
        assert_eq!(sandbox.pinned().len(), 36, "{:?}", sandbox.pinned());
    });
}

#[test]
fn what_an_agent_left_is_adopted() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0")]);
        let (mut first, _) = Dataplane::open(&sandbox.pin_dir(), &spec).expect("open");
        let service = Service {
            ring_slots: 77,
            family: 4,
            ..Service::default()
        };
        assert!(first.maps_mut().services.write(3, service));
        assert!(first.maps_mut().ring.store(4095, 9));
        let before = first.status().expect("status");
        drop(first);
        assert_eq!(
            program_on("eth0"),
            Some(u64::from(before.program.id)),
            "the data path outlives the agent"
        );

        let (second, adopted) = Dataplane::open(&sandbox.pin_dir(), &spec).expect("adopt");
        assert!(adopted.found);
        assert_eq!((adopted.repaired, adopted.grown.len()), (None, 0));
        assert_eq!(second.maps().services.read(3), Some(service));
        assert_eq!(second.maps().ring.load(4095), Some(9));
        let after = second.status().expect("status");
        assert_eq!(
            after.interfaces[0].link_id, before.interfaces[0].link_id,
            "the link stays, so no packet passes by"
        );
        assert_ne!(
            after.program.id, before.program.id,
            "the program is this build's"
        );
        assert_eq!(program_on("eth0"), Some(u64::from(after.program.id)));
    });
}

#[test]
fn maps_of_another_layout_are_refused_and_left_alone() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0")]);
        drop(Dataplane::open(&sandbox.pin_dir(), &spec).expect("open"));
        let services = sandbox.pin_dir().join("v1/SERVICES");
        fs::remove_file(&services).expect("unpin");
        let other = Array::<MapData, u64>::create(64, 0).expect("a map of another layout");
        other.pin(&services).expect("pin");
        let (pins, program) = (sandbox.pinned(), program_on("eth0"));

        let error = Dataplane::open(&sandbox.pin_dir(), &spec).expect_err("another layout");
        let said = error.to_string();
        assert!(
            said.contains("SERVICES: value bytes 8, expected 64, flags 0, expected 1024"),
            "{said}"
        );
        assert!(said.contains("xlb-agent unload"), "{said}");
        assert_eq!((sandbox.pinned(), program_on("eth0")), (pins, program));
    });
}

#[test]
fn another_layout_version_is_refused() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0")]);
        fs::create_dir_all(sandbox.pin_dir().join("v9")).expect("a directory");
        let error = Dataplane::open(&sandbox.pin_dir(), &spec).expect_err("another version");
        assert!(error.to_string().contains("v9"), "{error}");
        assert_eq!(program_on("eth0"), None);
    });
}

#[test]
fn unload_leaves_nothing_and_can_run_again() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1")]);
        let (running, _) = Dataplane::open(&sandbox.pin_dir(), &spec).expect("open");

        let removed = dataplane::unload(&sandbox.pin_dir()).expect("unload");
        assert!(
            removed.contains(&"program from eth1".to_owned())
                && removed.iter().any(|what| what.starts_with("31 maps in ")),
            "{removed:?}"
        );
        // Detached although this process still holds the maps and the program.
        assert_eq!((program_on("eth0"), program_on("eth1")), (None, None));
        assert_eq!(sandbox.pinned().len(), 0, "{:?}", sandbox.pinned());
        drop(running);

        let removed = dataplane::unload(&sandbox.pin_dir()).expect("unload again");
        assert!(removed.is_empty(), "{removed:?}");
    });
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let mut gone = eth.clone();
        gone.name = "eth9".to_owned();
        gone.ifindex = 9999;
        let error = Dataplane::open(&sandbox.pin_dir(), &spec(&[eth, gone])).expect_err("missing");
        assert!(matches!(error, DataplaneError::NoInterface { ref name } if name == "eth9"));
        assert_eq!(program_on("eth0"), None);
        assert!(!sandbox.pin_dir().join("v1").exists());
    });
}

#[test]
fn three_capabilities_are_enough() {
    in_sandbox(|sandbox| {
        let small = spec(&[sandbox.veth("eth0", "peer0")]);
        let needed = [
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            Capability::CAP_NET_ADMIN,
        ];
        // The thread's own, which ends with the test.
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &needed.into_iter().collect()).expect("drop the others");
        }
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &small).expect("open");
        dataplane.reload(&larger(&small), |_| Ok(())).expect("grow");
        dataplane.status().expect("status");
        drop(dataplane);
        Dataplane::open(&sandbox.pin_dir(), &small).expect("adopt");
        dataplane::unload(&sandbox.pin_dir()).expect("unload");
        assert_eq!(sandbox.pinned().len(), 0);

        caps::drop(None, CapSet::Effective, Capability::CAP_PERFMON).expect("drop one more");
        let error = Dataplane::open(&sandbox.pin_dir(), &small).expect_err("too few");
        assert!(
            error.to_string().starts_with("missing CAP_PERFMON:"),
            "{error}"
        );
    });
}

#[test]
fn a_pin_directory_is_locked_for_one_agent() {
    in_sandbox(|sandbox| {
        let (_dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[])).expect("open");
        let pin_dir = sandbox.pin_dir();
        let _first = Lock::acquire(&[&pin_dir]).expect("free");
        let error = Lock::acquire(&[&pin_dir]).expect_err("held");
        let pid = format!("(pid {})", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
    });
}

#[test]
fn events_are_waited_for() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0")]);
        let (dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec).expect("open");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut events = dataplane.events().expect("events");
            let waited = std::time::Duration::from_millis(20);
            assert!(
                tokio::time::timeout(waited, events.next(1)).await.is_err(),
                "no event without a packet"
            );
        });
        assert!(
            dataplane
                .maps()
                .services
                .as_fd()
                .try_clone_to_owned()
                .is_ok()
        );
    });
}

/// The agent's tasks hand them on between threads.
#[test]
fn data_path_and_events_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<Dataplane>();
    is_send::<Events>();
}
