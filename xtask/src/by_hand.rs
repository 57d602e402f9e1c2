//! What to type where setup can't install what is missing, or may not.

use nix::unistd::geteuid;

use crate::{requirements::Tool, toolchain::Missing, workspace};

/// Installs rustup, in the words of its own site.
const INSTALL_RUSTUP: &str =
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal";

/// Of the nightly no more is used than compiler, cargo, and the sources of the standard library.
const INSTALL_NIGHTLY: &str =
    "rustup toolchain install nightly --profile minimal --component rust-src";

/// The published binary has its LLVM in it, which reads what each Rust writes. To build it needs an
/// LLVM of the right version, with its headers.
const INSTALL_LINKER: [&str; 2] = [
    "cargo install --locked cargo-binstall",
    "cargo binstall --no-confirm bpf-linker",
];

/// A package manager, and what it calls packages that Debian calls otherwise.
#[derive(Debug)]
struct Manager {
    command: &'static str,
    install: &'static str,
    names: &'static [(&'static str, &'static str)],
}

/// The first whose command is there is the system's.
const MANAGERS: [Manager; 4] = [
    Manager {
        command: "apt-get",
        install: "apt-get install",
        names: &[],
    },
    Manager {
        command: "dnf",
        install: "dnf install",
        names: &[
            ("iproute2", "iproute"),
            ("nginx-light", "nginx"),
            ("procps", "procps-ng"),
            ("libcap2-bin", "libcap"),
            ("libnginx-mod-stream", "nginx-mod-stream"),
        ],
    },
    Manager {
        command: "pacman",
        install: "pacman -S --needed",
        names: &[
            ("nginx-light", "nginx"),
            ("procps", "procps-ng"),
            ("libcap2-bin", "libcap"),
            ("bpftool", "bpf"),
            ("libnginx-mod-stream", "nginx"),
        ],
    },
    Manager {
        command: "zypper",
        install: "zypper install",
        names: &[
            ("nginx-light", "nginx"),
            ("iperf3", "iperf"),
            ("libcap2-bin", "libcap-progs"),
            ("libnginx-mod-stream", "nginx"),
        ],
    },
];

/// What this system and this user have to install things with.
struct Means {
    manager: Option<&'static Manager>,
    is_root: bool,
    has_rustup: bool,
}

/// The commands that install what is missing, on this system and for this user.
pub(crate) fn commands(missing: Option<Missing>, tools: &[Tool]) -> String {
    let installed = |name: &str| workspace::find_command(name).is_some();
    let means = Means {
        manager: MANAGERS.iter().find(|manager| installed(manager.command)),
        is_root: geteuid().is_root(),
        has_rustup: installed("rustup"),
    };
    text(missing, tools, &means)
}

fn text(missing: Option<Missing>, tools: &[Tool], means: &Means) -> String {
    let mut lines =
        vec!["setup can't install what is missing here. Type this yourself:".to_owned()];
    let mut type_this = |command: &str| lines.push(format!("    {command}"));
    if missing == Some(Missing::Compiler) {
        if !means.has_rustup {
            type_this(INSTALL_RUSTUP);
        }
        type_this(INSTALL_NIGHTLY);
    }
    if missing.is_some() {
        INSTALL_LINKER.into_iter().for_each(&mut type_this);
    }
    match means.manager {
        _ if tools.is_empty() => {}
        Some(manager) => {
            let sudo = if means.is_root { "" } else { "sudo " };
            let packages = names(tools, manager.names);
            type_this(&format!("{sudo}{} {packages}", manager.install));
        }
        None => {
            lines.push(
                "and, with your system's package manager, install (by their names in Debian):"
                    .to_owned(),
            );
            lines.push(format!("    {}", names(tools, &[])));
        }
    }
    lines.push("Then run `cargo xtask setup` again.".to_owned());
    lines.join("\n")
}

/// The packages of the tools by their names elsewhere, each once.
fn names(tools: &[Tool], elsewhere: &[(&str, &'static str)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for tool in tools {
        let other = elsewhere.iter().find(|(debian, _)| *debian == tool.package);
        let name = other.map_or(tool.package, |(_, other)| other);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::TOOLS;

    fn means(command: &str) -> Means {
        Means {
            manager: MANAGERS.iter().find(|manager| manager.command == command),
            is_root: false,
            has_rustup: true,
        }
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let debian = means("apt-get");
        let linker = text(
            Some(Missing::Linker { compiler_llvm: 23 }),
            &[],
            &means("dnf"),
        );
        assert!(linker.contains("\n    cargo binstall --no-confirm bpf-linker\n"));
        assert!(!linker.contains("rustup") && !linker.contains("dnf"));

        let compiler = text(Some(Missing::Compiler), &[], &debian);
        let nightly =
            "\n    rustup toolchain install nightly --profile minimal --component rust-src\n";
        assert!(compiler.contains(nightly), "{compiler}");
        assert!(!compiler.contains("sh.rustup.rs"), "{compiler}");

        let tools = text(None, &TOOLS[..2], &debian);
        assert!(tools.contains("\n    sudo apt-get install iproute2 ethtool\n"));
        assert!(!tools.contains("cargo install"));
    }

    #[test]
    fn without_rustup_it_comes_first() {
        let bare = Means {
            has_rustup: false,
            ..means("dnf")
        };
        let text = text(Some(Missing::Compiler), &[], &bare);
        let at = |word: &str| text.find(word).expect(word);
        assert!(at("https://sh.rustup.rs") < at("rustup toolchain install"));
    }

    #[test]
    fn packages_have_the_names_of_the_system() {
        for (manager, line) in [
            (
                "apt-get",
                "apt-get install iproute2 ethtool nftables nginx-light curl iperf3 tcpdump procps \
                 libcap2-bin bpftool util-linux",
            ),
            (
                "dnf",
                "dnf install iproute ethtool nftables nginx curl iperf3 tcpdump procps-ng libcap \
                 bpftool util-linux",
            ),
            (
                "pacman",
                "pacman -S --needed iproute2 ethtool nftables nginx curl iperf3 tcpdump procps-ng \
                 libcap bpf util-linux",
            ),
            (
                "zypper",
                "zypper install iproute2 ethtool nftables nginx curl iperf tcpdump procps \
                 libcap-progs bpftool util-linux",
            ),
        ] {
            let root = Means {
                is_root: true,
                ..means(manager)
            };
            let text = text(None, &TOOLS, &root);
            assert!(text.contains(&format!("\n    {line}\n")), "{text}");
        }
        let unknown = text(None, &TOOLS[..1], &means("none"));
        assert!(unknown.contains("by their names in Debian):\n    iproute2\n"));
    }
}
