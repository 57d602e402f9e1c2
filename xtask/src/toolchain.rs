//! Which Rust builds the eBPF object. Setup and build both ask here, so they can't disagree.
//!
//! The eBPF target has no precompiled `core`, so its build needs the sources of the standard library
//! and the right to use unstable options: either a nightly toolchain of rustup, or a stable one that
//! is told by `RUSTC_BOOTSTRAP` to accept them, as Debian's packages are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{object_file, workspace};

/// The oldest Rust that builds xlb; `rust-version` of the workspace says the same.
const MINIMUM_MINOR: u32 = 95;

/// A Rust compiler that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// What to call it.
    pub(crate) name: String,
    /// The directory of its `rustc` and `cargo`.
    pub(crate) bin: PathBuf,
    /// The minor version: 96 of 1.96.0.
    pub(crate) minor: u32,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
    /// Whether unstable options need `RUSTC_BOOTSTRAP`.
    pub(crate) bootstrap: bool,
    /// Whether the sources of the standard library are there.
    pub(crate) has_sources: bool,
}

/// A bpf-linker that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// The major version of the LLVM that it loads; none when it is linked in and can't be told.
    pub(crate) llvm: Option<u32>,
}

/// What the decision rests on, in the order of preference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) compilers: Vec<Compiler>,
    pub(crate) linker: Option<Linker>,
}

/// What builds the eBPF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// What keeps the eBPF object from being built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// No compiler with sources; whether a linker is there matters only once there is one.
    Compiler,
    /// No bpf-linker that reads what the compiler writes.
    Linker { compiler_llvm: u32 },
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Missing::Compiler => write!(
                f,
                "a Rust of at least 1.{MINIMUM_MINOR} with the sources of its standard library, for \
                 the eBPF target"
            ),
            Missing::Linker { compiler_llvm } => {
                write!(
                    f,
                    "a bpf-linker that reads the bitcode of LLVM {compiler_llvm}"
                )
            }
        }
    }
}

/// Chooses the first compiler that can build the object with the linker that is there.
///
/// # Errors
///
/// What is missing; the linker is asked for the first compiler that is fit.
pub(crate) fn choose(facts: &Facts) -> Result<Toolchain, Missing> {
    let mut fit = facts
        .compilers
        .iter()
        .filter(|compiler| compiler.has_sources && compiler.minor >= MINIMUM_MINOR)
        .peekable();
    let first = fit.peek().copied().ok_or(Missing::Compiler)?;
    let missing = Missing::Linker {
        compiler_llvm: first.llvm,
    };
    let linker = facts.linker.as_ref().ok_or(missing)?;
    // An LLVM reads the bitcode of older ones, and not of newer ones.
    fit.find(|compiler| linker.llvm.is_none_or(|llvm| llvm >= compiler.llvm))
        .map(|compiler| Toolchain {
            compiler: compiler.clone(),
            linker: linker.path.clone(),
        })
        .ok_or(missing)
}

/// Looks at this machine.
pub(crate) fn probe() -> Facts {
    let nightlies = workspace::rustup_home().map_or_else(Vec::new, |home| nightlies(&home));
    let system = probe_compiler("Rust of the system", Path::new("/usr/bin"), true);
    Facts {
        compilers: nightlies.into_iter().chain(system).collect(),
        linker: probe_linker(),
    }
}

/// The toolchains named `nightly-HOST` and `nightly-DATE-HOST`: first the undated one, then from new
/// to old.
fn nightlies(rustup_home: &Path) -> Vec<Compiler> {
    let Ok(entries) = fs::read_dir(rustup_home.join("toolchains")) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("nightly-"))
        .collect();
    names.sort_by_key(|name| {
        let dated = name["nightly-".len()..].starts_with(|c: char| c.is_ascii_digit());
        (!dated, name.clone())
    });
    names
        .iter()
        .rev()
        .filter_map(|name| {
            let bin = rustup_home.join("toolchains").join(name).join("bin");
            probe_compiler(&format!("rustup's {name}"), &bin, false)
        })
        .collect()
}

