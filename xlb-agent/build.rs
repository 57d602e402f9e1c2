//! Tells the agent where the eBPF objects are that it carries.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Names the balancer's object; without it, the place where `cargo xtask build` puts it.
const VARIABLE: &str = "XLB_EBPF_OBJECT";

/// Tells the place of the object of the decapsulation program, which lies next to the other.
const DECAP_VARIABLE: &str = "XLB_DECAP_OBJECT";

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let balancer = env::var_os(VARIABLE).map_or_else(default_object, PathBuf::from);
    let decapsulator = balancer.with_file_name("xlb-decap");
    for (variable, object) in [(VARIABLE, balancer), (DECAP_VARIABLE, decapsulator)] {
        // A file that is missing makes cargo ask again each time, which is what we want.
        println!("cargo:rerun-if-changed={}", object.display());
        match object.canonicalize() {
            Ok(object) => println!("cargo:rustc-env={variable}={}", object.display()),
            Err(error) => {
                eprintln!(
                    "there is no eBPF object at {} ({error}): run `cargo xtask build`",
                    object.display()
                );
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn default_object() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/release/xlb-ebpf")
}
