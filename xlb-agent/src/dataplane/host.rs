//! What the host must offer, checked before anything is tried.

use caps::{CapSet, Capability};

use super::error::DataplaneError;

/// Oldest kernel that has all that is used: XDP links (5.9), mapped arrays (5.5), the ring buffer
/// (5.8), the coarse clock (5.11), batches of tries (5.13), and memory accounted to the cgroup.
const KERNEL_NEEDED: (u32, u32) = (5, 15);

/// Checks that this process may do what the data path needs, and that the kernel can.
///
/// # Errors
///
/// Names every capability that is missing, or the kernel that is too old.
pub fn check() -> Result<(), DataplaneError> {
    check_capabilities(|capability| {
        caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
    })?;
    let release = nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |name| name.release().to_string_lossy().into_owned(),
    );
    check_kernel(&release)
}

fn check_capabilities(has: impl Fn(Capability) -> bool) -> Result<(), DataplaneError> {
    // Since 5.8, CAP_SYS_ADMIN stands for the two that were split off from it.
    let missing: Vec<&'static str> = [
        (Capability::CAP_BPF, "CAP_BPF", true),
        (Capability::CAP_PERFMON, "CAP_PERFMON", true),
        (Capability::CAP_NET_ADMIN, "CAP_NET_ADMIN", false),
    ]
    .into_iter()
    .filter(|&(capability, _, of_admin)| {
        !(has(capability) || of_admin && has(Capability::CAP_SYS_ADMIN))
    })
    .map(|(_, name, _)| name)
    .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(DataplaneError::MissingCapabilities(missing))
    }
}

fn check_kernel(release: &str) -> Result<(), DataplaneError> {
    // A release that can't be read is not a reason to refuse: the kernel will say what it lacks.
    match version(release) {
        Some(version) if version < KERNEL_NEEDED => Err(DataplaneError::KernelTooOld {
            found: release.to_owned(),
            needed: KERNEL_NEEDED,
        }),
        Some(_) | None => Ok(()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named() {
        assert!(check_kernel("6.18.44-custom").is_ok());
        assert!(check_kernel("5.15.0").is_ok());
        assert!(check_kernel("unknown").is_ok());
        let error = check_kernel("5.4.0-150-generic").expect_err("too old");
        assert_eq!(
            error.to_string(),
            "Linux 5.4.0-150-generic is too old: xlb needs 5.15 or newer"
        );
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert!(check_capabilities(|_| true).is_ok());
        let error = check_capabilities(|capability| capability == Capability::CAP_BPF)
            .expect_err("two are missing");
        assert!(
            error
                .to_string()
                .starts_with("missing CAP_PERFMON, CAP_NET_ADMIN:"),
            "{error}"
        );
        let error = check_capabilities(|capability| capability == Capability::CAP_SYS_ADMIN)
            .expect_err("one is missing");
        assert!(
            error.to_string().starts_with("missing CAP_NET_ADMIN:"),
            "{error}"
        );
    }
}
