//! Whether the licences of all dependencies allow what xlb does with them.

use anyhow::{Context, Result};
use cargo_metadata::Metadata;
use spdx::{Expression, LicenseReq, ParseMode};

/// Licences that go together with xlb's own, Apache-2.0 OR MIT.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The kernel's helpers demand this of the programs that call them, and of nothing else.
const EBPF_PACKAGE: &str = "xlb-ebpf";
const EBPF_LICENCE: &str = "GPL-2.0-only";

/// Every package whose licence is missing, unreadable or not allowed, with the reason.
pub(crate) fn refused(metadata: &Metadata) -> Vec<String> {
    metadata
        .packages
        .iter()
        .filter_map(|package| {
            judge(&package.name, package.license.as_deref())
                .err()
                .map(|reason| format!("{} {}: {reason:#}", package.name, package.version))
        })
        .collect()
}

fn judge(package: &str, licence: Option<&str>) -> Result<()> {
    let text = licence.context("it names no licence")?;
    // Older crates write MIT/Apache-2.0.
    let expression = Expression::parse_mode(text, ParseMode::LAX)
        .with_context(|| format!("{text} is no SPDX expression"))?;
    let allowed = expression.evaluate(|licence| is_allowed(package, licence));
    anyhow::ensure!(allowed, "{text} is not among the licences that we allow");
    Ok(())
}

fn is_allowed(package: &str, licence: &LicenseReq) -> bool {
    // An exception (WITH) only gives further rights, so the licence itself decides.
    let name = licence.license.to_string();
    ALLOWED.contains(&name.as_str()) || (package == EBPF_PACKAGE && name == EBPF_LICENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(package: &str, licence: Option<&str>) -> bool {
        judge(package, licence).is_ok()
    }

    #[test]
    fn one_side_of_an_or_is_enough() {
        assert!(fits("a", Some("LGPL-2.1-or-later OR MIT")));
        assert!(fits("a", Some("MIT/Apache-2.0")));
        assert!(fits(
            "a",
            Some("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only")
        ));
    }

    #[test]
    fn both_sides_of_an_and_must_fit() {
        assert!(fits("a", Some("(MIT OR Apache-2.0) AND Unicode-3.0")));
        assert!(!fits("a", Some("MIT AND GPL-3.0-only")));
    }

    #[test]
    fn the_gpl_is_for_the_ebpf_programs_only() {
        assert!(fits("xlb-ebpf", Some("GPL-2.0-only")));
        assert!(!fits("a", Some("GPL-2.0-only")));
        assert!(!fits("xlb-ebpf", Some("GPL-3.0-only")));
    }

    #[test]
    fn no_licence_and_no_expression_do_not_fit() {
        assert!(!fits("a", None));
        assert!(!fits("a", Some("see the file")));
    }
}
