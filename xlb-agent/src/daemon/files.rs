//! The configuration file with its hash; and how many files the agent may have open: each probe in
//! flight holds one.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sha2::{Digest, Sha256};
use xlb_control::{
    config::{self, Config, ConfigError, Loaded},
    health::MAX_PROBES_IN_FLIGHT,
};

/// Files besides those of probes: a few dozen of maps and netlink, and clients of the control API.
const OWN_FILES: u64 = 256;

/// The limit under which all probes may be in flight.
const ENOUGH: u64 = MAX_PROBES_IN_FLIGHT as u64 + OWN_FILES;

/// Reads a configuration file; gives its SHA-256 in hexadecimal digits, too.
pub(super) fn load(path: &Path) -> Result<(Loaded, String), ConfigError> {
    let text = config::read(path)?;
    let name = path.display().to_string();
    let loaded = Config::parse(&name, &text).map_err(ConfigError::Invalid)?;
    Ok((loaded, sha256(&text)))
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Raises the limit of open files as far as probes need it, and says how many of these may be in
/// flight. The hard limit stays: it is the operator's.
pub(super) fn probes_in_flight() -> usize {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "reading the limit of open files");
            return probes_within(OWN_FILES);
        }
    };
    let wanted = ENOUGH.min(hard);
    let limit = if soft >= wanted {
        soft
    } else {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
            Ok(()) => wanted,
            Err(error) => {
                tracing::warn!(%error, "raising the limit of open files to {wanted}");
                soft
            }
        }
    };
    let probes = probes_within(limit);
    if probes < MAX_PROBES_IN_FLIGHT {
        tracing::warn!(
            "at most {limit} files may be open, so that at most {probes} probes run at a time \
             instead of {MAX_PROBES_IN_FLIGHT}: set the hard limit to {ENOUGH} (systemd: \
             LimitNOFILE={ENOUGH})"
        );
    }
    probes
}

/// Probes that may be in flight when so many files may be open: what the agent's own leave, but not
/// less than half.
fn probes_within(limit: u64) -> usize {
    let left = limit.saturating_sub(OWN_FILES).max(limit / 2);
    usize::try_from(left).map_or(MAX_PROBES_IN_FLIGHT, |left| left.min(MAX_PROBES_IN_FLIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_take_what_the_agents_own_files_leave() {
        for (limit, probes) in [
            (u64::MAX, MAX_PROBES_IN_FLIGHT),
            (ENOUGH, MAX_PROBES_IN_FLIGHT),
            (ENOUGH - 1, MAX_PROBES_IN_FLIGHT - 1),
            (1_024, 768),
            (512, 256),
            (100, 50),
        ] {
            assert_eq!(probes_within(limit), probes, "{limit} files");
        }
    }
}
