//! The verifier accepts every program, whatever the configuration uses. And the budget of each program and
//! set of features: instructions that the verifier goes through, and bytes that it makes of them. So
//! growth is seen when it is made. With the agent's capabilities alone the programs load too, and are no
//! larger than root's: what the kernel does against speculation for those whom it trusts less would make
//! them so.
//!
//! `tests/budgets.txt` holds the budgets. `XLB_BUDGETS=write cargo test -p xlb-tests --test budgets` writes
//! it anew from what is measured.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use xlb_common::maps::PROGRAM;
use xlb_tests::programs::{
    load::{self, BALANCER},
    measure::Measure,
};

/// Set to `write`, the file is written, not compared.
const WRITE: &str = "XLB_BUDGETS";

/// What a program may grow by.
const TOLERANCE_PERCENT: u32 = 3;

/// Small programs move by a few instructions with the compiler.
const TOLERANCE_LEAST: u32 = 64;

/// On a kernel of another version, whose verifier counts otherwise, and for programs of another compiler.
const TOLERANCE_ELSEWHERE_PERCENT: u32 = 30;

/// What the file says of the kernel and the compiler that it was measured with.
const MEASURED_ON: &str = "# measured on ";

/// Instructions that the verifier may walk through before it gives up: `BPF_COMPLEXITY_LIMIT_INSNS`
/// of the kernel.
const VERIFIER_LIMIT: u32 = 1_000_000;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("budgets.txt")
}

