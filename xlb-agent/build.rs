//! Tells the agent where the eBPF object is that it carries.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Names the object; without it, the place where `cargo xtask build` puts it.
const VARIABLE: &str = "XLB_EBPF_OBJECT";

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let object = env::var_os(VARIABLE).map_or_else(default_object, PathBuf::from);
    // A file that is missing makes cargo ask again each time, which is what we want.
    println!("cargo:rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => {
            println!("cargo:rustc-env={VARIABLE}={}", object.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "there is no eBPF object at {} ({error}): run `cargo xtask build`",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn default_object() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/bpfel-unknown-none/release/xlb-ebpf")
}
