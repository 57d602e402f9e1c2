//! The guardian: a shell that removes what outlives file descriptors, when this process ends.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Waits for the end of the lab, which it sees as a line, or, if the process died, as the end of
/// its standard input. In that case it gives the lab's processes a moment to be dead.
const GUARD: &str = r#"
read -r line || sleep 0.3
[ -e "$1/kept" ] || exec sh "$1/remove.sh"
"#;

/// Takes the lab down. Only a lab that can be kept has named namespaces and a visible mount.
fn removal_script(name: &str, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"#!/bin/sh
# Takes down the lab {name}.
for namespace in $(ls /run/netns 2>/dev/null | grep '^{name}-'); do
    for process in $(ip netns pids "$namespace"); do kill -9 "$process"; done
    ip netns del "$namespace"
done
if grep -q ' {directory}/bpf ' /proc/mounts; then umount -l '{directory}/bpf'; fi
rm -rf '{directory}'
"#
    )
}

pub(super) struct Guardian {
    shell: Child,
}

impl Guardian {
    pub(super) fn start(name: &str, directory: &Path) -> Self {
        let script = directory.join("remove.sh");
        fs::write(&script, removal_script(name, directory)).expect("write the removal script");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "xlb-lab-guardian"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: setsid() is a system call that may be made between fork and exec.
        unsafe {
            // In a session of its own it does not get the terminal's Ctrl-C.
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        let shell = command.spawn().expect("start the lab's guardian");
        Self { shell }
    }

    /// From now on the lab in `directory` stays. Returns the script that takes it down.
    pub(super) fn keep(directory: &Path) -> PathBuf {
        fs::write(directory.join("kept"), "").expect("mark the lab as kept");
        directory.join("remove.sh")
    }

    /// Removes what there is to remove, and waits for that.
    pub(super) fn finish(mut self) {
        // A guardian that somebody killed cannot be told; there is nothing better to do here.
        if let Some(mut stdin) = self.shell.stdin.take() {
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}
