//! What goes to stdout.

use std::io::{self, Write};

use serde::Serialize;
use xlb_control::api::Changed;

use super::{args::Output, tables::Style};
use crate::logging::colours_on;

/// Prints a value as JSON or YAML, or as the text that `table` makes of it.
pub(super) fn answer<T: Serialize + ?Sized>(
    output: Output,
    value: &T,
    table: impl FnOnce(&T, Style) -> String,
) -> anyhow::Result<()> {
    let text = match output {
        Output::Table | Output::Wide => table(value, style(output)),
        Output::Json => serde_json::to_string_pretty(value)? + "\n",
        Output::Yaml => serde_norway::to_string(value)?,
    };
    text_out(&text)
}

/// Writes a text to stdout.
pub(super) fn text_out(text: &str) -> anyhow::Result<()> {
    // Not println!, which panics when the reader has gone.
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// How tables look on stdout.
fn style(output: Output) -> Style {
    Style {
        is_wide: output == Output::Wide,
        has_colours: colours_on(&io::stdout()),
    }
}

/// Prints what a change has done. Warnings go to stderr where stdout is for people.
pub(super) fn changed(output: Output, changed: &Changed) -> anyhow::Result<()> {
    answer(output, changed, |changed, _| lines(&changed.done))?;
    if output.is_for_people() {
        for warning in &changed.warnings {
            eprintln!("warning: {warning}");
        }
    }
    Ok(())
}

fn lines(done: &[String]) -> String {
    if done.is_empty() {
        return "nothing to change\n".to_owned();
    }
    done.iter().map(|line| format!("{line}\n")).collect()
}

/// Prints the version of this program.
pub(super) fn version(output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Version {
        version: &'static str,
    }
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
    };
    answer(output, &version, |v, _| {
        format!("xlb-agent {}\n", v.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line_each() {
        let done = ["pool web: added 10.0.1.7:8080".to_owned(), "b".to_owned()];
        assert_eq!(lines(&done), "pool web: added 10.0.1.7:8080\nb\n");
        assert_eq!(lines(&[]), "nothing to change\n");
    }
}
