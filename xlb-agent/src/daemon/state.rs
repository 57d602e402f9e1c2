//! What outlives the agent: the hash key and the changes made at run time.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xlb_control::{
    api::Change,
    config::{Config, HashKey},
};

/// The hash key: the configuration's, or the one that was generated here once.
///
/// # Errors
///
/// When the state directory can't be read or written, or what stands there is no key.
pub(super) fn hash_key(config: &Config, state_dir: &Path) -> anyhow::Result<[u8; 16]> {
    if let Some(key) = known_hash_key(config, state_dir)? {
        return Ok(key);
    }
    let key: [u8; 16] = rand::random();
    write(&hash_key_path(state_dir), &key)?;
    Ok(key)
}

/// The same, if there is one.
///
/// # Errors
///
/// As for [`kept_hash_key`].
pub(crate) fn known_hash_key(
    config: &Config,
    state_dir: &Path,
) -> anyhow::Result<Option<[u8; 16]>> {
    match config.dataplane.hash_key {
        Some(HashKey(key)) => Ok(Some(key)),
        None => kept_hash_key(state_dir),
    }
}

fn hash_key_path(state_dir: &Path) -> PathBuf {
    state_dir.join("hash-key")
}

/// The hash key that was generated here once, if one was.
///
/// # Errors
///
/// When the state directory can't be read, or what stands there is no key.
pub(super) fn kept_hash_key(state_dir: &Path) -> anyhow::Result<Option<[u8; 16]>> {
    let path = hash_key_path(state_dir);
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().map(Some).map_err(|bytes: Vec<u8>| {
            anyhow::anyhow!(
                "{} has {} bytes instead of 16: set dataplane.hash_key, or remove the file, which \
                 moves every connection",
                path.display(),
                bytes.len()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The changes made at run time.
///
/// # Errors
///
/// When they can't be read.
pub(super) fn changes(state_dir: &Path) -> anyhow::Result<Vec<Change>> {
    let path = state_dir.join("changes.json");
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is damaged: move it away to start without",
                path.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Keeps the changes made at run time.
///
/// # Errors
///
/// When they can't be written; the old ones stay.
pub(super) fn keep_changes(state_dir: &Path, changes: &[Change]) -> anyhow::Result<()> {
    write(
        &state_dir.join("changes.json"),
        &serde_json::to_vec_pretty(changes)?,
    )
}

/// Replaces a file as a whole.
///
/// # Errors
///
/// When it can't be written; the old one stays.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    let replace = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    replace().with_context(|| format!("write {}", path.display()))
}
