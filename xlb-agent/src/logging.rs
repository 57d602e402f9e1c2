//! The agent's log: on stderr, for people or for machines.

use std::io;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Names what is logged, in the syntax of `RUST_LOG`: `info`, `xlb_agent=debug,warn`.
pub const FILTER_VARIABLE: &str = "XLB_LOG";

const DEFAULT_FILTER: &str = "info";

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

/// Sends the events of this process to stderr from now on.
///
/// # Errors
/// When [`FILTER_VARIABLE`] can't be read as a filter, or when the process logs already.
pub fn init(format: LogFormat) -> anyhow::Result<()> {
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Human => builder.with_ansi(colours_on(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("start the log: {error}"))
}

fn filter(text: Option<&str>) -> anyhow::Result<EnvFilter> {
    let text = text.filter(|t| !t.is_empty()).unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse(text)
        .with_context(|| format!("read {FILTER_VARIABLE}=`{text}` as a log filter"))
}

/// Whether what goes to a stream may have colours: they are for people at a terminal who have not
/// declined them (no-color.org).
pub fn colours_on(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_or_empty_filter_is_the_default() {
        assert_eq!(filter(None).unwrap().to_string(), DEFAULT_FILTER);
        assert_eq!(filter(Some("")).unwrap().to_string(), DEFAULT_FILTER);
        assert_eq!(filter(Some("warn")).unwrap().to_string(), "warn");
    }

    #[test]
    fn a_broken_filter_names_the_variable() {
        let error = filter(Some("xlb_agent=loud")).unwrap_err();
        assert!(error.to_string().contains("XLB_LOG=`xlb_agent=loud`"));
    }
}
