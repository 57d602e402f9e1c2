//! Errors of the TOML parser.

use super::complaints::Complaints;
use crate::config::Diagnostics;

/// Syntax errors that are shown: one mistake, such as a bracket that is missing, makes many.
const MAX_SHOWN: usize = 10;

/// Complains about syntax errors, the first of each line.
pub(super) fn complain(faults: &[toml::de::Error], out: &mut Complaints<'_>) {
    let mut last_line = 0;
    let mut shown = 0;
    let mut faults: Vec<_> = faults
        .iter()
        .map(|fault| (fault.span().unwrap_or(0..0), fault.message()))
        .collect();
    faults.sort_by_key(|(span, _)| span.start);
    for (span, message) in faults {
        let line = out.line(&span);
        if line == last_line || shown == MAX_SHOWN {
            continue;
        }
        last_line = line;
        shown += 1;
        let (message, help) = explain(message, out.source(&span));
        out.error(span, message, help);
    }
}

/// The parser's words, and what they mean for a few common mistakes.
fn explain(message: &str, source: &str) -> (String, Option<String>) {
    match message {
        "duplicate key" => (
            format!("`{source}` is set twice"),
            Some("remove one; tables that repeat are written in double brackets, `[[pool]]` and `[[service]]`".to_owned()),
        ),
        "missing comma between array elements, expected `,`" => (
            "the array is not closed, or a comma is missing".to_owned(),
            Some("put a `,` between two values, and a `]` behind the last".to_owned()),
        ),
        "string values must be quoted, expected literal string" => (
            "a value is missing, or has no quotes".to_owned(),
            Some("put strings in double quotes: `mode = \"auto\"`".to_owned()),
        ),
        _other => (message.to_owned(), None),
    }
}

/// Complains about a file that is not text.
pub(in crate::config) fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> Diagnostics {
    let at = error.utf8_error().valid_up_to();
    // What comes before the fault is the same in both, so the place is too.
    let text = String::from_utf8_lossy(error.as_bytes());
    let mut out = Complaints::new(file, &text);
    out.error(
        at..at + 1,
        "the file is not UTF-8 here",
        "save it as UTF-8; TOML knows no other encoding".to_owned(),
    );
    out.finish()
}
