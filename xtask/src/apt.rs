//! Packages on Debian and Ubuntu.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::{
    process::{self, say},
    workspace,
};

/// Installs the packages given as arguments, and keeps their services from being started, now or at
/// the next boot. A policy that the administrator has set stays in place.
const INSTALL_SCRIPT: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
fresh=
for service in nginx haproxy; do
    [ -e "/etc/init.d/$service" ] || fresh="$fresh $service"
done
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --no-remove "$@"
for service in $fresh; do
    if [ -e "/etc/init.d/$service" ]; then update-rc.d "$service" disable; fi
done
"#;

/// How this user may install packages.
pub(crate) struct Apt {
    sudo: bool,
}

impl Apt {
    /// None when the system has no apt-get, or the user is neither root nor has sudo.
    pub(crate) fn find() -> Option<Apt> {
        workspace::find_command("apt-get")?;
        let sudo = !geteuid().is_root();
        if sudo {
            workspace::find_command("sudo")?;
        }
        Some(Apt { sudo })
    }

    /// Brings the lists of packages up to date.
    pub(crate) fn update(&self) -> Result<()> {
        say("Updating apt's lists of packages");
        process::run(self.as_root("apt-get").arg("update")).context("update apt's lists")
    }

    /// Those of `packages` that apt's sources do not have.
    pub(crate) fn unknown<'a>(&self, packages: &[&'a str]) -> Vec<&'a str> {
        packages
            .iter()
            .copied()
            .filter(|package| !is_known(package))
            .collect()
    }

    /// What this system calls a package of Debian 12.
    pub(crate) fn named(&self, package: &'static str) -> &'static str {
        named(package, is_known)
    }

    /// Installs packages without starting their services, and without removing any other package.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        say(&format!("Installing {}", packages.join(" ")));
        let mut command = self.as_root("sh");
        command.args(["-c", INSTALL_SCRIPT, "sh"]).args(packages);
        if process::run(&mut command).is_err() {
            bail!(
                "apt-get could not install {} (its own words stand above)",
                packages.join(" ")
            );
        }
        Ok(())
    }

    fn as_root(&self, program: &str) -> Command {
        if self.sudo {
            let mut command = Command::new("sudo");
            command.arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

/// Names that other releases and Ubuntu have for packages of Debian 12. Ubuntu's bpftool belongs to
/// the tools of its kernel.
const OTHER_NAMES: [(&str, &str); 2] =
    [("bpftool", "linux-tools-generic"), ("nginx-light", "nginx")];

/// The package itself where it is known, or neither is.
fn named(package: &'static str, is_known: impl Fn(&str) -> bool) -> &'static str {
    let other = OTHER_NAMES.iter().find(|(debian, _)| *debian == package);
    match other {
        Some((_, other)) if !is_known(package) && is_known(other) => other,
        Some(_) | None => package,
    }
}

fn is_known(package: &str) -> bool {
    // A package that is only referred to by others has a record, and no candidate.
    Command::new("apt-cache")
        .args(["policy", package])
        .env("LC_ALL", "C")
        .output()
        .is_ok_and(|output| has_candidate(&String::from_utf8_lossy(&output.stdout)))
}

fn has_candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_can_be_installed_when_it_has_a_candidate() {
        assert!(has_candidate(
            "curl:\n  Installed: (none)\n  Candidate: 7.88\n"
        ));
        assert!(!has_candidate(
            "curl:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        assert!(!has_candidate(""));
    }

    #[test]
    fn a_package_that_is_not_known_may_have_another_name() {
        let ubuntu = |package: &str| ["linux-tools-generic", "nginx-light"].contains(&package);
        assert_eq!(named("bpftool", ubuntu), "linux-tools-generic");
        assert_eq!(named("nginx-light", ubuntu), "nginx-light");
        assert_eq!(named("bpftool", |_| true), "bpftool");
        assert_eq!(named("bpftool", |_| false), "bpftool");
        assert_eq!(named("curl", |_| false), "curl");
    }
}
