//! One agent at a time on a pin directory, a state directory and a socket.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{linux::fs::MetadataExt, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};
use thiserror::Error;

/// Why a lock could not be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody has it.
    #[error(
        "another agent ({}) uses {path}; stop it, or give this one its own --pin-dir, --socket and \
         --state-dir",
        .pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}")),
        path = .path.display()
    )]
    Held {
        /// What is locked.
        path: PathBuf,
        /// Who has it, if this process may see that.
        pid: Option<u32>,
    },
    /// The path can't be opened or locked.
    #[error("lock {}", .path.display())]
    Open {
        /// What was to be locked.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Locks that end with the process, or when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _held: Vec<Flock<File>>,
}

impl Lock {
    /// Locks each path: a directory as it is, any other path as a file that is made if it is missing
    /// and stays. All or none.
    ///
    /// # Errors
    ///
    /// Names the path, and who holds it.
    pub fn acquire(paths: &[&Path]) -> Result<Self, LockError> {
        let held = paths
            .iter()
            .map(|path| acquire(path))
            .collect::<Result<_, _>>()?;
        Ok(Self { _held: held })
    }
}

fn acquire(path: &Path) -> Result<Flock<File>, LockError> {
    let failed = |source| LockError::Open {
        path: path.to_owned(),
        source,
    };
    let file = if path.is_dir() {
        File::open(path)
    } else {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    }
    .map_err(failed)?;
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    locked.map_err(|(file, error)| {
        if error != Errno::EWOULDBLOCK {
            return failed(error.into());
        }
        LockError::Held {
            path: path.to_owned(),
            pid: holder(&file),
        }
    })
}

/// The process that has a path locked, if one has and this process may see it.
#[must_use]
pub fn holder_of(path: &Path) -> Option<u32> {
    holder(&File::open(path).ok()?)
}

fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let device = metadata.st_dev();
    let name = format!(
        "{:02x}:{:02x}:{}",
        major(device),
        minor(device),
        metadata.st_ino()
    );
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &name)
}

/// Finds the process in the text of `/proc/locks`, whose lines are like
/// `1: FLOCK  ADVISORY  WRITE 123 00:1b:4711 0 EOF`; those that wait have an arrow.
fn holder_in(locks: &str, file: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, inode, ..] if inode == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xlb.sock.lock");
        let paths = [dir.path(), socket.as_path()];
        let first = Lock::acquire(&paths).expect("free");

        let error = Lock::acquire(&paths).expect_err("held");
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "another agent (pid {pid}) uses {}; stop it, or give this one its own --pin-dir, \
                 --socket and --state-dir",
                dir.path().display()
            )
        );

        drop(first);
        Lock::acquire(&paths).expect("free again");
    }

    #[test]
    fn what_one_of_several_paths_lacks_frees_the_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("no/such/directory");
        let error = Lock::acquire(&[dir.path(), &missing]).expect_err("missing");
        assert!(matches!(error, LockError::Open { .. }), "{error}");
        Lock::acquire(&[dir.path()]).expect("free");
    }

    #[test]
    fn the_holder_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 00:1b:4711 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 123 00:1b:4711 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 456 00:1b:4711 0 EOF\n";
        assert_eq!(holder_in(locks, "00:1b:4711"), Some(123));
        assert_eq!(holder_in(locks, "00:1b:4712"), None);
    }
}
