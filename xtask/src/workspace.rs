//! Where things are: the checkout, its target directories, and the cargo that runs us.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The checkout that this binary was built from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory of the checkout")
        .to_path_buf()
}

/// The crate of the eBPF programs, which is a workspace of its own.
pub(crate) fn ebpf_crate() -> PathBuf {
    root().join("xlb-ebpf")
}

/// Where the eBPF crate is built. It follows no `CARGO_TARGET_DIR`, so that the agent's build
/// script finds the object without being told.
pub(crate) fn ebpf_target_dir() -> PathBuf {
    root().join("target/ebpf")
}

/// Where cargo puts the host's crates.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root().join("target"),
        // Cargo reads a relative path against the directory it was started in; we start it in ours.
        |dir| root().join(dir),
    )
}

/// A binary of the workspace as cargo builds it.
pub(crate) fn binary(name: &str, release: bool) -> PathBuf {
    let profile = if release { "release" } else { "debug" };
    target_dir().join(profile).join(name)
}

/// The cargo that builds the host's crates: the one that runs us, if one does.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Looks a command up in `PATH` and in the directories of system tools, which are not on the `PATH`
/// of every user.
pub(crate) fn find_command(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The home of cargo, where `cargo install` puts binaries.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    home_from("CARGO_HOME", ".cargo")
}

/// The home of rustup, where toolchains are.
pub(crate) fn rustup_home() -> Option<PathBuf> {
    home_from("RUSTUP_HOME", ".rustup")
}

fn home_from(variable: &str, under_home: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(under_home)))
}
