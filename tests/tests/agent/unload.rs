//! `unload` leaves nothing, however the agent ended.

use std::process::Command;

use serde_json::json;
use xlb_tests::lab::wait_until;

use crate::stage::{PATIENCE, Stage, WEB};

/// Whether the kernel still has a program of this number.
fn program_exists(id: u64) -> bool {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["prog", "show", "id", &id.to_string()]);
    bpftool.output().expect("run bpftool").status.success()
}

fn has_program(stage: &Stage) -> bool {
    let link = stage.topology.balancer.ns.ip("-details link show eth0");
    link.contains("prog/xdp")
}

#[test]
fn unload_removes_pins_links_and_program() {
    let mut stage = Stage::start("unload", 1);
    for killed in [false, true] {
        assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));
        let program = stage.status()["program"]["id"].as_u64().expect("a number");
        assert!(has_program(&stage) && program_exists(program));
        if killed {
            stage.agent.kill9();
        } else {
            stage.agent.stop();
        }
        assert_eq!(stage.fetch(WEB), Ok("backend1".to_owned()));

        let form = if killed { "json" } else { "table" };
        let unload = stage.cli(&format!("unload -o {form}"));
        assert_eq!((unload.code, unload.err.as_str()), (0, ""), "{unload:?}");
        for words in ["program from eth0", "maps in", "directory"] {
            assert!(unload.out.contains(words), "{unload:?}");
        }
        if killed {
            assert_eq!(unload.json()["warnings"], json!([]));
        }
        let pins = stage.agent.pin_directory();
        let exists = stage.topology.balancer.ns.run(|| pins.exists());
        assert!(!exists, "{} is still there", pins.display());
        assert!(!has_program(&stage));
        wait_until("the program is gone", PATIENCE, || !program_exists(program));
        assert!(stage.fetch(WEB).is_err(), "packets are still balanced");

        let again = stage.cli("unload");
        assert_eq!((again.code, again.out.as_str()), (0, "nothing to change\n"));
        // And everything can be made again.
        stage.agent.start_again();
        stage.wait_until_well();
    }
}
