//! What was found on a kernel, in one line.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde::Deserialize;

use super::packages::Kernel;

/// What the first process says: `xlb_tests::guest::Finding`, whose crate is not linked here, since
/// whoever only builds needs none of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(super) enum Finding {
    Booted {
        release: String,
    },
    Checked {
        name: String,
        failure: Option<String>,
        counted: Counted,
        milliseconds: u64,
    },
    Done,
}

/// What a check has counted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counted {
    programs: u32,
    verified: u32,
    packets: u64,
}

/// What became of a kernel.
pub(super) struct Report {
    package: String,
    outcome: Result<Vec<Finding>>,
    took: Duration,
}

impl Report {
    pub(super) fn new(kernel: &Kernel, outcome: Result<Vec<Finding>>, took: Duration) -> Self {
        let report = Self {
            package: kernel.package.clone(),
            outcome,
            took,
        };
        report.say_checks();
        report
    }

    /// Whether every check has passed, and all have run.
    pub(super) fn passed(&self) -> bool {
        let Ok(findings) = &self.outcome else {
            return false;
        };
        let checks = checks(findings);
        let done = matches!(findings.last(), Some(Finding::Done));
        done && !checks.is_empty() && checks.iter().all(|check| check.1.is_none())
    }

    fn say_checks(&self) {
        for finding in self.outcome.iter().flatten() {
            if let Finding::Checked {
                name,
                failure,
                milliseconds,
                ..
            } = finding
            {
                let seconds = Duration::from_millis(*milliseconds).as_secs_f64();
                match failure {
                    None => eprintln!("  passed  {name} ({seconds:.1} s)"),
                    Some(failure) => eprintln!("  FAILED  {name} ({seconds:.1} s): {failure}"),
                }
            }
        }
    }
}

/// Name and failure of each check.
fn checks(findings: &[Finding]) -> Vec<(&str, Option<&str>, Counted)> {
    findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Checked {
                name,
                failure,
                counted,
                ..
            } => Some((name.as_str(), failure.as_deref(), *counted)),
            Finding::Booted { .. } | Finding::Done => None,
        })
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed() { "passed" } else { "FAILED" };
        let findings = match &self.outcome {
            Ok(findings) => findings,
            Err(error) => return write!(f, "{}: {result}: {error:#}", self.package),
        };
        let release = findings.iter().find_map(|finding| match finding {
            Finding::Booted { release } => Some(release.as_str()),
            Finding::Checked { .. } | Finding::Done => None,
        });
        let checks = checks(findings);
        let well = checks.iter().filter(|check| check.1.is_none()).count();
        let programs: u32 = checks.iter().map(|check| check.2.programs).sum();
        let verified = checks.iter().map(|check| check.2.verified).max();
        let packets: u64 = checks.iter().map(|check| check.2.packets).sum();
        let stopped = match findings.last() {
            Some(Finding::Done) => "",
            _ => ", and then it stopped",
        };
        write!(
            f,
            "{}: {programs} programs loaded, at most {} instructions verified; {packets} packets \
             forwarded; {well} of {} checks passed{stopped}; {result} ({:.0} s)",
            release.unwrap_or(&self.package),
            verified.unwrap_or(0),
            checks.len(),
            self.took.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let findings = lines.iter().map(|line| serde_json::from_str(line).unwrap());
        let kernel = Kernel {
            package: "linux-image-6.1.0-56-amd64".to_owned(),
        };
        Report::new(&kernel, Ok(findings.collect()), Duration::from_secs(95))
    }

    const BOOTED: &str = r#"{"kind":"booted","release":"6.1.0-56-amd64"}"#;
    const LOADED: &str = r#"{"kind":"checked","name":"load","failure":null,"milliseconds":1,
        "counted":{"programs":9,"verified":7819,"packets":0}}"#;
    const FORWARDED: &str = r#"{"kind":"checked","name":"dnat","failure":null,"milliseconds":1,
        "counted":{"programs":0,"verified":0,"packets":120}}"#;
    const FAILED: &str = r#"{"kind":"checked","name":"ipip","failure":"no answer",
        "milliseconds":1,"counted":{"programs":0,"verified":0,"packets":0}}"#;
    const DONE: &str = r#"{"kind":"done"}"#;

    #[test]
    fn a_kernel_has_a_line() {
        let report = report(&[BOOTED, LOADED, FORWARDED, DONE]);
        assert!(report.passed());
        assert_eq!(
            report.to_string(),
            "6.1.0-56-amd64: 9 programs loaded, at most 7819 instructions verified; 120 packets \
             forwarded; 2 of 2 checks passed; passed (95 s)"
        );
    }

    #[test]
    fn one_failed_check_fails_the_kernel() {
        let report = report(&[BOOTED, LOADED, FAILED, DONE]);
        assert!(!report.passed());
        assert!(report.to_string().contains("1 of 2 checks passed; FAILED"));
    }

    #[test]
    fn a_kernel_that_stops_or_checks_nothing_has_failed() {
        assert!(!report(&[BOOTED, LOADED]).passed());
        assert!(!report(&[BOOTED, DONE]).passed());
    }

    #[test]
    fn a_kernel_that_was_not_booted_has_failed() {
        let kernel = Kernel {
            package: "linux-image-6.1.0-56-amd64".to_owned(),
        };
        let outcome = Err(anyhow::anyhow!("user space was not reached"));
        let report = Report::new(&kernel, outcome, Duration::ZERO);
        assert!(!report.passed());
        let line = "linux-image-6.1.0-56-amd64: FAILED: user space was not reached";
        assert_eq!(report.to_string(), line);
    }
}
