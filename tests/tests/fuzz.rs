//! The program against the reference model: the same as `cargo xtask fuzz`, with few frames.

use xlb_tests::fuzz::{self, Options};

#[test]
fn model_and_program_agree() {
    let report = fuzz::run(&Options {
        frames: 20_000,
        seed: 7,
        case: None,
        differences: 3,
        json: false,
    })
    .expect("root, and the eBPF object");
    assert!(
        report.differences.is_empty(),
        "{}",
        report.differences.join("\n")
    );
    assert_eq!(report.tally.malformed_forwarded, 0);
    // What chance makes has to get somewhere.
    assert!(report.tally.forwarded > report.tally.frames / 5);
}
