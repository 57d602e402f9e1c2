//! Interfaces that come, go, lack XDP or are taken.

use xlb_agent::dataplane::{AttachMode, Dataplane, DataplaneError, Spec};
use xlb_control::config::Mode;

use crate::sandbox::{in_sandbox, interface, ip, larger, program_on, spec};

#[test]
fn somebody_elses_program_is_not_replaced() {
    for (theirs, ours) in [
        (Mode::Native, Mode::Auto),
        (Mode::Generic, Mode::Auto),
        (Mode::Generic, Mode::Native),
    ] {
        in_sandbox(move |sandbox| {
            let eth = sandbox.veth("eth0", "peer0");
            let with_mode = |mode| Spec {
                mode,
                ..spec(std::slice::from_ref(&eth))
            };
            let _theirs = Dataplane::open(&sandbox.other_pin_dir(), &with_mode(theirs))
                .expect("the other's program");
            let id = program_on("eth0").expect("attached");
            let pins = sandbox.pinned();

            let error = Dataplane::open(&sandbox.pin_dir(), &with_mode(ours))
                .expect_err("the interface is taken");
            assert!(
                matches!(
                    &error,
                    DataplaneError::ForeignProgram { interface, program_id, .. }
                        if interface == "eth0" && u64::from(*program_id) == id
                ),
                "{error:?}"
            );
            assert!(error.to_string().contains("eth0"), "{error}");
            assert_eq!(program_on("eth0"), Some(id));
            let mut left = sandbox.pinned();
            left.remove(std::path::Path::new("xlb"));
            assert_eq!(left, pins);
        });
    }
}

#[test]
fn a_driver_without_xdp_gets_the_generic_mode() {
    in_sandbox(|sandbox| {
        ip(&["link", "set", "lo", "up"]);
        let auto = spec(&[interface("lo")]);
        let native = Spec {
            mode: Mode::Native,
            ..auto.clone()
        };
        let error = Dataplane::open(&sandbox.pin_dir(), &native).expect_err("no native XDP");
        assert!(
            error.to_string().contains("lo (native mode)") && error.to_string().contains("auto"),
            "{error}"
        );
        assert_eq!(sandbox.pinned().len(), 0, "{:?}", sandbox.pinned());

        let (_dataplane, adopted) = Dataplane::open(&sandbox.pin_dir(), &auto).expect("generic");
        assert_eq!(adopted.attached, [("lo".to_owned(), AttachMode::Generic)]);
    });
}