fn probe_compiler(name: &str, bin: &Path, bootstrap: bool) -> Option<Compiler> {
    let rustc = bin.join("rustc");
    if !rustc.exists() || !bin.join("cargo").exists() {
        return None;
    }
    let ask = |argument: &[&str]| {
        let output = Command::new(&rustc).args(argument).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let (minor, llvm) = parse_versions(&ask(&["--version", "--verbose"])?)?;
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
    // Debian's package leaves a lock file here, too, and cargo asks for it.
    let library = sysroot.join("lib/rustlib/src/rust/library");
    Some(Compiler {
        name: name.to_owned(),
        bin: bin.to_path_buf(),
        minor,
        llvm,
        bootstrap,
        has_sources: library.join("core/src/lib.rs").exists()
            && library.join("Cargo.lock").exists(),
    })
}

/// Reads minor version and LLVM's major version from what `rustc -vV` prints.
fn parse_versions(text: &str) -> Option<(u32, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let minor = field("release: 1.")?.split('.').next()?.parse().ok()?;
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((minor, llvm))
}

fn probe_linker() -> Option<Linker> {
    let installed = || Some(workspace::cargo_home()?.join("bin/bpf-linker"));
    let path = workspace::find_command("bpf-linker")
        .or_else(|| installed().filter(|path| path.exists()))?;
    // It must run, too: the library that it was linked with may be gone.
    let output = Command::new(&path).arg("--version").output().ok()?;
    output.status.success().then(|| {
        let llvm = fs::read(&path)
            .ok()
            .and_then(|bytes| object_file::llvm_of_needed_libraries(&bytes));
        Linker { path, llvm }
    })
}

impl Toolchain {
    /// A cargo that builds for the eBPF target, in the crate of the eBPF programs.
    pub(crate) fn cargo(&self) -> Result<Command> {
        let bin = &self.compiler.bin;
        let mut command = Command::new(bin.join("cargo"));
        command.current_dir(workspace::ebpf_crate());
        // The cargo that runs us speaks to its own compiler through these.
        for variable in [
            "CARGO",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
        ] {
            command.env_remove(variable);
        }
        command.env("RUSTC", bin.join("rustc"));
        if self.compiler.bootstrap {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        let linker_dir = self.linker.parent().context("bpf-linker has a directory")?;
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = [bin.clone(), linker_dir.to_path_buf()]
            .into_iter()
            .chain(env::split_paths(&inherited));
        command.env("PATH", env::join_paths(path).context("put together PATH")?);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly() -> Compiler {
        Compiler {
            name: "rustup's nightly".into(),
            bin: "/n/bin".into(),
            minor: 97,
            llvm: 23,
            bootstrap: false,
            has_sources: true,
        }
    }

    fn system() -> Compiler {
        Compiler {
            name: "system".into(),
            bin: "/usr/bin".into(),
            minor: 96,
            llvm: 22,
            bootstrap: true,
            has_sources: true,
        }
    }

    fn linker(llvm: Option<u32>) -> Option<Linker> {
        Some(Linker {
            path: "/c/bpf-linker".into(),
            llvm,
        })
    }

    fn chosen(compilers: &[Compiler], linker: Option<Linker>) -> Result<String, Missing> {
        choose(&Facts {
            compilers: compilers.to_vec(),
            linker,
        })
        .map(|toolchain| toolchain.compiler.name)
    }

    #[test]
    fn a_nightly_with_sources_comes_first() {
        assert_eq!(
            chosen(&[nightly(), system()], linker(None)),
            Ok(nightly().name)
        );
    }

    #[test]
    fn a_nightly_without_sources_does_not_count() {
        let bare = Compiler {
            has_sources: false,
            ..nightly()
        };
        assert_eq!(
            chosen(&[bare.clone(), system()], linker(Some(22))),
            Ok(system().name)
        );
        assert_eq!(chosen(&[bare], linker(Some(22))), Err(Missing::Compiler));
    }

    #[test]
    fn a_compiler_that_is_too_old_does_not_count() {
        let old = Compiler {
            minor: 63,
            ..system()
        };
        assert_eq!(chosen(&[old], linker(None)), Err(Missing::Compiler));
    }

    #[test]
    fn a_linker_older_than_a_compiler_is_used_with_the_next_one() {
        let both = [nightly(), system()];
        assert_eq!(chosen(&both, linker(Some(22))), Ok(system().name));
        assert_eq!(
            chosen(&both, linker(Some(21))),
            Err(Missing::Linker { compiler_llvm: 23 })
        );
    }

    #[test]
    fn without_a_linker_it_is_asked_for() {
        assert_eq!(
            chosen(&[system()], None),
            Err(Missing::Linker { compiler_llvm: 22 })
        );
    }

    #[test]
    fn versions_are_read_from_the_compilers_own_words() {
        let text = "rustc 1.96.0 (abc 2026-05-25)\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_versions(text), Some((96, 22)));
        assert_eq!(parse_versions("release: 1.97.0-nightly\n"), None);
    }
}
