//! Debian's packages of kernels: which there are, and what is in them. None is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, say};

/// The package that depends on the kernel of the release.
const OF_THE_RELEASE: &str = "linux-image-amd64";

/// What the packages of the newer kernel begin and end with; between is the patch level.
const NEWER: (&str, &str) = ("linux-image-6.12.", "+deb12-amd64-unsigned");

/// A kernel that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Name of its package.
    pub(super) package: String,
}

/// A kernel whose package was unpacked.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    /// Release, as `uname -r` says it.
    pub(super) release: String,
    /// The kernel itself.
    pub(super) kernel: PathBuf,
    /// Directory of its modules.
    pub(super) modules: PathBuf,
}

/// The kernels of Debian 12: the release's own, and the newest of its backported 6.12.
pub(super) fn find() -> Result<Vec<Kernel>> {
    let depends = apt_cache(&["depends", OF_THE_RELEASE])?;
    let newer = apt_cache(&["pkgnames", NEWER.0])?;
    let own = own_of(&depends).with_context(|| {
        format!("apt knows no kernel that {OF_THE_RELEASE} depends on: `apt-get update` may help")
    })?;
    let newest = newest_of(&newer).with_context(|| {
        format!(
            "apt knows no package {}*{}: Debian 12 has it, after `apt-get update`",
            NEWER.0, NEWER.1
        )
    })?;
    Ok([own, newest]
        .map(|package| Kernel {
            package: package.to_owned(),
        })
        .into())
}

fn apt_cache(words: &[&str]) -> Result<String> {
    process::output(Command::new("apt-cache").args(words).env("LC_ALL", "C"))
        .context("ask apt for kernels, which takes Debian 12 or what has its sources")
}

fn own_of(depends: &str) -> Option<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
}

fn newest_of(names: &str) -> Option<&str> {
    names
        .lines()
        .filter_map(|name| {
            let patch_level = name.strip_prefix(NEWER.0)?.strip_suffix(NEWER.1)?;
            Some((patch_level.parse::<u32>().ok()?, name))
        })
        .max()
        .map(|(_, name)| name)
}

/// Downloads and unpacks a package, unless that was done before.
pub(super) fn unpack(kernel: &Kernel, directory: &Path) -> Result<Unpacked> {
    let root = directory.join("package");
    if !root.exists() {
        say(&format!("Downloading {}", kernel.package));
        let fresh = directory.join("package.new");
        // What an earlier run was stopped in is begun anew.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(&fresh).with_context(|| format!("make {}", fresh.display()))?;
        process::run(
            Command::new("apt-get")
                .args(["--quiet", "download", &kernel.package])
                .current_dir(directory),
        )?;
        let archive = archive_in(directory)?;
        process::run(
            Command::new("dpkg")
                .arg("--extract")
                .arg(&archive)
                .arg(&fresh),
        )?;
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
        fs::rename(&fresh, &root).with_context(|| format!("rename {}", fresh.display()))?;
    }
    look_at(&root)
}

fn archive_in(directory: &Path) -> Result<PathBuf> {
    names_in(directory)?
        .into_iter()
        .find(|name| name.ends_with(".deb"))
        .map(|name| directory.join(name))
        .with_context(|| format!("apt-get has left no package in {}", directory.display()))
}

fn look_at(root: &Path) -> Result<Unpacked> {
    let modules = root.join("lib/modules");
    let releases = names_in(&modules)?;
    let [release] = &releases[..] else {
        bail!("{} holds not one kernel: {releases:?}", modules.display());
    };
    let kernel = root.join(format!("boot/vmlinuz-{release}"));
    ensure!(kernel.is_file(), "{} is not there", kernel.display());
    Ok(Unpacked {
        release: release.clone(),
        kernel,
        modules: modules.join(release),
    })
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    fs::read_dir(directory)
        .with_context(|| format!("read {}", directory.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_the_one_of_the_highest_patch_level() {
        let names = "linux-image-6.12.9+deb12-amd64-unsigned\n\
                     linux-image-6.12.117+deb12-amd64-unsigned\n\
                     linux-image-6.12.118+deb12-cloud-amd64-unsigned\n\
                     linux-image-6.12.115+deb12-amd64\n";
        let newest = newest_of(names);
        assert_eq!(newest, Some("linux-image-6.12.117+deb12-amd64-unsigned"));
        assert_eq!(newest_of(""), None);
    }

    #[test]
    fn the_release_has_one_of_its_own() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(own_of(depends), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(own_of("linux-image-amd64\n"), None);
    }
}
