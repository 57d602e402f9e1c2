//! The first file system of the emulated machine: our own binaries, the tools that the lab calls, the
//! libraries of both, and modules.

use std::{
    collections::BTreeSet,
    fs,
    fs::File,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{modules, packages::Unpacked};
use crate::{build, process, workspace};

/// Where our own binaries are in the machine. They look for one another in their own directory.
const OURS: &str = "xlb";

/// What the lab calls.
const TOOLS: [&str; 9] = [
    "sh", "ip", "ethtool", "rm", "sleep", "grep", "ls", "cat", "umount",
];

/// Builds the image, and returns its path.
pub(super) fn build(kernel: &Unpacked, directory: &Path) -> Result<PathBuf> {
    let root = directory.join("root");
    // It is made of what was built just now.
    let _ = fs::remove_dir_all(&root);
    for name in [
        OURS, "modules", "usr/bin", "proc", "sys", "dev", "tmp", "run",
    ] {
        make_dir(&root.join(name))?;
    }
    // As on Debian: one directory of programs, by many names.
    for (name, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("usr/sbin", "bin"),
        ("init", "xlb/guest"),
    ] {
        symlink(target, root.join(name)).with_context(|| format!("make the link {name}"))?;
    }
    let mut libraries = BTreeSet::new();
    for name in ["guest", "demo", "xlb-agent"] {
        let from = workspace::binary(name, false);
        let to = root.join(OURS).join(name);
        libraries.extend(libraries_of(&from)?);
        // With what debuggers read, they would not fit into a small machine.
        process::run(Command::new("strip").arg("-o").arg(&to).arg(&from))?;
    }
    for name in TOOLS {
        let from = workspace::find_command(name).with_context(|| format!("find {name}"))?;
        libraries.extend(libraries_of(&from)?);
        copy(&from, &root.join("usr/bin").join(name))?;
    }
    for library in &libraries {
        copy(library, &root.join(library.strip_prefix("/")?))?;
    }
    for object in build::balancer_objects() {
        let name = object.file_name().context("an object has a name")?;
        copy(&object, &root.join(OURS).join(name))?;
    }
    add_modules(kernel, &root)?;
    pack(&root, &directory.join("initramfs"))
}

fn add_modules(kernel: &Unpacked, root: &Path) -> Result<()> {
    let mut order = String::new();
    for module in modules::in_order(&kernel.modules)? {
        let file = format!("{}.ko", module.name);
        let path = root.join("modules").join(&file);
        fs::write(&path, &module.bytes).with_context(|| format!("write {}", path.display()))?;
        order += &format!("{file}\n");
    }
    let path = root.join("modules/order");
    fs::write(&path, order).with_context(|| format!("write {}", path.display()))
}

/// The libraries that a program is linked with, and what loads them.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = process::output(Command::new("ldd").arg(program).env("LC_ALL", "C"))?;
    Ok(parse_libraries(&output))
}

fn parse_libraries(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Copies a file, or what a link stands for, and makes the directories above it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
}

/// Packs a tree the way that kernels unpack it.
fn pack(root: &Path, image: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    list(root, Path::new(""), &mut names)?;
    let file = File::create(image).with_context(|| format!("make {}", image.display()))?;
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--owner=0:0", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .context("start cpio")?;
    let mut stdin = cpio.stdin.take().context("its input is a pipe")?;
    for name in names {
        writeln!(stdin, "{}", name.display()).context("tell cpio what to pack")?;
    }
    drop(stdin);
    let status = cpio.wait().context("wait for cpio")?;
    ensure!(status.success(), "cpio failed ({status})");
    Ok(image.to_owned())
}

/// Names below a directory, each after the directory that it is in.
fn list(root: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let directory = root.join(below);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = below.join(entry.file_name());
        names.push(name.clone());
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_libraries(ldd), expected.map(PathBuf::from));
    }
}
