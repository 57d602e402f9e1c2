//! Where an agent keeps what it shares with the world: validated once, then taken as true.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The configuration file of a host with one agent.
pub const DEFAULT_CONFIG: &str = "/etc/xlb/xlb.toml";
/// The configuration file of a backend that decapsulates.
pub const DEFAULT_BACKEND_CONFIG: &str = xlb_control::config::Decapsulation::DEFAULT_PATH;

/// The control socket of a host with one agent.
pub const DEFAULT_SOCKET: &str = "/run/xlb/agent.sock";
/// The pin directory of a host with one agent; it has to be on bpffs.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/xlb";
/// The state directory of a host with one agent.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/xlb";

/// Longest path of a Unix socket in bytes: `sun_path` has 108, one of them for the final NUL
/// (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Paths of an agent, all of them absolute, so that they mean the same after a change of directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The Unix socket of the control API.
    pub socket: PathBuf,
    /// The directory on bpffs that holds maps, program and link.
    pub pin_dir: PathBuf,
    /// The directory that holds what must outlive a reboot.
    pub state_dir: PathBuf,
    /// Where metrics are served besides the control socket.
    pub metrics: Option<SocketAddr>,
    /// Whether connections move together with slots, so that what transitions are good for can be
    /// measured.
    pub without_transitions: bool,
}

/// Why paths can't be an agent's.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// The working directory is needed for a relative path and is not known.
    #[error("make the path `{}` absolute", path.display())]
    Relative {
        /// The path as it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel has no room for the name of the socket.
    #[error(
        "the socket's path `{}` has {bytes} bytes, and a Unix socket's has {SOCKET_PATH_BYTES_MAX} at most; \
         choose a shorter one with --socket or XLB_SOCKET",
        path.display()
    )]
    SocketPathTooLong {
        /// The absolute path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Two directories that are removed under different rules are one.
    #[error("--pin-dir and --state-dir are both `{}`; they have to differ", path.display())]
    SameDirectory {
        /// The path.
        path: PathBuf,
    },
}

impl Options {
    /// Makes the paths absolute and checks what can be known without touching them.
    ///
    /// # Errors
    /// See [`OptionsError`].
    pub fn new(
        config: &Path,
        socket: &Path,
        pin_dir: &Path,
        state_dir: &Path,
    ) -> Result<Self, OptionsError> {
        let options = Self {
            config: absolute(config)?,
            socket: absolute(socket)?,
            pin_dir: absolute(pin_dir)?,
            state_dir: absolute(state_dir)?,
            metrics: None,
            without_transitions: false,
        };
        let bytes = options.socket.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(OptionsError::SocketPathTooLong {
                path: options.socket,
                bytes,
            });
        }
        if options.pin_dir == options.state_dir {
            return Err(OptionsError::SameDirectory {
                path: options.pin_dir,
            });
        }
        Ok(options)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, OptionsError> {
    std::path::absolute(path).map_err(|source| OptionsError::Relative {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(socket: &str, pin_dir: &str) -> Result<Options, OptionsError> {
        Options::new(
            Path::new("xlb.toml"),
            Path::new(socket),
            Path::new(pin_dir),
            Path::new(DEFAULT_STATE_DIR),
        )
    }

    #[test]
    fn relative_paths_become_absolute() {
        let options = options(DEFAULT_SOCKET, DEFAULT_PIN_DIR).unwrap();
        assert_eq!(
            options.config,
            std::env::current_dir().unwrap().join("xlb.toml")
        );
        assert_eq!(options.socket, Path::new(DEFAULT_SOCKET));
    }

    #[test]
    fn a_socket_path_has_to_fit_the_kernel() {
        let fits = format!("/{}", "s".repeat(SOCKET_PATH_BYTES_MAX - 1));
        assert!(options(&fits, DEFAULT_PIN_DIR).is_ok());
        let error = options(&format!("{fits}s"), DEFAULT_PIN_DIR).unwrap_err();
        assert!(error.to_string().contains("has 108 bytes"), "{error}");
    }

    #[test]
    fn pins_and_state_are_kept_apart() {
        let error = options(DEFAULT_SOCKET, DEFAULT_STATE_DIR).unwrap_err();
        assert!(matches!(error, OptionsError::SameDirectory { .. }));
    }
}
