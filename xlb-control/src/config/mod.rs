//! The configuration file: its model, how it is read, and every complaint about it.
//!
//! ```text
//! file -> toml's tree with spans -> decode -> Config + places -> invariants -> Loaded or Diagnostics
//!                        Config + Changes -> overrides::apply -> invariants -> Config in force
//! ```
//!
//! A backend that decapsulates has a file of its own, read the same way into a [`Decapsulation`].

mod decapsulation;
mod decode;
mod diagnostics;
mod invariants;
pub mod limits;
mod model;
mod names;
pub mod overrides;
mod prime;
mod rules;
pub mod spread;
mod suggest;
mod vip;

#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use decapsulation::Decapsulation;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use invariants::check_invariants;
pub use model::*;
pub use names::{Named, UnknownName};
pub use vip::{At, NoPorts, NoVip, Ports, Specificity, Vip};

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "/etc/xlb/xlb.toml";

/// A configuration that was read, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<C = Config> {
    /// The configuration.
    pub config: C,
    /// Complaints that don't keep it from being used.
    pub warnings: Diagnostics,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("read {}: {error}; {}", path.display(), advice(error.kind()))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is too large to be meant.
    #[error("read {}: it is larger than {} MiB; name another file", path.display(), limits::MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file was read, and is refused.
    #[error("{0}")]
    Invalid(Diagnostics),
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or when at least one of the complaints about it is an error;
    /// then with all of them, warnings included.
    pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
        let text = read(path)?;
        Self::parse(&path.display().to_string(), &text).map_err(ConfigError::Invalid)
    }

    /// Reads the text of a file; the name is for the complaints.
    ///
    /// # Errors
    ///
    /// When at least one of the complaints is an error; then with all of them, warnings included.
    pub fn parse(file_name: &str, text: &str) -> Result<Loaded, Diagnostics> {
        decode::decode(file_name, text)
    }
}

/// Reads the text of a configuration file.
///
/// # Errors
///
/// When the file can't be read, or is no text.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let read_error = |error| ConfigError::Read {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| {
            file.take(limits::MAX_FILE_BYTES + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(read_error)?;
    if bytes.len() as u64 > limits::MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        ConfigError::Invalid(decode::not_utf8(&path.display().to_string(), &error))
    })
}

const fn advice(kind: io::ErrorKind) -> &'static str {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system has many kinds of errors, and most have the same advice"
    )]
    match kind {
        io::ErrorKind::NotFound => "create it, or name another file",
        io::ErrorKind::PermissionDenied => "run as a user that may read it, or change its mode",
        io::ErrorKind::IsADirectory => "name the file in it with --config",
        _ => "check the path and its file system, or name another file",
    }
}
