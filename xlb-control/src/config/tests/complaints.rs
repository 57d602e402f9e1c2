//! Every complaint has a row: what is written, what is said about it, and where.

mod dataplane;
mod decapsulation;
mod fragments;
mod local;
mod nat;
mod policy;
mod pool;
mod sctp;
mod second_chance;
mod service;
mod warnings;
mod whole;
mod wide;

use super::refused;
use crate::config::{Diagnostics, Severity};

/// What is written, what is said, line and column, what to do about it.
type Row<'a> = (&'a str, &'a str, (usize, usize), &'a str);

/// Looks a complaint up; the message in full, of the help a part.
fn expect(found: &Diagnostics, severity: Severity, row: Row<'_>) {
    let (text, message, place, help) = row;
    let is_it = found.iter().any(|diagnostic| {
        diagnostic.severity == severity
            && diagnostic.message == message
            && (diagnostic.line, diagnostic.column) == place
            && diagnostic
                .help
                .as_deref()
                .is_some_and(|it| it.contains(help))
    });
    assert!(
        is_it,
        "of\n{text}\nexpected {place:?} {message} ({help}), found\n{found}"
    );
}

/// Each row is a whole file.
fn files_are_refused(rows: &[Row<'_>]) {
    for &row in rows {
        expect(&refused(row.0), Severity::Error, row);
    }
}
