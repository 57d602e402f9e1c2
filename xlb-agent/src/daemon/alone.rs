//! What an agent has for itself: its directories and its socket.

use std::{ffi::OsString, path::Path};

use anyhow::Context;
use xlb_control::api::Changed;

use super::vips;
use crate::{dataplane, lock::Lock, options::Options};

/// Makes the directories of an agent and locks them and its socket, so that no other agent uses
/// one of them.
///
/// # Errors
///
/// When this process may not be an agent, or when another one is there: then with its pid.
pub(super) fn take(options: &Options) -> anyhow::Result<Lock> {
    dataplane::check_host()?;
    let create = |path: &Path| {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
    };
    create(&options.state_dir)?;
    if let Some(directory) = options.socket.parent() {
        create(directory)?;
    }
    dataplane::prepare_pin_dir(&options.pin_dir)?;
    // The socket itself comes and goes with the agent, so what is locked stands beside it.
    let mut socket_lock = OsString::from(&options.socket);
    socket_lock.push(".lock");
    let paths = [
        options.state_dir.as_path(),
        options.pin_dir.as_path(),
        Path::new(&socket_lock),
    ];
    Ok(Lock::acquire(&paths)?)
}

/// Removes everything that an agent left: the addresses that it added, links, program, maps.
///
/// # Errors
///
/// When an agent runs, or the pins can't be removed.
pub fn unload(options: &Options) -> anyhow::Result<Changed> {
    // A user who may not look into the directory would be told that there is nothing.
    dataplane::check_host()?;
    let mut paths = [options.state_dir.as_path(), options.pin_dir.as_path()].to_vec();
    paths.retain(|path| path.exists());
    let _lock = Lock::acquire(&paths)?;
    // While there is still a program that answers for them, so that the host resets nothing.
    let mut done = vips::remove_all(&options.state_dir)?;
    done.extend(dataplane::unload(&options.pin_dir)?);
    Ok(Changed {
        done,
        warnings: Vec::new(),
    })
}
