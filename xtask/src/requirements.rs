//! The programs that the demonstration and the tests call, and the package of each on Debian.

use crate::workspace;

/// A program that is called by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) command: &'static str,
    pub(crate) package: &'static str,
}

/// The packages that give the system a Rust which builds for the eBPF target. The names of Debian 12
/// say "web": they are the versions that follow Firefox, and newer than the release's own.
pub(crate) const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];

/// The packages that bpf-linker is built with. The LLVM is that of `COMPILER_PACKAGES`.
pub(crate) const LINKER_PACKAGES: [&str; 3] = ["llvm-22-dev", "gcc", "libc6-dev"];

/// The major version of LLVM in `LINKER_PACKAGES`.
pub(crate) const LINKER_LLVM: u32 = 22;

/// The version of bpf-linker that setup installs.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// What the demonstration and the tests call.
pub(crate) const TOOLS: [Tool; 11] = [
    Tool {
        command: "ip",
        package: "iproute2",
    },
    Tool {
        command: "ethtool",
        package: "ethtool",
    },
    Tool {
        command: "nft",
        package: "nftables",
    },
    Tool {
        command: "nginx",
        package: "nginx-light",
    },
    Tool {
        command: "curl",
        package: "curl",
    },
    Tool {
        command: "iperf3",
        package: "iperf3",
    },
    Tool {
        command: "tcpdump",
        package: "tcpdump",
    },
    Tool {
        command: "ps",
        package: "procps",
    },
    Tool {
        command: "capsh",
        package: "libcap2-bin",
    },
    Tool {
        command: "bpftool",
        package: "bpftool",
    },
    Tool {
        command: "nsenter",
        package: "util-linux",
    },
];

/// The tools of `TOOLS` that are not on this machine.
pub(crate) fn missing_tools() -> Vec<Tool> {
    TOOLS
        .into_iter()
        .filter(|tool| workspace::find_command(tool.command).is_none())
        .collect()
}
