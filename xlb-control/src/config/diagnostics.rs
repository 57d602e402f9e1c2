//! Complaints about a configuration file, and how they are printed.

use std::{fmt, ops::Range, sync::Arc};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Lines of the file that one diagnostic shows.
const MAX_LINES: usize = 6;

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is taken, and may not do what was meant.
    Warning,
}

/// One complaint about a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Name of the file, as it was given.
    pub file: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The lines around the place, and the part of them that is meant, in bytes.
    excerpt: String,
    marked: Range<usize>,
}

/// All complaints about a file, in the order of their places. Prints each as
/// `FILE:LINE:COL: error: message`, the text that is meant, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(super) fn new(file: &str, text: &str, mut complaints: Vec<Complaint>) -> Self {
        complaints.sort_by_key(|complaint| (complaint.span.start, complaint.severity));
        let lines = LineIndex::new(text);
        let file = Arc::<str>::from(file);
        Self {
            list: complaints
                .into_iter()
                .map(|complaint| complaint.place(&file, &lines))
                .collect(),
        }
    }

    /// The complaints.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is nothing to complain about.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many of them are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.list
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count()
    }

    /// As text, with the terminal's colours or without.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let texts: Vec<String> = self
            .list
            .iter()
            .map(|diagnostic| diagnostic.render(colours))
            .collect();
        texts.join("\n\n")
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    /// As text, with the terminal's colours or without.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let (word, level, colour) = match self.severity {
            Severity::Error => ("error", Level::ERROR, "\u{1b}[1;31m"),
            Severity::Warning => ("warning", Level::WARNING, "\u{1b}[1;33m"),
        };
        let place = format!("{}:{}:{}", printable(&self.file), self.line, self.column);
        let message = printable(&self.message);
        // The first line is what editors and CI systems look for, so it has the form of a
        // compiler's; the crate's own form has the place in a line below the message.
        let (first, renderer) = if colours {
            let first = format!(
                "\u{1b}[1m{place}:\u{1b}[0m {colour}{word}\u{1b}[0m\u{1b}[1m: {message}\u{1b}[0m"
            );
            (first, Renderer::styled())
        } else {
            (format!("{place}: {word}: {message}"), Renderer::plain())
        };
        let snippet = Snippet::source(self.excerpt.as_str())
            .line_start(self.line)
            .annotation(AnnotationKind::Primary.span(self.marked.clone()));
        let group = Group::with_level(level).element(snippet).elements(
            self.help
                .as_deref()
                .map(|help| Level::HELP.message(printable(help))),
        );
        format!("{first}\n{}", renderer.render(&[group]))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Control characters from the file must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A complaint before its place has been looked up in the text.
#[derive(Debug)]
pub(super) struct Complaint {
    pub(super) severity: Severity,
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Complaint {
    fn place(self, file: &Arc<str>, lines: &LineIndex<'_>) -> Diagnostic {
        let (line, column) = lines.position(self.span.start);
        let (excerpt, marked) = lines.excerpt(&self.span);
        Diagnostic {
            file: Arc::clone(file),
            severity: self.severity,
            line,
            column,
            message: self.message,
            help: self.help,
            excerpt,
            marked,
        }
    }
}

/// Where the lines of a text begin.
pub(super) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.clamp(byte);
        let line = self.line_of(byte);
        let before = &self.text[self.starts[line]..byte];
        (line + 1, before.chars().count() + 1)
    }

    /// The lines of a span, at most [`MAX_LINES`], and the span within them.
    fn excerpt(&self, span: &Range<usize>) -> (String, Range<usize>) {
        let start = self.clamp(span.start);
        let first = self.line_of(start);
        let last = self
            .line_of(self.clamp(span.end.max(start)))
            .min(first + MAX_LINES - 1);
        let from = self.starts[first];
        let to = self
            .starts
            .get(last + 1)
            .map_or(self.text.len(), |next| next - 1);
        let to = to.max(start);
        let end = self.clamp(span.end).clamp(start, to);
        (self.text[from..to].to_owned(), start - from..end - from)
    }

    fn line_of(&self, byte: usize) -> usize {
        self.starts.partition_point(|&start| start <= byte) - 1
    }

    fn clamp(&self, byte: usize) -> usize {
        self.text.floor_char_boundary(byte.min(self.text.len()))
    }
}
