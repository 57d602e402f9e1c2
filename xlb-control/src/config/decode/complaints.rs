//! The list that every step of the decoder adds its complaints to.

use std::ops::Range;

use crate::config::diagnostics::{Complaint, Diagnostics, LineIndex, Severity};

/// Complaints about one file, as they are found.
pub(super) struct Complaints<'a> {
    file: &'a str,
    text: &'a str,
    lines: LineIndex<'a>,
    found: Vec<Complaint>,
}

impl<'a> Complaints<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            lines: LineIndex::new(text),
            found: Vec::new(),
        }
    }

    /// Refuses the file for what stands at a place, and says what to do about it.
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.add(Severity::Error, span, message.into(), help.into());
    }

    /// Warns of what stands at a place.
    pub(super) fn warning(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.add(Severity::Warning, span, message.into(), help.into());
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        self.found.push(Complaint {
            severity,
            span,
            message,
            help,
        });
    }

    /// A place as `FILE:LINE:COL`, for a complaint that names a second one.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let (line, column) = self.lines.position(span.start);
        format!("{}:{line}:{column}", self.file)
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.position(span.start).0
    }

    /// What stands at a place.
    pub(super) fn source(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found
            .iter()
            .any(|complaint| complaint.severity == Severity::Error)
    }

    pub(super) fn finish(self) -> Diagnostics {
        Diagnostics::new(self.file, self.text, self.found)
    }
}
