//! `check`: a configuration file is read as the agent reads it, without an agent.

use std::{io, path::Path};

use serde::Serialize;
use xlb_control::config::{Config, ConfigError, Diagnostics, Loaded, Severity};

use super::{Exit, args::Output, print};
use crate::logging::colours_on;

pub(super) fn check(file: &Path, output: Output) -> anyhow::Result<Exit> {
    let result = Config::load(file);
    match output {
        Output::Json | Output::Yaml => {
            print::answer(output, &verdict(&result), |_, _| String::new())?;
        }
        Output::Table | Output::Wide => match &result {
            Ok(loaded) => {
                print::answer(output, &(), |(), _| summary(file, &loaded.config))?;
                complain(&loaded.warnings);
            }
            Err(error) => complain_of(error),
        },
    }
    Ok(match result {
        Ok(_) => Exit::Well,
        Err(_) => Exit::NotWell,
    })
}

/// Says on stderr why there is no configuration, each complaint with its place.
pub(super) fn complain_of(error: &ConfigError) {
    match error {
        ConfigError::Invalid(errors) => complain(errors),
        ConfigError::Read { .. } | ConfigError::TooLarge { .. } => eprintln!("error: {error}"),
    }
}

fn complain(diagnostics: &Diagnostics) {
    if !diagnostics.is_empty() {
        eprintln!("{}", diagnostics.render(colours_on(&io::stderr())));
    }
}

fn summary(file: &Path, config: &Config) -> String {
    format!(
        "{}: {}, {}, {}\n",
        file.display(),
        counted(config.services.len(), "service"),
        counted(config.pools.len(), "pool"),
        counted(backends(config), "backend"),
    )
}

fn backends(config: &Config) -> usize {
    config.pools.values().map(|pool| pool.backends.len()).sum()
}

fn counted(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// What `check` found, as JSON has it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Verdict<'a> {
    ok: bool,
    services: usize,
    pools: usize,
    backends: usize,
    /// Why the file could not be read at all.
    error: Option<String>,
    diagnostics: Vec<Complaint<'a>>,
}

/// One complaint about a place in the file.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Complaint<'a> {
    severity: &'static str,
    line: usize,
    column: usize,
    message: &'a str,
    help: Option<&'a str>,
}

fn verdict(result: &Result<Loaded, ConfigError>) -> Verdict<'_> {
    let refused = |error, diagnostics| Verdict {
        ok: false,
        services: 0,
        pools: 0,
        backends: 0,
        error,
        diagnostics,
    };
    match result {
        Ok(Loaded { config, warnings }) => Verdict {
            ok: true,
            services: config.services.len(),
            pools: config.pools.len(),
            backends: backends(config),
            error: None,
            diagnostics: complaints(warnings),
        },
        Err(ConfigError::Invalid(errors)) => refused(None, complaints(errors)),
        Err(error @ (ConfigError::Read { .. } | ConfigError::TooLarge { .. })) => {
            refused(Some(error.to_string()), Vec::new())
        }
    }
}

fn complaints(diagnostics: &Diagnostics) -> Vec<Complaint<'_>> {
    diagnostics
        .iter()
        .map(|diagnostic| Complaint {
            severity: match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            line: diagnostic.line,
            column: diagnostic.column,
            message: &diagnostic.message,
            help: diagnostic.help.as_deref(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[dataplane]
interfaces = ["eth0"]

[[pool]]
name = "web"
backends = [{ address = "10.0.1.7", port = 8080 }, { address = "10.0.1.8", port = 8080 }]

[[service]]
name = "web"
vip = "192.0.2.10"
port = 443
protocol = "tcp"
forward = "dnat"
pool = "web"
"#;

    fn parse(text: &str) -> Result<Loaded, ConfigError> {
        Config::parse("xlb.toml", text).map_err(ConfigError::Invalid)
    }

    #[test]
    fn a_good_file_is_one_line() {
        let loaded = parse(GOOD).unwrap();
        assert_eq!(
            summary(Path::new("xlb.toml"), &loaded.config),
            "xlb.toml: 1 service, 1 pool, 2 backends\n"
        );
        let result = Ok(loaded);
        let verdict = verdict(&result);
        assert!(verdict.ok);
        assert_eq!(verdict.backends, 2);
    }

    #[test]
    fn a_bad_file_is_refused_with_every_place() {
        let result = parse(&GOOD.replace("8080", "0"));
        let verdict = verdict(&result);
        assert!(!verdict.ok);
        let errors: Vec<usize> = verdict
            .diagnostics
            .iter()
            .filter(|complaint| complaint.severity == "error")
            .map(|complaint| complaint.line)
            .collect();
        assert_eq!(errors, [7, 7], "{verdict:?}");
    }

    #[test]
    fn a_file_that_is_missing_has_no_places() {
        let result = Config::load(Path::new("/nonexistent/xlb.toml"));
        let verdict = verdict(&result);
        assert!(!verdict.ok && verdict.diagnostics.is_empty());
        assert!(verdict.error.unwrap().contains("/nonexistent/xlb.toml"));
        assert_eq!(
            check(Path::new("/nonexistent/xlb.toml"), Output::Table).unwrap(),
            Exit::NotWell
        );
    }
}