#[test]
fn interfaces_are_added_and_removed_and_change_their_mode() {
    in_sandbox(|sandbox| {
        let (eth0, eth1) = (sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1"));
        let one = spec(&[eth0]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &one).expect("open");
        let program = program_on("eth0");

        let other = Spec {
            interfaces: vec![eth1],
            ..one.clone()
        };
        dataplane.reload(&other, |_| Ok(())).expect("reload");
        assert_eq!((program_on("eth0"), program_on("eth1")), (None, program));

        let generic = Spec {
            mode: Mode::Generic,
            ..other
        };
        dataplane.reload(&generic, |_| Ok(())).expect("reload");
        let status = dataplane.status().expect("status");
        assert_eq!(status.interfaces[0].mode, Some(AttachMode::Generic));
        assert_eq!(program_on("eth1"), program);
    });
}

#[test]
fn a_new_interface_that_does_not_take_the_program_changes_nothing() {
    in_sandbox(|sandbox| {
        ip(&["link", "set", "lo", "up"]);
        let (eth0, eth1) = (sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1"));
        let before = Spec {
            mode: Mode::Native,
            ..spec(&[eth0])
        };
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &before).expect("open");
        let (program, pins) = (program_on("eth0"), sandbox.pinned());

        // Something to exchange for, one to take off, one to put on, and one that has no native mode.
        let broken = Spec {
            interfaces: vec![eth1, interface("lo")],
            ..larger(&before)
        };
        let error = dataplane
            .reload(&broken, |_| Ok(()))
            .expect_err("no native XDP");
        assert!(error.to_string().contains("lo (native mode)"), "{error}");
        assert_eq!((program_on("eth0"), program_on("eth1")), (program, None));
        assert_eq!(sandbox.pinned(), pins);
        assert_eq!(dataplane.spec(), &before);
    });
}

#[test]
fn a_change_that_fails_leaves_no_new_interface_behind() {
    in_sandbox(|sandbox| {
        let (eth0, eth1) = (sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1"));
        let before = spec(std::slice::from_ref(&eth0));
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &before).expect("open");
        let more = Spec {
            interfaces: vec![eth0, eth1],
            ..larger(&before)
        };
        let refused = || DataplaneError::Spec("no".to_owned());
        dataplane
            .reload(&more, |_| Err(refused()))
            .expect_err("refused");
        assert_eq!(program_on("eth1"), None);
        dataplane.reload(&more, |_| Ok(())).expect("reload");
        assert_eq!(program_on("eth1"), program_on("eth0"));
    });
}

#[test]
fn a_mode_that_is_refused_leaves_the_program_in_the_former_one() {
    in_sandbox(|sandbox| {
        ip(&["link", "set", "lo", "up"]);
        let auto = spec(&[interface("lo")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &auto).expect("open");
        let program = program_on("lo");
        let native = Spec {
            mode: Mode::Native,
            ..auto
        };
        dataplane.reload(&native, |_| Ok(())).expect_err("refused");
        assert_eq!(program_on("lo"), program);
        let status = dataplane.status().expect("status");
        assert_eq!(status.interfaces[0].mode, Some(AttachMode::Generic));
    });
}

#[test]
fn an_interface_that_comes_back_is_attached_anew() {
    in_sandbox(|sandbox| {
        let spec = spec(&[sandbox.veth("eth0", "peer0"), sandbox.veth("eth1", "peer1")]);
        let (mut dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec).expect("open");

        ip(&["link", "del", "eth0"]);
        let status = dataplane.status().expect("status without the interface");
        assert_eq!(status.interfaces[0].mode, None);
        ip(&["link", "del", "eth1"]);
        dataplane
            .reload(&larger(&spec), |_| Ok(()))
            .expect("what is gone for a while does not stand in the way of a change");

        let back = sandbox.veth("eth0", "peer0");
        assert_eq!(program_on("eth0"), None);
        dataplane
            .refresh_interface("eth0", back.ifindex)
            .expect("attach anew, while the other is still gone");
        let program = dataplane.status().expect("status").program.id;
        let program = Some(u64::from(program));
        assert_eq!(program_on("eth0"), program);

        let back = sandbox.veth("eth1", "peer1");
        dataplane
            .refresh_interface("eth1", back.ifindex)
            .expect("attach anew");
        assert_eq!((program_on("eth0"), program_on("eth1")), (program, program));
        // A link of an interface that is gone does not stay pinned.
        let links = std::fs::read_dir(sandbox.pin_dir().join("v1/links")).expect("links");
        assert_eq!(links.count(), 2);
        assert!(dataplane.refresh_interface("eth7", 999).is_err());

        // A change that was made without an interface does not keep it out for good.
        ip(&["link", "del", "eth1"]);
        let mut without = dataplane.spec().clone();
        without.interfaces.pop();
        dataplane.reload(&without, |_| Ok(())).expect("reload");
        let back = sandbox.veth("eth1", "peer1");
        dataplane
            .refresh_interface("eth1", back.ifindex)
            .expect("attach anew");
        assert_eq!((program_on("eth0"), program_on("eth1")), (program, program));
    });
}

#[test]
fn a_renamed_interface_keeps_its_link() {
    in_sandbox(|sandbox| {
        let eth = sandbox.veth("eth0", "peer0");
        let (dataplane, _) = Dataplane::open(&sandbox.pin_dir(), &spec(&[eth])).expect("open");
        let link = dataplane.status().expect("status").interfaces[0].link_id;
        drop(dataplane);
        ip(&["link", "set", "eth0", "down"]);
        ip(&["link", "set", "eth0", "name", "lan.5"]);
        let (dataplane, _) =
            Dataplane::open(&sandbox.pin_dir(), &spec(&[interface("lan.5")])).expect("adopt");
        let status = dataplane.status().expect("status");
        assert_eq!(status.interfaces[0].link_id, link);
        assert!(link.is_some());
    });
}