/// Runs `programs`, and reads what it prints.
fn measure(options: &[&str]) -> Vec<Measure> {
    let output = Command::new(env!("CARGO_BIN_EXE_programs"))
        .args(options)
        .output()
        .expect("start `programs`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| Measure::parse(line).unwrap_or_else(|| panic!("not a measure: {line}")))
        .collect()
}

/// Major and minor version of the running kernel, and the compiler of the programs.
fn surroundings() -> String {
    let release = nix::sys::utsname::uname().expect("the kernel's name");
    let release = release.release().to_string_lossy().into_owned();
    let version: Vec<&str> = release.split('.').take(2).collect();
    let object = load::object(BALANCER).expect("the object");
    // Debug information names it: "rustc version 1.96.0 (...)".
    let mark = b"rustc version ";
    let at = object.windows(mark.len()).position(|bytes| bytes == mark);
    let name = &object[at.expect("the compiler's name") + mark.len()..];
    let compiler = name
        .split(|byte| byte.is_ascii_whitespace())
        .next()
        .expect("its version");
    format!(
        "Linux {}, rustc {}",
        version.join("."),
        String::from_utf8_lossy(compiler)
    )
}

/// By program and features.
fn by_name(measures: Vec<Measure>) -> BTreeMap<(String, String), Measure> {
    measures
        .into_iter()
        .map(|measure| ((measure.program.clone(), measure.features.clone()), measure))
        .collect()
}

fn write(measures: &[Measure]) {
    let mut text = format!(
        "# Budgets, checked by tests/budgets.rs, which says how this file is written anew.\n\
         {MEASURED_ON}{}\n\
         # program, features, instructions verified, bytes translated\n",
        surroundings()
    );
    for measure in measures {
        text += &format!("{measure}\n");
    }
    fs::write(path(), text).expect("write the budgets");
}

/// What a program may take that has this budget.
fn most(budget: u32, percent: u32) -> u32 {
    budget + (budget / 100 * percent).max(TOLERANCE_LEAST)
}

/// What exceeds its budget, or has none; and budgets of what is no longer there.
fn complaints(measured: &[Measure], text: &str, here: &str) -> Vec<String> {
    let on_this = text.lines().any(|line| {
        line.strip_prefix(MEASURED_ON)
            .is_some_and(|there| there == here)
    });
    let percent = if on_this {
        TOLERANCE_PERCENT
    } else {
        TOLERANCE_ELSEWHERE_PERCENT
    };
    let mut budgets = by_name(text.lines().filter_map(Measure::parse).collect());
    let mut complaints = Vec::new();
    for measure in measured {
        let name = (measure.program.clone(), measure.features.clone());
        let Some(budget) = budgets.remove(&name) else {
            complaints.push(format!("{measure}: has no budget"));
            continue;
        };
        for (what, is, may) in [
            ("verified", measure.verified, budget.verified),
            ("translated", measure.translated, budget.translated),
        ] {
            if is > most(may, percent) {
                complaints.push(format!(
                    "{} {}: {is} {what}, and its budget is {may}",
                    name.0, name.1
                ));
            }
        }
    }
    let gone = budgets
        .into_keys()
        .map(|(program, features)| format!("{program} {features}: has a budget and is not there"));
    complaints.extend(gone);
    complaints
}

#[test]
fn programs_keep_their_budgets_with_the_agents_capabilities_too() {
    let root = measure(&[]);
    let agent = by_name(measure(&["--as-agent"]));
    assert_eq!(root.len(), agent.len());
    for measure in &root {
        let name = (measure.program.clone(), measure.features.clone());
        let by_agent = agent.get(&name).map(|measure| measure.translated);
        assert_eq!(by_agent, Some(measure.translated), "{name:?}, by the agent");
    }
    if env::var_os(WRITE).is_some_and(|value| value == "write") {
        write(&root);
        return;
    }
    for measure in &root {
        // A change that brings the verifier near its limit shows here before it shows to a user.
        assert!(measure.verified < VERIFIER_LIMIT / 2, "{measure}");
    }
    let text = fs::read_to_string(path()).expect("read the budgets");
    let complaints = complaints(&root, &text, &surroundings());
    assert!(
        complaints.is_empty(),
        "{}\nIf it is worth that, write the budgets anew: {WRITE}=write cargo test -p xlb-tests --test \
         budgets",
        complaints.join("\n")
    );
}

#[test]
fn growth_beyond_a_few_percent_is_seen() {
    let budgets = "# measured on Linux 6.18, rustc 1.96.0\nxlb ipv4 10000 5000\n";
    let of = |line: &str| {
        complaints(
            &[Measure::parse(line).expect("a line")],
            budgets,
            "Linux 6.18, rustc 1.96.0",
        )
    };
    assert_eq!(of("xlb ipv4 10300 5150"), [""; 0]);
    assert_eq!(of("xlb ipv4 9000 4000"), [""; 0]);
    let grown = of("xlb ipv4 10301 5151");
    assert_eq!(
        grown,
        [
            "xlb ipv4: 10301 verified, and its budget is 10000",
            "xlb ipv4: 5151 translated, and its budget is 5000"
        ]
    );
    let other = of("xlb ipv6 1 1");
    assert!(other[0].ends_with("has no budget"), "{other:?}");
    assert!(other[1].ends_with("is not there"), "{other:?}");
}

#[test]
fn another_kernel_and_another_compiler_may_count_otherwise() {
    let budgets = "# measured on Linux 6.18, rustc 1.96.0\nxlb ipv4 10000 5000\n";
    let measured = [Measure::parse("xlb ipv4 12000 5000").expect("a line")];
    for here in ["Linux 6.12, rustc 1.96.0", "Linux 6.18, rustc 1.97.0"] {
        assert_eq!(complaints(&measured, budgets, here), [""; 0]);
    }
}

#[test]
fn what_is_not_configured_does_not_stand_in_the_program() {
    let text = fs::read_to_string(path()).expect("read the budgets");
    let budgets: Vec<Measure> = text.lines().filter_map(Measure::parse).collect();
    let of = |features: &str| {
        let found = |it: &&Measure| it.program == PROGRAM && it.features == features;
        budgets.iter().find(found).expect("a budget").translated
    };
    assert!(of("none") * 4 < of("ipv4+l2-dsr"));
    assert!(of("ipv4+l2-dsr") * 4 < of("all"));
}
