//! The emulated machine.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{packages::Unpacked, report::Finding};
use crate::process;

/// Longer than all checks take on a machine that is busy besides.
const LIMIT: &str = "90m";

/// What the kernel is told. One that panics reboots, which ends the machine. Words that it does not know,
/// with `=` in them, it passes on to the first process in its environment.
/// The timer is not tested at boot, which fails where the emulation gets no turn for a moment.
const PARAMETERS: &str =
    "console=ttyS0 quiet panic=-1 no_timer_check XLB_EBPF_OBJECT=/xlb/xlb-ebpf";

/// Boots a kernel, waits until the machine is off, and returns what its first process has found.
pub(super) fn boot(kernel: &Unpacked, image: &Path, directory: &Path) -> Result<Vec<Finding>> {
    let (console, port) = (directory.join("console.log"), directory.join("findings"));
    fs::write(&port, "").with_context(|| format!("empty {}", port.display()))?;
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", LIMIT, "qemu-system-x86_64"])
        // Emulation is slow, and is there on every machine.
        .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel.kernel)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(PARAMETERS)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", port.display()))
        .stdin(Stdio::null());
    // At Ctrl-C the machine ends with us.
    process::run_group(&mut command)?;
    let text = fs::read_to_string(&port).with_context(|| format!("read {}", port.display()))?;
    let findings = parse(&text)?;
    ensure!(
        !findings.is_empty(),
        "user space was not reached; the console stands in {}",
        console.display()
    );
    Ok(findings)
}

fn parse(text: &str) -> Result<Vec<Finding>> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line.trim())
                .with_context(|| format!("read what the machine has found: {line}"))
        })
        .collect()
}
