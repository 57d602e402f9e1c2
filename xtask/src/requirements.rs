//! The programs that the demonstration, the tests and the benchmark call, and the package of each on Debian.

use std::{path::Path, process::Command};

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

/// Makes interfaces, addresses and routes.
const IP: Tool = Tool {
    command: "ip",
    package: "iproute2",
};

/// Switches offloads of interfaces.
const ETHTOOL: Tool = Tool {
    command: "ethtool",
    package: "ethtool",
};

/// What the demonstration and the tests call.
pub(crate) const TOOLS: [Tool; 11] = [
    IP,
    ETHTOOL,
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

/// What the benchmark calls besides.
const BENCH_TOOLS: [Tool; 1] = [Tool {
    command: "haproxy",
    package: "haproxy",
}];

/// What `cargo xtask kernels` calls besides.
const KERNEL_TOOLS: [Tool; 5] = [
    Tool {
        command: "qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Tool {
        command: "cpio",
        package: "cpio",
    },
    Tool {
        command: "xz",
        package: "xz-utils",
    },
    IP,
    ETHTOOL,
];

/// What builds libFuzzer, for `cargo xtask fuzz --parsers`.
const PARSER_TOOLS: [Tool; 1] = [Tool {
    command: "c++",
    package: "g++",
}];

/// What nginx balances connections with. Debian has it in a package of its own.
const STREAM_MODULE: Tool = Tool {
    command: "nginx's stream module",
    package: "libnginx-mod-stream",
};

/// Where Debian's package puts it.
const STREAM_MODULE_PATH: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The tools of `TOOLS` that are not on this machine.
pub(crate) fn missing_tools() -> Vec<Tool> {
    missing_of(&TOOLS)
}

/// What the benchmark calls besides and is not on this machine.
pub(crate) fn missing_bench_tools() -> Vec<Tool> {
    let mut missing = missing_of(&BENCH_TOOLS);
    let built_in = || {
        let output = Command::new("nginx").arg("-V").output();
        output.is_ok_and(|output| has_stream(&String::from_utf8_lossy(&output.stderr)))
    };
    if !Path::new(STREAM_MODULE_PATH).exists() && !built_in() {
        missing.push(STREAM_MODULE);
    }
    missing
}

/// What `cargo xtask kernels` calls and is not on this machine.
pub(crate) fn missing_kernel_tools() -> Vec<Tool> {
    missing_of(&KERNEL_TOOLS)
}

/// What `cargo xtask fuzz --parsers` calls and is not on this machine.
pub(crate) fn missing_parser_tools() -> Vec<Tool> {
    missing_of(&PARSER_TOOLS)
}

fn missing_of(tools: &[Tool]) -> Vec<Tool> {
    tools
        .iter()
        .copied()
        .filter(|tool| workspace::find_command(tool.command).is_none())
        .collect()
}

/// Whether nginx, by its own account, was built with the stream module in it.
fn has_stream(account: &str) -> bool {
    account
        .split_whitespace()
        .any(|word| word == "--with-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_has_to_be_loaded_is_not_built_in() {
        assert!(has_stream(
            "configure arguments: --with-stream --with-debug"
        ));
        let dynamic = "configure arguments: --with-stream=dynamic --with-stream_ssl_module";
        assert!(!has_stream(dynamic));
    }
}
