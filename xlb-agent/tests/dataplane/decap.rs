//! The decapsulation program of a backend: made, adopted, refused, removed.

use std::fs;

use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues};
use xlb_agent::dataplane::{self, AttachMode, DataplaneError, Decapsulator, Interface, Pinned};
use xlb_common::decap::{Reason, Sysctl, vip_flag};
use xlb_control::config::Mode;

use crate::sandbox::{Sandbox, in_sandbox, program_on};

fn open(
    sandbox: &Sandbox,
    interfaces: &[Interface],
) -> Result<(Decapsulator, Vec<(String, AttachMode)>), DataplaneError> {
    Decapsulator::open(&sandbox.pin_dir(), interfaces, Mode::Auto, |_| Ok(()))
}

#[test]
fn a_fresh_one_is_pinned_whole_and_seen_without_an_agent() {
    in_sandbox(|sandbox| {
        assert!(Pinned::find(&sandbox.pin_dir()).expect("nothing").is_none());
        let eth = sandbox.veth("eth0", "peer0");
        let (_, attached) = open(sandbox, &[eth]).expect("open");
        assert_eq!(attached, [("eth0".to_owned(), AttachMode::Native)]);
        // 11 maps, the program, a link, and three directories.
        assert_eq!(sandbox.pinned().len(), 16, "{:?}", sandbox.pinned());
        let pinned = Pinned::find(&sandbox.pin_dir()).expect("pins");
        let pinned = pinned.expect("a program");
        assert_eq!(program_on("eth0"), Some(u64::from(pinned.program.id)));
        assert_eq!(pinned.interfaces[0].mode, Some(AttachMode::Native));
        let reasons = pinned.maps.reasons().expect("counters");
        assert_eq!(reasons.len(), Reason::COUNT);
    });
}

#[test]
fn what_an_agent_left_is_adopted() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let (mut first, _) = open(sandbox, std::slice::from_ref(&eth)).expect("open");
        let record = Sysctl {
            is_set: 1,
            former: 7,
        };
        let vip = [192, 0, 2, 10];
        assert!(first.maps.sysctls.write(1, record));
        let added = vip_flag::USED | vip_flag::ADDED;
        first.maps.vips4.insert(&vip, added).expect("a VIP");
        drop(first);
        let before = program_on("eth0");
        assert!(before.is_some(), "the program outlives the agent");

        let mut seen = false;
        Decapsulator::open(&sandbox.pin_dir(), &[eth], Mode::Auto, |maps| {
            assert_eq!(maps.sysctls.read(1), Some(record));
            assert_eq!(maps.vips4.get(&vip).expect("a VIP"), Some(added));
            seen = true;
            Ok(())
        })
        .expect("adopt");
        assert!(
            seen,
            "the maps are prepared before the program runs on them"
        );
        assert_ne!(program_on("eth0"), before, "the program is this build's");
    });
}

/// As an update brings it about whose program knows more reasons.
#[test]
fn counters_grow_and_keep_what_they_counted() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        drop(open(sandbox, std::slice::from_ref(&eth)).expect("open"));
        let pin = sandbox.pin_dir().join("v1/DECAP_REASONS");
        fs::remove_file(&pin).expect("unpin");
        let mut small = PerCpuArray::<MapData, u64>::create(3, 0).expect("a smaller map");
        let cpus = aya::util::nr_cpus().expect("CPUs");
        let mut counts = vec![0; cpus];
        counts[0] = 41;
        let values = PerCpuValues::try_from(counts).expect("a value for each CPU");
        small.set(2, values, 0).expect("counts");
        small.pin(&pin).expect("pin");
        let (opened, _) = open(sandbox, &[eth]).expect("adopt");
        let reasons = opened.maps.reasons().expect("counters");
        assert_eq!(reasons.len(), Reason::COUNT);
        assert_eq!(reasons[2], (Reason::ALL[2], 41));
        assert_eq!(reasons[3], (Reason::ALL[3], 0));
    });
}

#[test]
fn maps_of_another_layout_are_refused_and_left_alone() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        drop(open(sandbox, std::slice::from_ref(&eth)).expect("open"));
        let pin = sandbox.pin_dir().join("v1/SYSCTLS");
        fs::remove_file(&pin).expect("unpin");
        let other = Array::<MapData, u32>::create(8, 0).expect("a map of another layout");
        other.pin(&pin).expect("pin");
        let (pins, program) = (sandbox.pinned(), program_on("eth0"));
        let said = open(sandbox, &[eth])
            .expect_err("another layout")
            .to_string();
        assert!(
            said.contains("SYSCTLS: value bytes 4, expected 8"),
            "{said}"
        );
        assert!(said.contains("xlb-agent backend unload"), "{said}");
        assert_eq!((sandbox.pinned(), program_on("eth0")), (pins, program));
    });
}

#[test]
fn a_start_that_fails_leaves_nothing_and_a_foreign_program_stays() {
    in_sandbox(|sandbox| {
        let [eth, other] = [("eth0", "peer0"), ("eth1", "peer1")].map(|(a, b)| sandbox.veth(a, b));
        drop(open(sandbox, std::slice::from_ref(&eth)).expect("open"));
        let foreign = program_on("eth0");
        let dir = sandbox.other_pin_dir();
        let error = Decapsulator::open(&dir, &[other, eth], Mode::Auto, |_| Ok(()));
        let error = error.expect_err("somebody else's program");
        assert!(
            matches!(error, DataplaneError::ForeignProgram { .. }),
            "{error}"
        );
        assert_eq!((program_on("eth0"), program_on("eth1")), (foreign, None));
        assert!(!dir.join("v1").exists());
    });
}

#[test]
fn unload_takes_it_off() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let (running, _) = open(sandbox, &[eth]).expect("open");
        let removed = dataplane::unload(&sandbox.pin_dir()).expect("unload");
        assert!(
            removed.contains(&"program from eth0".to_owned()),
            "{removed:?}"
        );
        assert_eq!(program_on("eth0"), None);
        assert_eq!(sandbox.pinned().len(), 0);
        drop(running);
    });
}
