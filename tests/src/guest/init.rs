//! What a first process has to do: mount what programs expect, load modules, switch the machine off.

use std::{ffi::CString, fs, fs::File, os::fd::AsRawFd, path::Path};

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    unistd::sync,
};

/// Where the image says which modules to load, in this order.
const MODULES: &str = "/modules/order";

/// Mounts the file systems that programs expect.
pub(super) fn prepare() -> Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
    ] {
        fs::create_dir_all(target).with_context(|| format!("make {target}"))?;
        mount(
            Some(kind),
            Path::new(target),
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mount {target}"))?;
    }
    Ok(())
}

/// Loads the kernel's modules in the order of their dependencies, as the image has it.
pub(super) fn load_modules() -> Result<()> {
    let order = fs::read_to_string(MODULES).with_context(|| format!("read {MODULES}"))?;
    for name in order.lines() {
        let path = Path::new(MODULES).with_file_name(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let parameters = CString::default();
        // SAFETY: the kernel reads a descriptor that is open and a string that ends in a zero.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                file.as_raw_fd(),
                parameters.as_ptr(),
                0,
            )
        };
        if answer != 0 {
            let error = std::io::Error::last_os_error();
            return Err(error).with_context(|| format!("load the module {name}"));
        }
    }
    Ok(())
}

/// Switches the machine off.
pub(super) fn power_off() -> ! {
    sync();
    // What was said on the serial ports is on its way through them.
    std::thread::sleep(std::time::Duration::from_millis(200));
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        // Who is not allowed to is not the first process.
        Err(error) => panic!("switch the machine off: {error}"),
    }
}
