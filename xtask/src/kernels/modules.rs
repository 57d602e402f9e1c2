//! The modules that the checks need, and what these need, in the order of their dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

/// What the checks need. The checksum comes first: who looks it up by its name says so nowhere.
const WANTED: [&str; 10] = [
    "crc32c_generic",
    "veth",
    "bridge",
    "ipip",
    "sit",
    "ip6_tunnel",
    "fou",
    "fou6",
    "8021q",
    "sctp",
];

/// A module that is to be loaded.
#[derive(Debug)]
pub(super) struct Module {
    /// Its name.
    pub(super) name: String,
    /// What the kernel loads.
    pub(super) bytes: Vec<u8>,
}

/// The modules of a kernel in the order in which they can be loaded.
pub(super) fn in_order(directory: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(&directory.join("kernel"), &mut files)?;
    let mut order = Order {
        files,
        built_in: built_in(directory)?,
        seen: BTreeSet::new(),
        modules: Vec::new(),
    };
    for name in WANTED {
        order.add(name)?;
    }
    Ok(order.modules)
}

/// The names of modules that are part of the kernel.
fn built_in(directory: &Path) -> Result<BTreeSet<String>> {
    let path = directory.join("modules.builtin");
    let list = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(list
        .lines()
        .filter_map(|line| module_name(Path::new(line)))
        .collect())
}

/// Every file of a module below a directory, by the module's name.
fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The kernel takes `-` and `_` for the same in names.
fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (name, _) = name.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order {
    /// Adds a module after all that it depends on.
    fn add(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if self.built_in.contains(&name) || !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = self.files.get(&name) else {
            bail!("the kernel has no module {name}");
        };
        let bytes = read(path)?;
        let needs = dependencies(&bytes).with_context(|| format!("read {}", path.display()))?;
        for dependency in needs {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name, bytes });
        Ok(())
    }
}

/// A module's file without its compression.
fn read(path: &Path) -> Result<Vec<u8>> {
    let compressed = path.extension().is_some_and(|extension| extension == "xz");
    if !compressed {
        return fs::read(path).with_context(|| format!("read {}", path.display()));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(path)
        .output()
        .context("start xz")?;
    ensure!(
        output.status.success(),
        "xz could not read {}: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// What a module says that it depends on.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("parse the module")?;
    let section = file
        .section_by_name(".modinfo")
        .context("it has no section .modinfo")?;
    Ok(depends(section.data().context("read its .modinfo")?))
}

/// The names in `depends=` of a module's information, which is text with zeros between.
fn depends(information: &[u8]) -> Vec<String> {
    information
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        let information = b"license=GPL\0depends=ip_tunnel,tunnel4\0name=ipip\0";
        assert_eq!(depends(information), ["ip_tunnel", "tunnel4"]);
        assert_eq!(depends(b"depends=\0name=veth\0"), [""; 0]);
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        let name = |path| module_name(Path::new(path));
        assert_eq!(name("net/ipv4/fou.ko.xz").as_deref(), Some("fou"));
        assert_eq!(name("a/crc32c-intel.ko").as_deref(), Some("crc32c_intel"));
        assert_eq!(name("modules.dep"), None);
    }
}
